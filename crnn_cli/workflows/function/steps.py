"""Steps of `crnn function`: plan, prepare, read, compute, save.

The command takes the steps in a row for one heart; `crnn batch` takes them for many, some at the same time (see
`crnn_cli.workflows.batch.items.BatchCommand`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.workflows.function.measure import MeasuredFunction, measure_source, require_every_number
from crnn_cli.workflows.function.options import FunctionOptions, check_options, check_paths
from crnn_cli.workflows.function.source import FunctionSource, read_source
from crnn_cli.workflows.function.write import save as write

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.workflows.segment.engine import SegmentEngine

READS_RAW, READS_LABELS = False, True
OUTPUTS: tuple[str, ...] = ("csv", "plot", "page", "sr")
"""Options that name outputs beside the report."""
INPUTS: tuple[str, ...] = ("image", "runs")
"""Options that name inputs beside the source."""
_ENDING = "_function.json"


@dataclass(frozen=True)
class FunctionPlan:
    """A heart that is to be measured: where it is, and how."""

    path: Path
    options: FunctionOptions


@dataclass(frozen=True)
class FunctionEngine:
    """The model that labels cines; it is loaded when the first cine comes, as label maps need none."""

    options: FunctionOptions

    @cached_property
    def bundle(self) -> Bundle:
        """The model as it lies on the disk."""
        from crnn_cli.bundles.store import DEFAULT_MODELS, find_bundle

        return find_bundle(self.options.model or DEFAULT_MODELS["segment"], "segment")

    @property
    def weights(self) -> str | None:
        """Hash (sha256) of the weights."""
        return self.bundle.sha256

    @cached_property
    def labeller(self) -> SegmentEngine:
        """The model on its device."""
        from crnn_cli.workflows.function.cine import prepare_labeller

        return prepare_labeller(self.options)


def output_name(stem: str, options: FunctionOptions) -> str:
    """Name of the report of a heart called ``stem``."""
    del options
    return f"{stem}{_ENDING}"


def case_of(target: Path) -> str:
    """Name of the heart whose report is called so, the inverse of `output_name`.

    >>> case_of(Path("results/anna_labels_function.json"))
    'anna_labels'
    """
    return target.name.removesuffix(_ENDING)


def plan(path: Path, options: FunctionOptions, as_json: bool = False) -> FunctionPlan:
    """Check that the source is there, the options agree, and every output can be written.

    Raises
    ------
    UsageError, UnreadableError, OutputError
        See `check_options` and `check_paths`.
    """
    check_options(options)
    check_paths(path, options, as_json)
    return FunctionPlan(path, options)


def prepare(options: FunctionOptions) -> FunctionEngine:
    """Find the model.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        If there is no such model, or it is not for segmentation.
    """
    engine = FunctionEngine(options)
    _ = engine.bundle
    return engine


def read(planned: FunctionPlan, engine: FunctionEngine) -> FunctionSource:
    """Read the label map or the cine; errors as of `read_source`."""
    del engine
    return read_source(planned.path, planned.options)


def compute(
    planned: FunctionPlan, engine: FunctionEngine, data: FunctionSource, progress: notices.Progress
) -> MeasuredFunction:
    """Measure the heart; a cine is labelled first. Errors as of `measure_source`."""
    return measure_source(data, planned.options, progress, lambda: engine.labeller)


def save(planned: FunctionPlan, run: MeasuredFunction) -> dict[str, Any]:
    """Write what was asked for, all or nothing; the report comes back as it was written."""
    name = "standard input" if planned.path == notices.STREAM else str(planned.path)
    return write(run, name, planned.options)


def check_threshold(planned: FunctionPlan, report: dict[str, Any]) -> None:
    """Check that no number was refused, where doubts count as errors; see `require_every_number`.

    Raises
    ------
    QualityError
        If one was.
    """
    del planned
    require_every_number(report)

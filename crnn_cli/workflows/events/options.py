"""Options of `crnn events`, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crnn_cli.errors import Param, UsageError
from crnn_cli.notices import STREAM

OUTPUTS = ("out", "csv", "plot", "exclude")
"""Options that name outputs."""


@dataclass(frozen=True)
class EventsOptions:
    """How events are found; see the help of `crnn events`.

    threshold : surprise; None for the default. whole_beats : leave out whole beats. exclude : the series without the
    events.
    """

    threshold: float | None = None
    whole_beats: bool = False
    axes: str | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    model: str | None = None
    device: str = "auto"
    out: Path | None = None
    csv: Path | None = None
    plot: Path | None = None
    exclude: Path | None = None
    force: bool = False


def check_options(options: EventsOptions) -> None:
    """Check options against each other.

    Raises
    ------
    UsageError
        If they cannot be.
    """
    if options.threshold is not None and not 1 <= options.threshold <= 1000:
        raise UsageError(Param("threshold", options.threshold), " cannot be: from 1 to 1000 deviations")
    if options.whole_beats and options.exclude is None:
        raise UsageError(Param("whole_beats"), " belongs to ", Param("exclude"), ": it says what is left out")


def check_paths(source: Path, options: EventsOptions) -> None:
    """Check that the source is there, and every output can be written.

    Raises
    ------
    UsageError, UnreadableError, OutputError
        If not.
    """
    from crnn_cli.io.atomic_write import require_writable
    from crnn_cli.io.formats import NIFTI, require_output_name
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.sidecar import require_apart, require_report_writable, sidecar_path

    require_readable(source)
    targets = [getattr(options, name) for name in OUTPUTS]
    if STREAM in targets:
        raise UsageError("outputs are files: name them", remedy=("print the report with ", Param("as_json")))
    beside = None if options.exclude is None else sidecar_path(options.exclude)
    require_apart([source], [*targets, beside])
    for target, suffix, what in (
        (options.out, ".json", "the report is JSON"), (options.csv, ".csv", "the table is CSV"),
        (options.plot, ".png", "the plot is a PNG picture"),
    ):  # fmt: skip
        if target is not None and target.suffix.lower() != suffix:
            raise UsageError(f"cannot write {target}: {what}; give a name that ends in {suffix}")
    if options.exclude is not None:
        require_output_name(options.exclude, NIFTI)
        require_report_writable(options.exclude, options.force)
    if options.out is not None:
        require_report_writable(options.out, options.force)
    for target in (options.csv, options.plot, options.exclude):
        if target is not None:
            require_writable(target, options.force)

"""Steps of `crnn segment`: plan, prepare, read, compute, save; and the same for an image in memory, `segment_image`.

The command takes the steps in a row for one volume; `crnn batch` takes them for many, some at the same time (see
`crnn_cli.workflows.batch.items.BatchCommand`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, QualityError
from crnn_cli.workflows.segment.admission import require_image
from crnn_cli.workflows.segment.drawn.request import check_drawn
from crnn_cli.workflows.segment.engine import SegmentEngine
from crnn_cli.workflows.segment.engine import prepare as prepare_model
from crnn_cli.workflows.segment.options import SegmentOptions, Span, check_options
from crnn_cli.workflows.segment.paths import SegmentPaths, plan_paths, require_writable_all, seg_algorithm
from crnn_cli.workflows.segment.quality import has_passed, quality_doubts
from crnn_cli.workflows.segment.report import segmentation_report
from crnn_cli.workflows.segment.result import LabelledVolume, SegmentationRun, SegmentFileRun
from crnn_cli.workflows.segment.spacing import parse_spacing, with_spacing
from crnn_cli.workflows.segment.volume import Volume, check_image, input_name, order_slices, read_image

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.workflows.segment.drawn.engine import DrawnEngine
    from crnn_cli.workflows.segment.drawn.result import DrawnRun
    from crnn_cli.workflows.segment.drawn.steps import DrawnVolume

    Engine = SegmentEngine | DrawnEngine

__all__ = [
    "INPUTS",
    "OUTPUTS",
    "READS_LABELS",
    "READS_RAW",
    "SegmentOptions",
    "SegmentPlan",
    "SegmentVolume",
    "check_threshold",
    "compute",
    "output_name",
    "plan",
    "prepare",
    "read",
    "save",
    "segment_image",
    "table_rows",
]
READS_RAW, READS_LABELS = False, False
OUTPUTS: tuple[str, ...] = ("probabilities", "statistics", "preview", "save_adapted")
INPUTS: tuple[str, ...] = ("drawn",)


@dataclass(frozen=True)
class SegmentPlan:
    """The file to be segmented, how it is to be sliced, and where the results go.

    Parameters
    ----------
    plane, span : as `crnn_cli.workflows.segment.options.parse_slices` returns them.
    """

    path: Path
    plane: str | None
    span: Span | None
    paths: SegmentPaths
    options: SegmentOptions

    @property
    def target(self) -> Path:
        """Where the labels go."""
        return self.paths.labels

    @property
    def outputs(self) -> list[Path]:
        """Every file that is written, as far as known before the model is loaded; the labels first."""
        return self.paths.all()


@dataclass(frozen=True)
class SegmentVolume:
    """A volume that was read from a file, and where its results go.

    The paths are those of the plan, for a DICOM SEG with the file of each frame.
    """

    volume: Volume
    paths: SegmentPaths

    @property
    def source(self) -> dict[str, Any]:
        """What the report says of the file."""
        return self.volume.source


def segment_image(
    image: Image,
    options: SegmentOptions | None = None,
    engine: SegmentEngine | None = None,
    *,
    name: str = "the image",
    keep_probabilities: bool = False,
    progress: notices.Progress = lambda done, total: None,
) -> SegmentationRun:
    """Segment an image in memory slice by slice, as `crnn segment` does. No file is touched.

    Parameters
    ----------
    image : (x, y, z) or (x, y, z, t), its axes at right angles; of a complex one the magnitude is used.
    options : ``slices``, ``spacing``, ``model``, ``device``, ``labels``, ``threshold``, ``keep_largest``,
        ``frame_by_frame`` and ``precision`` count.
    engine : a model that is loaded already by `prepare`; then ``model``, ``device`` and ``labels`` do not count.
    name : of the image, in messages.
    keep_probabilities : keep class probabilities, float32, of all classes: 4 bytes a voxel and class.
    progress : called with (steps done, steps in all).

    Returns
    -------
    Label map (``.labels``), report (``.report``), and probabilities where kept.

    Raises
    ------
    UsageError, UnsupportedDataError, UnreadableError, DeviceError
        See `check_options`, `check_image`, `order_slices` and `prepare`.
    """
    options = options or SegmentOptions()
    plane, span = check_options(options)
    check_drawn(options)
    require_image(image.array, hasattr(image, "labels"), name)
    image = with_spacing(check_image(image, name), parse_spacing(options.spacing), name)
    engine = engine or prepare_model(options)
    volume = order_slices(image, plane, span, engine, name=name)
    return _segment(volume, options, engine, keep_probabilities, progress)


def output_name(stem: str, options: SegmentOptions) -> str:
    """Name of the label map of a volume called ``stem``; of DICOM SEG a folder, which keeps those of cines apart."""
    return f"{stem}_labels" if options.format_name == "dicom" else f"{stem}_labels.nii.gz"


def plan(volume: Path, options: SegmentOptions, as_json: bool = False) -> SegmentPlan:
    """Check that the volume is there, the options agree, and everything can be written.

    Raises
    ------
    UsageError, UnreadableError, OutputError
        See `check_options` and `plan_paths`.
    """
    plane, span = check_options(options)
    check_drawn(options)
    return SegmentPlan(volume, plane, span, plan_paths(volume, options, as_json), options)


def prepare(options: SegmentOptions) -> Engine:
    """Load the model onto its device; where slices are drawn, the method that labels the others.

    Raises
    ------
    CrnnError
        As `crnn_cli.workflows.segment.engine.prepare` and `crnn_cli.workflows.segment.drawn.engine.prepare_drawn`.
    """
    if options.drawn is None:
        return prepare_model(options)
    from crnn_cli.workflows.segment.drawn.engine import prepare_drawn

    return prepare_drawn(options)


def read(planned: SegmentPlan, engine: Engine) -> SegmentVolume | DrawnVolume:
    """Read the volume, and order its slices for the model; where slices are drawn, read these too.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        See `read_image` and `order_slices`; a DICOM SEG needs a DICOM source with even slices.
    OutputError
        If a file of probabilities, or of a SEG, cannot be written: their names depend on model and volume.
    """
    paths, options = planned.paths, planned.options
    if not isinstance(engine, SegmentEngine):
        from crnn_cli.workflows.segment.drawn.steps import read_drawn

        return read_drawn(planned.path, paths, planned.plane, planned.span, options, engine)
    require_writable_all(planned.path, paths, options.force, engine.labels)
    image, source, series = read_image(
        planned.path, options.series, options.slice_tolerance, parse_spacing(options.spacing)
    )
    if paths.dicom:
        paths = paths.of_series(image, series, seg_algorithm(engine.bundle), engine.labels)
        require_writable_all(planned.path, paths, options.force, engine.labels)
    volume = order_slices(image, planned.plane, planned.span, engine, series, input_name(planned.path))
    return SegmentVolume(replace(volume, source=source), paths)


def compute(
    planned: SegmentPlan, engine: Engine, data: SegmentVolume | DrawnVolume, progress: notices.Progress
) -> SegmentFileRun | DrawnRun:
    """Label the volume; labels and probabilities are on its own grid."""
    options = planned.options
    if not isinstance(engine, SegmentEngine):
        from crnn_cli.workflows.segment.drawn.steps import DrawnVolume, compute_drawn

        assert isinstance(data, DrawnVolume)  # of the same plan
        return compute_drawn(options, engine, data, progress)
    assert isinstance(data, SegmentVolume)
    run = _segment(data.volume, options, engine, options.probabilities is not None, progress)
    return SegmentFileRun(run.labelled, run.report, data.paths)


def save(planned: SegmentPlan, run: SegmentFileRun | DrawnRun) -> dict[str, Any]:
    """Write the labels, the report, and what was asked for beside them: all or nothing.

    Returns
    -------
    The report as written; see `crnn_cli.workflows.segment.write.save`.
    """
    from crnn_cli.workflows.segment.drawn.write import save_drawn
    from crnn_cli.workflows.segment.write import save as write

    if not isinstance(run, SegmentFileRun):
        return save_drawn(run, planned.options.force)
    return write(run, planned.options.force)


def table_rows(run: SegmentFileRun | DrawnRun, report: dict[str, Any]) -> list[list[str]]:
    """Rows (name, value) of the table at the end of a run."""
    from crnn_cli.report.drawn_rows import drawn_rows
    from crnn_cli.report.rows import segmentation_rows

    assert run.paths is not None  # of a file
    if not isinstance(run, SegmentFileRun):
        return drawn_rows(run.paths.labels, report, run.paths.all(run.result.labels))
    return segmentation_rows(run.paths.labels, report, run.paths.all(run.labelled.labels))


def check_threshold(planned: SegmentPlan, report: dict[str, Any]) -> None:
    """Check that something was labelled, and that it is good enough, where that is asked for.

    Raises
    ------
    QualityError
        If labels are required, and there are none; or if a predicted Dice is below the one required.
    """
    options = planned.options
    if options.require_labels and not any(any(label["voxels"]) for label in report["labels"]):
        raise QualityError("nothing was labelled, and ", Param("require_labels"), " was given")
    if options.require_quality is None or report["quality"] is None:
        return
    lowest = report["quality"]["lowest"]
    if lowest["predicted_dice"] < options.require_quality:
        raise QualityError(
            f"the predicted Dice of {lowest['label']} in frame {lowest['frame'] + 1} is "
            f"{lowest['predicted_dice']:.2f}, below ",
            Param("require_quality", options.require_quality),
        )


def _segment(
    volume: Volume, options: SegmentOptions, engine: SegmentEngine, keep_probabilities: bool, progress: notices.Progress
) -> SegmentationRun:
    """Run the network over a volume and sum up what came of it."""
    from crnn_cli.compute.threads import thread_count
    from crnn_cli.segmentation.frames import frame_window
    from crnn_cli.segmentation.preprocessing import SlicePreprocessing
    from crnn_cli.segmentation.segment import segment

    fed = engine.slice_input
    preprocessing = SlicePreprocessing(fed.spacing, fed.rule, fed.low, fed.high)
    began = time.perf_counter()
    window = frame_window(volume.image, None if options.frame_by_frame else fed.smooth_frames)
    result = segment(
        volume.image, volume.order, engine.network, preprocessing, engine.device,
        threshold=options.threshold, span=volume.span, window=window, keep_within=fed.keep_within,
        class_weights=fed.class_weights, base_rule=fed.base_rule,
        keep_probabilities=keep_probabilities, bfloat16=options.precision == "bf16", progress=progress,
    )  # fmt: skip
    seconds = round(time.perf_counter() - began, 2)
    labelled = LabelledVolume(engine.bundle, volume, engine.labels, result).keep_asked(options.keep_largest)
    report = segmentation_report(labelled) | {
        "input": volume.source, "device": str(engine.device), "threads": thread_count(), "seconds": seconds,
        "threshold": options.threshold, "precision": options.precision or "fp32",
        "settled_with_frames": None if window is None else {"each_side": window.half, "cyclic": window.cyclic},
        "required_quality": options.require_quality, "passed": has_passed(labelled, options),
    }  # fmt: skip
    notices.tell(*(finding.doubt for finding in labelled.findings), *quality_doubts(labelled))
    if labelled.is_empty:
        notices.warn("nothing-labelled", "nothing was labelled: everything is background")
    return SegmentationRun(labelled, report | notices.recorded())

"""Steps of labels from drawn slices: read, compute; and the same for an image in memory, `label_image`.

`crnn_cli.workflows.segment.steps` takes them where drawn slices are given.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.workflows.segment.drawn.engine import DrawnEngine, prepare_drawn
from crnn_cli.workflows.segment.drawn.record import EarlierResult, earlier_result
from crnn_cli.workflows.segment.drawn.report import drawn_report
from crnn_cli.workflows.segment.drawn.request import DrawnRequest, check_drawn
from crnn_cli.workflows.segment.drawn.result import DrawnResult, DrawnRun, slices_asked_for
from crnn_cli.workflows.segment.drawn.slices import DrawnSlices, choose_axis, find_drawn
from crnn_cli.workflows.segment.drawn.source import DrawnLabels, load_drawn, place_drawn
from crnn_cli.workflows.segment.drawn.write import algorithm_of
from crnn_cli.workflows.segment.options import SegmentOptions, Span, check_options
from crnn_cli.workflows.segment.paths import SegmentPaths, require_writable_all
from crnn_cli.workflows.segment.spacing import parse_spacing, with_spacing
from crnn_cli.workflows.segment.volume import Volume, check_image, input_name, read_image, slice_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.labels.names import Label
    from crnn_cli.segmentation.drawn.series import DrawnSeries

__all__ = ["DrawnEngine", "DrawnRun", "DrawnVolume", "compute_drawn", "label_drawn", "prepare_drawn", "read_drawn"]


@dataclass(frozen=True)
class DrawnVolume:
    """A volume that was read, what is drawn in it, and where the results go.

    Attributes
    ----------
    labels : of the drawn structures, in the order of their values.
    paths : None for an image in memory.
    """

    volume: Volume
    slices: DrawnSlices
    labels: Sequence[Label]
    paths: SegmentPaths | None = None

    @property
    def source(self) -> dict[str, Any]:
        """What the report says of the files."""
        return self.volume.source


def read_drawn(
    path: Path, paths: SegmentPaths, plane: str | None, span: Span | None, options: SegmentOptions, engine: DrawnEngine
) -> DrawnVolume:
    """Read the volume and the drawn labels, and find out what is drawn.

    Raises
    ------
    UnreadableError, UnsupportedDataError, UsageError
        See `read_image`, `load_drawn`, `choose_axis` and `find_drawn`.
    OutputError
        If a file of probabilities, or of a SEG, cannot be written.
    """
    request = check_drawn(options)
    assert request is not None and options.drawn is not None  # noqa: PT018 the caller has looked
    spacing = parse_spacing(options.spacing)
    image, source, series = read_image(path, options.series, options.slice_tolerance, spacing)
    drawn = load_drawn(options.drawn, image, request.frames, spacing)
    earlier = None if request.fixed is not None else earlier_result(drawn.path, drawn.values_XYZT.shape)
    found = _found(image, drawn, (plane, span), request, earlier, series, input_name(path))
    volume = replace(found.volume, source=source | drawn.source)
    if paths.dicom:
        _require_small_values(found.labels)
        paths = paths.of_series(image, series, algorithm_of(engine), found.labels)
    require_writable_all(path, paths, options.force, found.labels)
    return replace(found, volume=volume, paths=paths)


def label_drawn(
    image: Image, drawn: Image, options: SegmentOptions, *, name: str = "the image",
    progress: notices.Progress = notices.no_progress,
) -> DrawnRun:  # fmt: skip
    """Label an image in memory from drawn slices in memory, as the command does. No file is touched.

    Parameters
    ----------
    image : (x, y, z) or (x, y, z, t), its axes at right angles; of a complex one the magnitude is used.
    drawn : labels on its grid, see `place_drawn`.
    options : ``slices``, ``spacing``, ``model``, ``device``, ``threshold``, ``precision`` and those about drawn slices;
        ``drawn`` of them only has to be set.
    progress : called with (steps done, steps in all).

    Raises
    ------
    UsageError, UnsupportedDataError, UnreadableError, DeviceError
        As of the command.
    """
    chosen = check_options(options)
    request = check_drawn(options)
    assert request is not None  # the caller has set it
    spacing = parse_spacing(options.spacing)
    labels = with_spacing(drawn, spacing[:3] if spacing else None, "the drawn labels")
    image = with_spacing(check_image(image, name), spacing, name)
    engine = prepare_drawn(options)
    placed = place_drawn(labels, image, request.frames, "the drawn labels")
    return compute_drawn(options, engine, _found(image, placed, chosen, request, None, None, name), progress)


def _found(
    image: Image, drawn: DrawnLabels, chosen: tuple[str | None, Span | None], request: DrawnRequest,
    earlier: EarlierResult | None, series: Series | None, name: str,
) -> DrawnVolume:  # fmt: skip
    """The image with its slices in order, and what is drawn in them."""
    plane, span = chosen
    order = choose_axis(drawn, image, plane, request.fixed is not None or earlier is not None, earlier)
    slices = find_drawn(drawn, order, request, earlier)
    doubts = {doubt.code for doubt in image.doubts()}
    lost = "the size of the voxels is not known" if "implausible-spacing" in doubts else None
    if lost is not None:
        notices.warn("no-volumes", f"no volumes in millilitres are stated: {lost}")
    count = image.shape[order.axes[0]]
    volume = Volume(image, order, slice_range(span, count), series=series, no_volumes=lost)
    del name
    return DrawnVolume(volume, slices, _labels_of(slices, drawn))


def _labels_of(slices: DrawnSlices, drawn: DrawnLabels) -> list[Label]:
    """Labels of the values that are drawn, with the names that are known."""
    from crnn_cli.labels.names import COLOURS, Label

    plain = {
        value: Label(value, f"label {value}", COLOURS[index % len(COLOURS)])
        for index, value in enumerate(slices.values)
    }
    return [drawn.known.get(value, plain[value]) for value in slices.values]


def _require_small_values(labels: Sequence[Label]) -> None:
    most = max(label.value for label in labels)
    if most > 255:
        raise UnsupportedDataError(
            f"the drawn label {most} does not fit a DICOM SEG, whose labels go to 255",
            remedy=("give ", Param("out", "NAME.nii.gz"), ", or renumber the labels"),
        )


def compute_drawn(
    options: SegmentOptions, engine: DrawnEngine, data: DrawnVolume, progress: notices.Progress
) -> DrawnRun:
    """Label the slices that are not drawn; tune the network to the drawn ones first where that is asked for."""
    from crnn_cli.compute.threads import thread_count
    from crnn_cli.segmentation.drawn.series import label_series
    from crnn_cli.segmentation.drawn.stack import FillSettings
    from crnn_cli.segmentation.frames import is_closed
    from crnn_cli.workflows.segment.drawn.tune import tune_to_scan

    request = check_drawn(options)
    assert request is not None
    began = time.perf_counter()
    image, series = data.volume.image, _series_of(data)
    closed = image.frames > 1 and is_closed(image.array)
    settings = FillSettings(series.structures, options.threshold, options.probabilities is not None)
    bfloat16 = options.precision == "bf16"
    tuning = None if request.tune is None else tune_to_scan(series, engine, request.tune, progress)
    method = engine.method(bfloat16) if tuning is None else engine.method(bfloat16, tuning.network, tuning.better)
    filled = label_series(series, method, settings, closed, progress)
    filled = replace(filled, numbers_TSYX=_within(filled.numbers_TSYX, data))
    result = DrawnResult(engine, data.volume, data.slices, data.labels, filled, tuning)
    report = drawn_report(result) | {
        "input": data.source, "device": str(engine.device), "threads": thread_count(),
        "seconds": round(time.perf_counter() - began, 2), "threshold": options.threshold,
        "precision": options.precision or "fp32", "closed_cycle": closed if image.frames > 1 else None,
        "passed": None,
    }  # fmt: skip
    return DrawnRun(result, report | notices.recorded(), data.paths, options.save_adapted)


def _series_of(data: DrawnVolume) -> DrawnSeries:
    """The image and the drawn structures by their numbers."""
    import numpy as np

    from crnn_cli.segmentation.drawn.series import DrawnSeries

    slices = data.slices
    table = np.zeros(int(slices.values_TSYX.max()) + 1, np.uint8)
    table[slices.values] = np.arange(1, len(slices.values) + 1)
    return DrawnSeries(data.volume.image, slices.order, table[slices.values_TSYX], slices.known_TS, len(slices.values))


def _within(numbers_TSYX: Any, data: DrawnVolume) -> Any:
    """Labels without those of slices beyond the range that was asked for; drawn slices stay."""
    import numpy as np

    kept_TS = slices_asked_for(data.volume, data.slices) | data.slices.known_TS
    return np.where(kept_TS[..., None, None], numbers_TSYX, 0).astype(np.uint8)

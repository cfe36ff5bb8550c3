"""Function of a heart from a file: a label map, or a cine that is labelled first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, QualityError, UnsupportedDataError
from crnn_cli.workflows.function.options import FunctionOptions, check_options
from crnn_cli.workflows.function.source import FunctionSource, header_of, is_label_map, read_source, refuse_runs
from crnn_cli.workflows.function.subject import with_header

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.cardiac.chambers import Chambers
    from crnn_cli.cardiac.function import CardiacFunction, Subject
    from crnn_cli.cardiac.run_spread import RunSpread
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.evidence import Evidence
    from crnn_cli.io.loaded_image import LoadedImage
    from crnn_cli.workflows.function.cine import Labeller
    from crnn_cli.workflows.function.runs import Runs

_OF_IMAGES = {"frames-out-of-order"}  # said of the images, it is not said of their labels again
_OF_LABELLING = ("model", "device", "seconds", "quality")


@dataclass(frozen=True)
class MeasuredFunction:
    """Function of a heart with its report.

    Attributes
    ----------
    function : every number.
    report : plain values: tool, input, model if one was used, and the numbers.
    labels : the label map that was measured, and ``chambers``, what its values are.
    image : the cine that was labelled; None where nothing but labels is known.
    evidence : DICOM images and segments that it was measured in, for a structured report; None where none is wanted.
    """

    function: CardiacFunction
    report: dict[str, Any]
    labels: Image
    chambers: Chambers
    image: Image | None = None
    evidence: Evidence | None = None


def measure_source(
    source: FunctionSource, options: FunctionOptions, progress: notices.Progress, labeller: Labeller | None = None
) -> MeasuredFunction:
    """Measure a label map or a cine that was read.

    Parameters
    ----------
    progress : called with (steps done, steps in all) while a cine is labelled.
    labeller : gives the model that labels a cine; None: it is loaded as the options say.

    Raises
    ------
    CrnnError
        If its values are not known to be of a heart, it cannot be labelled, or images lie on another grid.
    """
    from crnn_cli.workflows.function.structured_report import evidence_of

    chambers, subject = check_options(options)
    loaded = source.loaded
    subject = with_header(subject, header_of(source), options)
    if is_label_map(loaded, options):
        labels, image = _label_map(loaded, source.path, source.name), None
        if source.image is not None:
            labels, image = _with_images(labels, source.image, source.name)
        measured = replace(_measure_labels(labels, source.name, chambers, subject, options), image=image)
    else:
        measured = _measure_cine(loaded.image, source.name, subject, options, progress, labeller, source.runs)
    if options.sr is not None:
        measured = replace(measured, evidence=evidence_of(loaded, source.path, measured.function, measured.chambers))
    return replace(measured, report=measured.report | {"input": source.source} | notices.recorded())


def measure_file(
    source: Path, options: FunctionOptions, progress: notices.Progress, runs: Sequence[Image] | None = None
) -> MeasuredFunction:
    """Read a label map or a cine, and measure the heart; see `read_source` and `measure_source`.

    Parameters
    ----------
    runs : of the reconstruction that a cine is of, in place of a folder of them.

    Raises
    ------
    CrnnError
        As these.
    """
    from crnn_cli.workflows.function.runs import runs_in_memory

    check_options(options)
    opened = read_source(source, options)
    if runs is not None:
        refuse_runs(is_label_map(opened.loaded, options), opened.name)
        opened = replace(opened, runs=runs_in_memory(runs, opened.loaded.image))
    return measure_source(opened, options, progress)


def measure_image(
    image: Image, options: FunctionOptions, progress: notices.Progress, runs: Sequence[Image] | None = None
) -> MeasuredFunction:
    """Measure an image in memory: a label map, if it is a `LabelImage` or its values were named, else a cine.

    Parameters
    ----------
    runs : of the reconstruction that a cine is of, in place of a folder of them.

    Raises
    ------
    CrnnError
        As `measure_file`.
    """
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.workflows.function.runs import read_runs, runs_in_memory
    from crnn_cli.workflows.labels import as_label_image

    chambers, subject = check_options(options)
    name = "the image"
    if isinstance(image, LabelImage) or chambers is not None:
        refuse_runs(runs is not None or options.runs is not None, name)
        return _measure_labels(as_label_image(image, name), name, chambers, subject, options)
    kept = None if runs is None else runs_in_memory(runs, image)
    if options.runs is not None:
        kept = read_runs(options.runs, image)
    return _measure_cine(image, name, subject, options, progress, runs=kept)


def _measure_cine(
    image: Image, name: str, subject: Subject, options: FunctionOptions, progress: notices.Progress,
    labeller: Labeller | None = None, runs: Runs | None = None,
) -> MeasuredFunction:  # fmt: skip
    """Label a cine and its runs, and measure the labels."""
    from crnn_cli.cardiac.function import require_stack
    from crnn_cli.workflows.function.cine import label_cine, prepare_labeller
    from crnn_cli.workflows.function.runs import measure_runs, part_of

    require_stack(image, name)
    image.require_finite(name)
    engine = labeller() if labeller else prepare_labeller(options)
    parts = 1 if runs is None else 1 + len(runs.names)
    run = label_cine(image, name, engine, part_of(progress, 0, parts))
    unknown = run.report.get("no_volumes") or ""
    measured = _measure_labels(run.labels, name, None, subject, options, unknown, run.labelled.bundle)
    if runs is not None:
        spread = measure_runs(runs, measured.function, measured.chambers, unknown, engine, progress)
        measured = _with_runs(measured, spread)
    facts = {key: run.report[key] for key in _OF_LABELLING if key in run.report}
    return replace(measured, report=measured.report | facts | notices.recorded(), image=image)


def _with_runs(measured: MeasuredFunction, spread: RunSpread) -> MeasuredFunction:
    """The numbers with the reconstruction's part of their intervals."""
    from crnn_cli.cardiac.intervals import Intervals

    intervals = measured.function.intervals or Intervals()
    function = replace(measured.function, intervals=replace(intervals, runs=spread))
    return replace(measured, function=function, report=measured.report | function.as_json())


def _with_images(labels: Image, images: LoadedImage, name: str) -> tuple[Image, Image]:
    """A label map and its images on one grid; labels that leave slices out are filled up.

    The time between frames is that of the images where the label map does not say it.

    Raises
    ------
    UnsupportedDataError
        If the two do not lie in one place, have not the same frames, or the images have NaN or infinite voxels.
    """
    from crnn_cli.data.alignment import on_one_grid

    image, image_name = images.image, images.source["file"]
    image.require_finite(image_name)
    both = on_one_grid(image, labels)
    if both is None:
        shapes = [" x ".join(map(str, (*each.shape[:3], each.frames))) for each in (image, labels)]
        raise UnsupportedDataError(
            f"{image_name} ({shapes[0]}) and {name} ({shapes[1]}) do not lie on one grid (x, y, z, t)",
            remedy=("give the images that were labelled with ", Param("image")),
        )
    image, labels = both
    if labels.frame_time is None and image.frame_time is not None:
        notices.note("frame-time-source", f"the time between frames is that of {image_name}")
        labels = replace(labels, frame_time=image.frame_time)
    return labels, image


def _measure_labels(
    labels: Image, name: str, chambers: Chambers | None, subject: Subject, options: FunctionOptions,
    unknown_size: str | None = None, bundle: Bundle | None = None,
) -> MeasuredFunction:  # fmt: skip
    """Measure a label map; parameters as of `crnn_cli.cardiac.function.assess_function`.

    Parameters
    ----------
    name : of the label map, in messages.
    chambers : what its values are; None: by the names of its labels.
    bundle : the model that made the labels; None: by their origin, if they know it.
    """
    from crnn_cli.cardiac.chambers import find_chambers
    from crnn_cli.cardiac.function import assess_function, require_stack
    from crnn_cli.cardiac.intervals import Intervals
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.report.provenance import made_by
    from crnn_cli.workflows.function.origin import label_doubt

    names = labels.names if isinstance(labels, LabelImage) else {}
    if chambers is None:
        chambers = find_chambers(names, name)
        _note_others(names, chambers)
    require_stack(labels, name)
    _require_ventricle(labels, chambers, name)
    ed, es = (None if frame is None else frame - 1 for frame in (options.ed, options.es))
    function = assess_function(labels, chambers, subject, ed, es, unknown_size)
    doubt = label_doubt(labels, chambers, bundle)
    function = replace(function, intervals=None if doubt is None else Intervals(doubt))
    _require_a_number(function, labels, name)
    told = {each["code"] for each in notices.recorded().get("doubts", ())}
    notices.tell(*(each for each in function.doubts if each.code not in told & _OF_IMAGES))
    return MeasuredFunction(function, made_by() | function.as_json() | notices.recorded(), labels, chambers)


def _note_others(names: Mapping[int, str], chambers: Chambers) -> None:
    """Say which labels by their names are none of the heart's."""
    others = [name for value, name in names.items() if value not in chambers.named().values()]
    if others:
        measured = ", ".join(f"{names[value]} for the {chamber}" for chamber, value in chambers.named().items())
        notices.note("labels-not-measured", f"taken by its name: {measured}; not measured: {', '.join(others)}")


def _require_ventricle(labels: Image, chambers: Chambers, name: str) -> None:
    """Refuse a label map in which no value of a ventricle occurs; the message lists those that do."""
    import numpy as np

    found = [int(value) for value in np.unique(labels.array) if value]
    if not {chambers.left, chambers.right} & {*found}:
        held = f"its values are {', '.join(map(str, found))}" if found else "it holds background alone"
        raise UnsupportedDataError(
            f"no frame of {name} has a label of a ventricle: {held}",
            remedy=("say what the values are with ", Param("labels", "1=RV,2=MYO,3=LV")),
        )


def _require_a_number(function: CardiacFunction, labels: Image, name: str) -> None:
    """Refuse a heart of which neither a volume nor a ratio can be said; the message has the reasons."""
    from crnn_cli.labels.overlap import begins_as_it_ends

    quantities = function.quantities()
    numbers = [each for side in ("left", "right") for each in quantities.get(side, {}).values()]
    if all(each.value is None for each in numbers):
        if labels.frames > 1 and begins_as_it_ends(labels.array):
            raise UnsupportedDataError(
                f"the first axis of {name} ({' x '.join(map(str, labels.array.shape))}) looks like time: the labels at "
                "its two ends are nearly the same",
                remedy=("store the axes as x, y, z, t",),
            )
        reasons = dict.fromkeys(each.reason for each in numbers)
        raise UnsupportedDataError(f"nothing can be measured in {name}: {'; '.join(reasons)}")


def require_every_number(report: dict[str, Any]) -> None:
    """Refuse a result that lacks a number, where doubts count as errors.

    Numbers over the cycle are not missed where two frames alone are labelled, end diastole and end systole.

    Raises
    ------
    QualityError
        If the record is strict (`crnn_cli.notices.is_strict`) and a number was refused; the message has the reasons.
    """
    from crnn_cli.cardiac.ventricles import OVER_THE_CYCLE, PAIR
    from crnn_cli.report.function.table import refusals_of

    labelled = {sum(map(bool, curve)) for curve in report["curves_ml"].values()}
    refused = refusals_of(report, OVER_THE_CYCLE if max(labelled, default=0) == PAIR else ())
    if refused and notices.is_strict():
        told = "; ".join(f"no {', '.join(names)}: {reason}" for reason, names in refused.items())
        raise QualityError(f"{told} (", Param("strict"), ")")


def _label_map(loaded: LoadedImage, source: Path, name: str) -> Image:
    from crnn_cli.workflows.function.origin import with_origin_beside
    from crnn_cli.workflows.labels import as_label_image, named_labels

    labels = as_label_image(loaded.image, name)
    return with_origin_beside(replace(labels, labels=named_labels(labels, source, None)), source)

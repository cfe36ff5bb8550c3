"""Function of a heart from a file: a label map, or a cine that is labelled first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, QualityError, UnsupportedDataError
from crnn_cli.notices import STREAM
from crnn_cli.workflows.function.options import FunctionOptions, check_options

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from crnn_cli.cardiac.chambers import Chambers
    from crnn_cli.cardiac.function import CardiacFunction, Subject
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.evidence import Evidence
    from crnn_cli.io.loaded_image import LoadedImage


@dataclass(frozen=True)
class MeasuredFunction:
    """Function of a heart with its report.

    Attributes
    ----------
    function : every number.
    report : plain values: tool, input, model if one was used, and the numbers.
    chambers : what the values of the labels are.
    evidence : DICOM images and segments that it was measured in, for a structured report; None where none is wanted.
    """

    function: CardiacFunction
    report: dict[str, Any]
    chambers: Chambers
    evidence: Evidence | None = None


def measure_file(source: Path, options: FunctionOptions, progress: notices.Progress) -> MeasuredFunction:
    """Read a label map or a cine, and measure the heart.

    Parameters
    ----------
    source : NIfTI, DICOM (cine or SEG), or `STREAM`.
    progress : called with (steps done, steps in all) while a cine is labelled.

    Raises
    ------
    CrnnError
        If the file cannot be read, its values are not known to be of a heart, or it cannot be labelled.
    """
    from crnn_cli.io.images import load_image
    from crnn_cli.workflows.function.structured_report import evidence_of, require_dicom

    chambers, subject = check_options(options)
    loaded = load_image(source, None, options.series, slice_tolerance=options.slice_tolerance)
    name = "standard input" if source == STREAM else str(source)
    notices.tell(*loaded.remarks())
    if options.sr is not None:
        require_dicom(loaded)
    subject = _with_header(subject, _header(loaded, source), options)
    if _is_label_map(loaded, options):
        measured = _measure_labels(_label_map(loaded, source, name), name, chambers, subject, options)
    else:
        measured = _measure_cine(loaded.image, name, subject, options, progress)
    if options.sr is not None:
        measured = replace(measured, evidence=evidence_of(loaded, source, measured.function, measured.chambers))
    return replace(measured, report=measured.report | {"input": dict(loaded.source)} | notices.recorded())


def measure_image(image: Image, options: FunctionOptions, progress: notices.Progress) -> MeasuredFunction:
    """Measure an image in memory: a label map, if it is a `LabelImage` or its values were named, else a cine.

    Raises
    ------
    CrnnError
        As `measure_file`.
    """
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.workflows.labels import as_label_image

    chambers, subject = check_options(options)
    name = "the image"
    if isinstance(image, LabelImage) or chambers is not None:
        return _measure_labels(as_label_image(image, name), name, chambers, subject, options)
    return _measure_cine(image, name, subject, options, progress)


def _measure_cine(
    image: Image, name: str, subject: Subject, options: FunctionOptions, progress: notices.Progress
) -> MeasuredFunction:
    """Label a cine, and measure the labels."""
    from crnn_cli.cardiac.function import require_stack

    require_stack(image, name)
    labels, facts, unknown = _label(image, options, name, progress)
    measured = _measure_labels(labels, name, None, subject, options, unknown)
    return replace(measured, report=measured.report | facts | notices.recorded())


def _measure_labels(
    labels: Image, name: str, chambers: Chambers | None, subject: Subject, options: FunctionOptions,
    unknown_size: str | None = None,
) -> MeasuredFunction:  # fmt: skip
    """Measure a label map; parameters as of `crnn_cli.cardiac.function.assess_function`.

    Parameters
    ----------
    name : of the label map, in messages.
    chambers : what its values are; None: by the names of its labels.
    """
    from crnn_cli.cardiac.chambers import find_chambers
    from crnn_cli.cardiac.function import assess_function, require_stack
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.report.provenance import made_by

    names = labels.names if isinstance(labels, LabelImage) else {}
    chambers = chambers or find_chambers(names, name)
    require_stack(labels, name)
    _require_ventricle(labels, chambers, name)
    ed, es = (None if frame is None else frame - 1 for frame in (options.ed, options.es))
    function = assess_function(labels, chambers, subject, ed, es, unknown_size)
    _require_a_number(function, name)
    notices.tell(*function.doubts)
    return MeasuredFunction(function, made_by() | function.as_json() | notices.recorded(), chambers)


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


def _require_a_number(function: CardiacFunction, name: str) -> None:
    """Refuse a heart of which neither a volume nor a ratio can be said; the message has the reasons."""
    quantities = function.quantities()
    numbers = [each for side in ("left", "right") for each in quantities.get(side, {}).values()]
    if all(each.value is None for each in numbers):
        reasons = dict.fromkeys(each.reason for each in numbers)
        raise UnsupportedDataError(f"nothing can be measured in {name}: {'; '.join(reasons)}")


def require_every_number(function: CardiacFunction) -> None:
    """Refuse a result that lacks a number, where doubts count as errors.

    Raises
    ------
    QualityError
        If the record is strict (`crnn_cli.notices.is_strict`) and a number was refused; the message has the reasons.
    """
    from crnn_cli.report.function_table import refused_numbers

    refused = refused_numbers(function)
    if refused and notices.is_strict():
        told = "; ".join(f"no {', '.join(names)}: {reason}" for reason, names in refused.items())
        raise QualityError(f"{told} (", Param("strict"), ")")


def _is_label_map(loaded: LoadedImage, options: FunctionOptions) -> bool:
    """Whether a file is a label map: it says so, its labels were named, or it holds few whole numbers as integers."""
    from crnn_cli.workflows.proposals import is_label_map

    return options.labels is not None or is_label_map(loaded)


def _label_map(loaded: LoadedImage, source: Path, name: str) -> Image:
    from crnn_cli.workflows.labels import as_label_image, named_labels

    labels = as_label_image(loaded.image, name)
    return replace(labels, labels=named_labels(labels, source, None))


def _label(
    image: Image, options: FunctionOptions, name: str, progress: notices.Progress
) -> tuple[Image, dict[str, Any], str]:
    """Label a cine; what the report says of it; why sizes are not known, empty where they are."""
    from crnn_cli.workflows.segment.options import SegmentOptions
    from crnn_cli.workflows.segment.steps import segment_image

    chosen = SegmentOptions(model=options.model, device=options.device)
    run = segment_image(image, chosen, name=name, progress=progress)
    if run.labelled.is_empty:
        raise UnsupportedDataError(f"no heart was found in {name}: there is nothing to measure")
    kept = ("model", "device", "seconds", "quality")
    facts = {key: run.report[key] for key in kept if key in run.report}
    return run.labels, facts, run.report.get("no_volumes") or ""


def _header(loaded: LoadedImage, source: Path) -> Dataset | None:
    """Header of a DICOM source: the first of its series, or of its SEG; None of other formats."""
    if loaded.series is not None:
        from crnn_cli.io.dicom.header_copy import first_header

        return first_header(loaded.series)
    if loaded.format == "DICOM SEG":
        from crnn_cli.io.dicom.seg_series import read_objects

        return read_objects(source, pixels=False)[0][0]
    return None


def _with_header(subject: Subject, header: Dataset | None, options: FunctionOptions) -> Subject:
    """Body surface and heart rate of a DICOM header, where they were not given."""
    from crnn_cli.cardiac.body import body_surface

    if header is None:
        return subject
    height, weight, rate = (_positive(header.get(key)) for key in ("PatientSize", "PatientWeight", "HeartRate"))
    if subject.body_surface is None and 0.3 <= height <= 2.6 and 1 <= weight <= 500:
        formula = options.body_surface_formula
        subject = replace(subject, body_surface=body_surface(100 * height, weight, formula), formula=formula)
    if subject.heart_rate is None and 20 <= rate <= 300:
        subject = replace(subject, heart_rate=rate)
    return subject


def _positive(value: object) -> float:
    """A number of a header; 0 where there is none."""
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0

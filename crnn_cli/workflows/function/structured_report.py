"""Function of the heart as a DICOM Structured Report: its quantities in the codes of SNOMED CT, LOINC, DICOM and UCUM.

Each ventricle has a group for end diastole, one for end systole, and one for the cycle, whose numbers name the images
of both frames; the myocardium has two. What is refused is no number: its reason is a comment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.sr.coding import Code

from crnn_cli.cardiac.chambers import CODES, LEFT, MYOCARDIUM, RIGHT
from crnn_cli.cardiac.function import CONVENTION

if TYPE_CHECKING:
    from crnn_cli.cardiac.chambers import Chambers
    from crnn_cli.cardiac.function import CardiacFunction
    from crnn_cli.cardiac.quantities import Quantity
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.io.dicom.evidence import Evidence
    from crnn_cli.io.dicom.instances import Instance
    from crnn_cli.io.dicom.seg import Algorithm
    from crnn_cli.io.dicom.sr import Measurement, MeasurementGroup
    from crnn_cli.io.loaded_image import LoadedImage

_ED, _ES = "end diastole", "end systole"
_PHASES = {_ED: Code("416190007", "SCT", "End diastole"), _ES: Code("416430001", "SCT", "End Systole")}
_UNITS = {
    "ml": Code("ml", "UCUM", "ml"), "g": Code("g", "UCUM", "g"), "%": Code("%", "UCUM", "Percent"),
    "/min": Code("{H.B.}/min", "UCUM", "beats per minute"), "l/min": Code("l/min", "UCUM", "l/min"),
    "ml/s": Code("ml/s", "UCUM", "ml/s"), "ml/m2": Code("ml/m2", "UCUM", "ml/m2"),
    "g/m2": Code("g/m2", "UCUM", "g/m2"), "l/min/m2": Code("l/min/m2", "UCUM", "l/min/m2"),
}  # fmt: skip
_MASS = Code("18087-7", "LN", "Left Ventricle Mass")
_CONCEPTS: dict[tuple[str, str], Code] = {
    (LEFT, "edv"): Code("8821-1", "LN", "Left Ventricular ED Volume"),
    (LEFT, "esv"): Code("8823-7", "LN", "Left Ventricular ES Volume"),
    (LEFT, "stroke_volume"): Code("90096001", "SCT", "Stroke Volume"),
    (LEFT, "stroke_volume_index"): Code("277381004", "SCT", "Stroke Index"),
    (LEFT, "cardiac_output"): Code("82799009", "SCT", "Cardiac Output"),
    (LEFT, "cardiac_output_index"): Code("54993008", "SCT", "Cardiac Index"),
    (LEFT, "mass_ed"): _MASS, (LEFT, "mass_es"): _MASS,
    (RIGHT, "edv"): Code("8822-9", "LN", "Right Ventricular ED Volume"),
    (RIGHT, "esv"): Code("8824-5", "LN", "Right Ventricular ES Volume"),
    (RIGHT, "stroke_volume"): Code("429483009", "SCT", "RV Stroke Volume"),
    (RIGHT, "stroke_volume_index"): Code("429619008", "SCT", "RV Stroke Index"),
    (RIGHT, "cardiac_output"): Code("428628004", "SCT", "RV Cardiac Output"),
    (RIGHT, "cardiac_output_index"): Code("427990004", "SCT", "RV Cardiac Index"),
}  # fmt: skip
_OF_EITHER = {
    "heart_rate": Code("8867-4", "LN", "Heart rate"),
    "peak_ejection_rate": Code("122616", "DCM", "Peak Ejection Rate"),
    "peak_filling_rate": Code("122618", "DCM", "Peak Filling Rate"),
    "ejection_fraction": Code("70822001", "SCT", "Cardiac ejection fraction"),
}
_FRACTIONS = {
    (LEFT, "MR"): Code("8811-2", "LN", "Left ventricular ejection fraction by MR"),
    (LEFT, "CT"): Code("8810-4", "LN", "Left ventricular ejection fraction by CT"),
    (RIGHT, "MR"): Code("8818-7", "LN", "Right ventricular ejection fraction by MR"),
    (RIGHT, "CT"): Code("8817-9", "LN", "Right ventricular ejection fraction by CT"),
}


def structured_report(
    function: CardiacFunction, chambers: Chambers, evidence: Evidence, algorithm: Algorithm, target: Path
) -> Output:
    """Prepare the report of a heart.

    Parameters
    ----------
    chambers : what the values of the labels are.
    evidence : images, and segments where there is a SEG, of the end-diastolic and the end-systolic frame.

    Raises
    ------
    UnsupportedDataError
        If not one number can be said, or the headers of the source make no report.
    """
    from crnn_cli.errors import UnsupportedDataError
    from crnn_cli.io.dicom.sr import report_output

    groups = list(_groups(function, chambers, evidence))
    if not groups:
        reasons = {each.reason for side in function.quantities().values() for each in side.values()}
        raise UnsupportedDataError(f"there is no number to report: {'; '.join(sorted(reasons))}")
    return report_output(groups, _comments(function), evidence, algorithm, target)


def _groups(function: CardiacFunction, chambers: Chambers, evidence: Evidence) -> Iterator[MeasurementGroup]:
    quantities = function.quantities()
    main = LEFT if LEFT in function.ventricles else RIGHT
    for name, side in ((LEFT, "left"), (RIGHT, "right")):
        held = quantities.get(side, {}) | (quantities["heart"] if name == main else {})
        of_frames = {_ED: ("edv", "edv_index"), _ES: ("esv", "esv_index")}
        of_wall = {_ED: ("mass_ed", "mass_ed_index"), _ES: ("mass_es", "mass_es_index")}
        for structure, at in ((name, of_frames), (MYOCARDIUM, of_wall)):
            for phase, names in at.items():
                numbers = {key: held.pop(key) for key in names if key in held}
                yield from _group(function, chambers, evidence, (structure, phase, name), numbers)
        yield from _group(function, chambers, evidence, (name, "", name), held)


def _group(
    function: CardiacFunction, chambers: Chambers, evidence: Evidence, about: tuple[str, str, str],
    numbers: dict[str, Quantity],
) -> Iterator[MeasurementGroup]:  # fmt: skip
    """Group of the numbers that can be said, if there are any.

    Parameters
    ----------
    about : structure, phase (empty: the cycle), and the ventricle whose numbers these are.
    """
    from crnn_cli.io.dicom.instances import joined
    from crnn_cli.io.dicom.sr import MeasurementGroup

    structure, phase, ventricle = about
    known = {name: each for name, each in numbers.items() if each.value is not None}
    if not known:
        return
    ends = {_ED: function.phases.ed, _ES: function.phases.es}
    frames = [ends[phase]] if phase else list(ends.values())
    images = joined(image for t in frames for image in evidence.images[t])
    measured = tuple(
        _measurement(ventricle, name, each, evidence.modality, () if phase else images) for name, each in known.items()
    )
    segment = evidence.segments.get((frames[0], chambers.named()[structure])) if phase else None
    numbered = " and ".join(str(t + 1) for t in frames)
    title = f"{structure}, {phase or 'cardiac cycle'}, frame{'' if phase else 's'} {numbered}"
    code = Code(CODES[structure], "SCT", structure.capitalize())
    yield MeasurementGroup(title, code, _PHASES.get(phase), measured, images, segment)


def _measurement(
    ventricle: str, name: str, quantity: Quantity, modality: str, images: tuple[Instance, ...]
) -> Measurement:
    from crnn_cli.io.dicom.sr import Measurement

    assert quantity.value is not None
    plain = name.removesuffix("_index")
    concept = _CONCEPTS.get((ventricle, name))
    if name == "ejection_fraction":
        concept = _FRACTIONS.get((ventricle, modality))
    concept = concept or _CONCEPTS.get((ventricle, plain)) or _OF_EITHER[plain]
    value = _rounded(quantity.value)
    above = below = None
    if quantity.low is not None and quantity.high is not None:
        above, below = _rounded(quantity.high - value), _rounded(value - quantity.low)
    return Measurement(concept, value, _UNITS[quantity.unit], images, name != plain, above, below)


def _rounded(value: float) -> float:
    """Six digits, as in the report in JSON."""
    return float(f"{value:.6g}")


def _comments(function: CardiacFunction) -> list[str]:
    """Convention, body surface, level of the intervals, doubts, and the reason for every number that is refused."""
    from crnn_cli.report.function.table import refused_numbers

    comments = ["Not for diagnostic use.", CONVENTION]
    surface = function.subject.body_surface
    if surface is not None:
        comments.append(f"Indexed by a body surface of {surface:.3g} m2 (formula: {function.subject.formula}).")
    numbers = [each for values in function.quantities().values() for each in values.values()]
    levels = sorted({each.level for each in numbers if each.level is not None and each.low is not None})
    comments += [f"Ranges of uncertainty are those of {100 * level:g} % intervals." for level in levels]
    comments += [f"Doubt: {doubt.text}." for doubt in function.doubts]
    return comments + [f"No {', '.join(names)}: {reason}." for reason, names in refused_numbers(function).items()]


def require_dicom(loaded: LoadedImage) -> None:
    """Refuse a source that has neither a patient nor a study, before it is measured.

    Raises
    ------
    UnsupportedDataError
        If it is neither a DICOM series nor a DICOM SEG.
    """
    from crnn_cli.errors import Param, UnsupportedDataError

    if loaded.series is None and loaded.format != "DICOM SEG":
        raise UnsupportedDataError(
            "a DICOM SR needs a DICOM source: the patient and the study are copied from it",
            remedy=("give the DICOM cine or a DICOM SEG, or leave ", Param("sr"), " out"),
        )


def evidence_of(loaded: LoadedImage, source: Path, function: CardiacFunction, chambers: Chambers) -> Evidence:
    """Images and segments of the end-diastolic and the end-systolic frame of a DICOM source.

    Raises
    ------
    UnsupportedDataError, UnreadableError
        If they lack what a report refers to.
    """
    from crnn_cli.io.dicom.evidence import evidence_of_segs, evidence_of_series
    from crnn_cli.io.dicom.seg_series import read_objects

    frames = (function.phases.ed, function.phases.es)
    if loaded.series is not None:
        return evidence_of_series(loaded.series, frames)
    return evidence_of_segs(read_objects(source, pixels=False)[0], frames, [*chambers.named().values()])


def algorithm_of(report: dict[str, Any]) -> Algorithm:
    """What the report says of the algorithm: the model that labelled, if one did."""
    from crnn_cli.io.dicom.seg import Algorithm

    model = report.get("model")
    if model is None:
        return Algorithm("crnn function")
    return Algorithm(f"crnn {model['name']}", {"weights sha256": model["sha256"]})

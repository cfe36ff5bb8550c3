"""BIDS sidecar of a converted image: how it was measured and when its frames are, and nothing of the patient.

Names and units are those of BIDS 1.10 (s, degrees, mm, T); trigger times, which BIDS has no name for, are
``TriggerTimes``. Free text of the header (descriptions, protocol, institution) stays out: it may name a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crnn_cli.report.sidecar import CONVERTED_BY

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from crnn_cli.io.dicom.series import Series
    from crnn_cli.io.images import LoadedImage

_NUMBERS = {
    "MagneticFieldStrength": ("MagneticFieldStrength", 1.0), "EchoTime": ("EchoTime", 1e-3),
    "InversionTime": ("InversionTime", 1e-3), "FlipAngle": ("FlipAngle", 1.0),
    "SliceThickness": ("SliceThickness", 1.0),
    "RepetitionTimeExcitation": ("RepetitionTime", 1e-3),
}  # fmt: skip
"""Number in BIDS: attribute of DICOM, and the factor between their units."""
_CODES = {
    "ScanningSequence": "ScanningSequence", "SequenceVariant": "SequenceVariant", "ScanOptions": "ScanOptions",
    "MRAcquisitionType": "MRAcquisitionType", "BodyPart": "BodyPartExamined",
}  # fmt: skip
_EVEN = 0.02
"""Frames whose times differ from even ones by less than this part of the step have one repetition time."""


def bids_sidecar(loaded: LoadedImage) -> dict[str, Any]:
    """Content of the sidecar.

    ``RepetitionTime`` is the time between volumes, where the frames of a series without a trigger follow each other
    evenly; else ``FrameTimesStart`` lists the start of each from that of the first. A gated cine has ``TriggerTimes``
    too, of its first slice.
    """
    from crnn_cli.version import __version__

    content: dict[str, Any] = {}
    series = loaded.series
    if series is not None:
        content |= _of_header(series)
    content |= _times(loaded)
    return content | {"ConversionSoftware": CONVERTED_BY, "ConversionSoftwareVersion": __version__}


def _of_header(series: Series) -> dict[str, Any]:
    """What the header of the first image says of the scan."""
    from crnn_cli.io.dicom.header_copy import first_header, kind_of, quoting_nothing
    from crnn_cli.io.dicom.header_repair import Repairs, usable_attributes

    with quoting_nothing("sidecar"):
        taken = [name for name, _ in _NUMBERS.values()] + [*_CODES.values()]
        header = usable_attributes(first_header(series), taken, Repairs())
        content: dict[str, Any] = {"Modality": kind_of(series).modality}
        for name, (keyword, factor) in _NUMBERS.items():
            if keyword in header:
                content[name] = round(float(header[keyword].value) * factor, 9)
        return content | _codes(header)


def _codes(header: Dataset) -> dict[str, Any]:
    found = {}
    for name, keyword in _CODES.items():
        if keyword in header:
            value = header[keyword].value
            found[name] = value if isinstance(value, str) else [str(each) for each in value]
    return found


def _times(loaded: LoadedImage) -> dict[str, Any]:
    """When the frames are, in s."""
    image, series = loaded.image, loaded.series
    if image.frames < 2:
        return {}
    row = series.grid[0] if series is not None else ()
    triggers = [frame.times.get("trigger time") for frame in row]
    gated = series is not None and series.ordered_by == "trigger time" and None not in triggers
    if gated:
        times = [round((value or 0.0) / 1000, 6) for value in triggers]
        return {"TriggerTimes": times, "FrameTimesStart": [round(time - times[0], 6) for time in times]}
    if image.frame_time is None:
        return {}
    step = round(image.frame_time, 9)
    even = series is None or not series.spread or series.spread <= _EVEN * step
    starts = {"FrameTimesStart": [round(step * t, 6) for t in range(image.frames)]}
    if series is None:
        return starts
    return {"RepetitionTime": step} if even else starts

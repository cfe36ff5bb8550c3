"""XML header of an ISMRMRD file: matrices, fields of view, limits of k-space, acceleration.

Elements are those of the schema ismrmrd.xsd. Lengths are in mm, times in ms, as in the header.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.notices import Doubt

_ROUNDED = 0.01
"""How far a whole number may be off, as converters write 0.9999."""
_LIMIT = 65535  # counters of a readout are uint16
_ADVICE = "convert the scan again from the scanner's raw data"


@dataclass(frozen=True)
class Space:
    """An encodedSpace or reconSpace: matrix and field of view in mm, each x, y, z."""

    matrix: tuple[int, int, int]
    field: tuple[float, float, float]


@dataclass(frozen=True)
class Limits:
    """Limits of a counter along an encoding axis (encodingLimits).

    Attributes
    ----------
    minimum, maximum : first and last counter.
    centre : counter of the centre of k-space.
    """

    minimum: int
    maximum: int
    centre: int


@dataclass(frozen=True)
class IsmrmrdHeader:
    """Facts of the first encoding in the XML header.

    Attributes
    ----------
    encoded, shown : encodedSpace, and reconSpace, which the images show.
    step_1, step_2 : limits of kspace_encoding_step_1 (phase encoding) and _2 (partitions); None where absent.
    acceleration : accelerationFactor along both.
    calibration : calibrationMode, "" if absent.
    tr : repetition time TR in ms, None if unknown.
    noise_bandwidth : relativeReceiverNoiseBandwidth, 1 if unknown.
    encodings : number of encodings in the header.
    segments : values that the counter segment has, by its limits; 1 where there are none.
    counts : values that the counters repetition, phase and slice have, by their encodingLimits; those above 1.
    in_metres, flat, filtered : what `crnn_cli.io.kspace.ismrmrd.reconcile` set right: lengths that were in metres,
        planes of a 2-D scan, readout oversampling that was removed.
    """

    encoded: Space
    shown: Space
    step_1: Limits | None
    step_2: Limits | None
    acceleration: tuple[int, int]
    calibration: str
    tr: float | None
    noise_bandwidth: float
    encodings: int
    counts: dict[str, int]
    segments: int = 1
    in_metres: bool = False
    flat: bool = False
    filtered: bool = False

    def doubts(self) -> list[Doubt]:
        """Doubt about a header of several encodings."""
        if self.encodings == 1:
            return []
        return [Doubt("several-encodings", f"the header has {self.encodings} encodings: the first is read")]


def parse_header(text: bytes) -> IsmrmrdHeader:
    """Parse the XML header of a scan.

    Raises
    ------
    UnreadableError
        If it is no XML, declares a document type (refused for safety), or lacks an encoding or its sizes.
    UnsupportedDataError
        If the trajectory is not Cartesian.
    """
    root = _root(text)
    encodings = root.findall("encoding")
    if not encodings:
        raise UnreadableError(f"the ISMRMRD header has no encoding: nothing says how k-space was sampled; {_ADVICE}")
    first = encodings[0]
    trajectory = (first.findtext("trajectory") or "").strip()
    if trajectory.lower() != "cartesian":
        raise UnsupportedDataError(
            f"the trajectory of this scan is {trajectory or 'not named'!r}: only Cartesian k-space is reconstructed; "
            "grid it with another program first"
        )
    return IsmrmrdHeader(
        encoded=_space(first, "encodedSpace"),
        shown=_space(first, "reconSpace"),
        step_1=_limits(first, "kspace_encoding_step_1"),
        step_2=_limits(first, "kspace_encoding_step_2"),
        acceleration=_acceleration(first),
        calibration=(first.findtext("parallelImaging/calibrationMode") or "").strip(),
        tr=_positive(root, "sequenceParameters/TR"),
        noise_bandwidth=_positive(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth") or 1.0,
        encodings=len(encodings),
        counts=_counts(first, "repetition", "phase", "slice"),
        segments=_counts(first, "segment").get("segment", 1),
    )


def _root(text: bytes) -> ElementTree.Element:
    try:
        decoded = text.decode("utf-8").strip("\0 \r\n\t\ufeff")
    except UnicodeDecodeError:
        raise UnreadableError(f"the ISMRMRD header is not UTF-8 text; {_ADVICE}") from None
    if "<!DOCTYPE" in decoded or "<!ENTITY" in decoded:
        raise UnreadableError(
            "the ISMRMRD header declares a document type or entities, which such a header has no use for: it is not "
            "read, for safety; take the declaration out"
        )
    try:
        root = ElementTree.fromstring(decoded)
    except (ElementTree.ParseError, ValueError) as error:
        raise UnreadableError(f"the ISMRMRD header is no well-formed XML ({error}); {_ADVICE}") from None
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
    if root.tag != "ismrmrdHeader":
        raise UnreadableError(f"the XML header is a <{root.tag}>, not an <ismrmrdHeader>; {_ADVICE}")
    return root


def _space(encoding: ElementTree.Element, name: str) -> Space:
    x, y, z = (_whole(encoding, f"{name}/matrixSize/{axis}", 1) for axis in "xyz")
    fields = [_positive(encoding, f"{name}/fieldOfView_mm/{axis}") for axis in "xyz"]
    lengths = [length for length in fields if length is not None]
    if len(lengths) < 3:
        raise UnreadableError(f"the ISMRMRD header has no usable {name}/fieldOfView_mm; {_ADVICE}")
    return Space((x, y, z), (lengths[0], lengths[1], lengths[2]))


def _limits(encoding: ElementTree.Element, name: str) -> Limits | None:
    path = f"encodingLimits/{name}"
    if encoding.find(path) is None:
        return None
    limits = Limits(*(_whole(encoding, f"{path}/{part}", 0) for part in ("minimum", "maximum", "center")))
    if limits.maximum < limits.minimum:
        raise UnreadableError(f"the ISMRMRD header has {name} from {limits.minimum} to {limits.maximum}; {_ADVICE}")
    return limits


def _counts(encoding: ElementTree.Element, *names: str) -> dict[str, int]:
    """Number of values of counters, by their limits, where it is above 1."""
    counts = {}
    for name in names:
        limits = _limits(encoding, name)
        if limits is not None and limits.maximum > limits.minimum:
            counts[name] = limits.maximum - limits.minimum + 1
    return counts


def _acceleration(encoding: ElementTree.Element) -> tuple[int, int]:
    path = "parallelImaging/accelerationFactor"
    if encoding.find(path) is None:
        return 1, 1
    along_y, along_z = (_whole(encoding, f"{path}/kspace_encoding_step_{axis}", 1) for axis in (1, 2))
    return along_y, along_z


def _whole(element: ElementTree.Element, path: str, least: int) -> int:
    text = (element.findtext(path) or "").strip()
    try:
        number = float(text)
        value = round(number)
        if abs(number - value) > _ROUNDED:
            raise ValueError
    except (ValueError, OverflowError):
        raise UnreadableError(
            f"the ISMRMRD header has {text or 'nothing'!r} for {path}, not a number; {_ADVICE}"
        ) from None
    if not least <= value <= _LIMIT:
        raise UnreadableError(f"the ISMRMRD header has {value} for {path}, which cannot be; {_ADVICE}")
    return value


def _positive(element: ElementTree.Element, path: str) -> float | None:
    """Positive finite number at a path, or None if there is none."""
    try:
        value = float(element.findtext(path) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None

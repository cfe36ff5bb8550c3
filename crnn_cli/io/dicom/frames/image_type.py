"""What tells images of one place and time apart: image type, complex component, and unit of the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crnn_cli.io.dicom.frames.attributes import Facts, private_number, text, words

_GE = "GEMS_PARM_01"
_GE_TYPES: dict[int | None, str] = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}
_UNSPECIFIED = "US"
_PHASE = frozenset({"P", "PHASE", "PHASE MAP"})


class ImageType(NamedTuple):
    """Kind of an image.

    Attributes
    ----------
    types : FrameType of an enhanced image, else ImageType; upper case.
    component : ComplexImageComponent, or what GE's private elements say in its place; "" if unknown.
    unit : RescaleType, or the unit of the real-world mapping or of PET values; "" if unspecified.
    """

    types: tuple[str, ...] = ()
    component: str = ""
    unit: str = ""

    @property
    def is_phase(self) -> bool:
        """Whether the values are phases.

        >>> ImageType(("ORIGINAL", "PRIMARY", "P")).is_phase, ImageType(component="PHASE TYPE 8").is_phase
        (True, True)
        """
        return self.component.startswith("PHASE") or not _PHASE.isdisjoint(self.types)

    def label(self, siblings: Sequence[ImageType]) -> str:
        """Words of this kind that not all siblings share; "" where they are alike.

        >>> magnitude, phase = ImageType(("ORIGINAL", "PRIMARY", "M")), ImageType(("ORIGINAL", "PRIMARY", "P"))
        >>> magnitude.label([magnitude, phase])
        'M'
        """
        common = set.intersection(*(set(kind.types) for kind in siblings))
        found = [word for word in dict.fromkeys(self.types) if word not in common]
        if len({kind.component for kind in siblings}) > 1:
            found.append(self.component.lower())
        if len({kind.unit for kind in siblings}) > 1:
            found.append(self.unit)
        return " ".join(word for word in found if word)


def image_type_of(where: Sequence[Facts]) -> ImageType:
    """Kind of a frame from its datasets, the deepest first."""
    types = next((found for data in where for key in ("FrameType", "ImageType") if (found := words(data, key))), ())
    component = next((said for data in where if (said := text(data, "ComplexImageComponent"))), "")
    return ImageType(types, component.upper() or _of_ge(where[-1]), _unit(where))


def _of_ge(data: Facts) -> str:
    """GE's private kind: the raw data type, and the collapse flag, which tells velocity from magnitude."""
    if not text(data, "creator 0043").startswith(_GE):
        return ""
    flag, kind = private_number(data, "ge collapse flag"), private_number(data, "ge data type")
    return " ".join([_GE_TYPES.get(kind, ""), "" if flag is None else f"type {flag}"]).strip()


def _unit(where: Sequence[Facts]) -> str:
    for data in where:
        unit = text(data, "RescaleType") or text(data, "Units")
        if unit:
            return "" if unit == _UNSPECIFIED else unit
    codes = (
        text({"CodeValue": code.get("CodeValue")}, "CodeValue")
        for data in where
        for mapping in data.get("RealWorldValueMappingSequence") or []
        for code in mapping.get("MeasurementUnitsCodeSequence") or []
    )
    return next((code for code in codes if code), "")

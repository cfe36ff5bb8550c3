"""Kinds of DICOM objects, by SOP class: images that are read, and others, which are named.

Read are MR, CT and PET images, and any other image whose header has position, orientation and pixel spacing.
"""

from __future__ import annotations

from pydicom.uid import UID

_PREFIX = "1.2.840.10008.5.1.4.1.1."
SEGMENTATIONS = {
    f"{_PREFIX}66.4": "Segmentation", f"{_PREFIX}66.5": "Surface Segmentation", f"{_PREFIX}66.7": "Segmentation",
    f"{_PREFIX}66.8": "Segmentation",
}  # fmt: skip
"""SOP classes of segmentations: of binary and fractional segments, surfaces, label maps, and height maps."""
LABELS = (f"{_PREFIX}66.4", f"{_PREFIX}66.7")
"""SOP classes of segmentations in voxels."""

_MR_CT_PET = tuple(
    _PREFIX + end
    for end in ("4", "4.1", "4.3", "4.4", "2", "2.1", "2.2", "128", "128.1", "130")
)  # fmt: skip
_WITH_PIXELS = (f"{_PREFIX}66.4", f"{_PREFIX}66.7", f"{_PREFIX}66.8", f"{_PREFIX}481.2", f"{_PREFIX}30")
_NEVER = (*SEGMENTATIONS, *(_PREFIX + f"481.{n}" for n in range(1, 30)))


def is_mr_ct_pet(sop_class: str) -> bool:
    """Whether a SOP class is that of MR, CT or PET images; True where none is stated."""
    return not sop_class or sop_class in _MR_CT_PET


def is_never_read(sop_class: str) -> bool:
    """Whether objects of a SOP class are no images, though they have pixels and places: segmentations, RT objects."""
    return sop_class in _NEVER


def object_name(sop_class: str) -> str:
    """Name of a SOP class, as the standard has it without the word Storage.

    >>> object_name("1.2.840.10008.5.1.4.1.1.481.2"), object_name("1.2.840.10008.5.1.4.1.1.66.7")
    ('RT Dose', 'Segmentation')
    """
    if sop_class in SEGMENTATIONS:
        return SEGMENTATIONS[sop_class]
    return UID(sop_class).name.removesuffix(" Storage") if is_known(sop_class) else "object of an unknown class"


def is_known(sop_class: str) -> bool:
    """Whether a SOP class has a name in the standard."""
    return sop_class in SEGMENTATIONS or (bool(sop_class) and UID(sop_class).name != sop_class)


def has_pixels(sop_class: str) -> bool:
    """Whether objects of a SOP class have pixels by its name; True where none is stated."""
    return not sop_class or sop_class in _WITH_PIXELS or "Image" in object_name(sop_class)

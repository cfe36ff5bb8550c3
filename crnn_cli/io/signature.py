"""How files begin: DICOM with or without preamble, gzip, text. Only bytes are looked at; pydicom is not loaded."""

from __future__ import annotations

import string
from typing import Final

START_LENGTH = 144
"""Bytes of a file that tell whether it is DICOM: the preamble, ``DICM``, and the first element."""

PREAMBLE = 128
GZIP = b"\x1f\x8b"
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_BIG_ENDIAN_GROUP = b"\x00\x08"
_HIGHEST_ELEMENT = 0x0100
_LONGEST_VALUE = 1 << 12
_BEGINNINGS: Final = {
    b"GE": "HTTP", b"PO": "HTTP", b"PU": "HTTP", b"HE": "HTTP", b"OP": "HTTP", b"HT": "HTTP", b"\x16\x03": "TLS",
    b"SS": "SSH", b"\x89H": "an HDF5 file", b"\x1f\x8b": "gzip", b"\x5c\x01": "a NIfTI file",
    b"\x1c\x02": "a NIfTI-2 file", b"PK": "a zip archive", b"<?": "XML", b"ya": "an MRD stream of version 2",
    b"\x03\0": "MRD messages", b"\x93N": "a NumPy file", b"\0\0": "zeros, as a DICOM file begins",
}  # fmt: skip
_TEXT = frozenset(string.printable.encode())


def begins_as_dicom(start: bytes) -> bool:
    """Whether a file begins as DICOM: ``DICM`` after 128 bytes, or at once with an element of group 0002 or 0008."""
    return has_preamble(start) or begins_with_element(start)


def has_preamble(start: bytes) -> bool:
    """Whether ``DICM`` stands after 128 bytes of anything."""
    return start[PREAMBLE : PREAMBLE + 4] == b"DICM"


def begins_with_element(start: bytes) -> bool:
    """Whether a file begins with an element of group 0002 or 0008, as files without preamble do.

    It may be big endian, with a value representation.
    """
    if start[:2] == _BIG_ENDIAN_GROUP and len(start) >= 8:
        return int.from_bytes(start[2:4]) <= _HIGHEST_ELEMENT and start[4:6].isalpha() and start[4:6].isupper()
    if len(start) < 8 or start[:2] not in _FIRST_GROUPS:
        return False
    if int.from_bytes(start[2:4], "little") > _HIGHEST_ELEMENT:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") <= _LONGEST_VALUE


def is_text(start: bytes) -> bool:
    """Whether a file begins with printable ASCII alone."""
    return bool(start) and _TEXT.issuperset(start)


def is_cut_preamble(start: bytes) -> bool:
    """Whether a file holds less than the preamble, and nothing but zeros, as preambles do."""
    return 0 < len(start) <= PREAMBLE + 4 and not start[:PREAMBLE].strip(b"\0")


def looks_like(start: bytes) -> str:
    """What the beginning of a stream tells, for messages: ``looks like gzip``, or the bytes that it begins with."""
    known = _BEGINNINGS.get(start[:2])
    return f"looks like {known}" if known else f"begins with {start!r}"

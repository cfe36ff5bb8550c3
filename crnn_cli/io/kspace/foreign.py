"""Raw k-space in formats that are not read, of vendors, streams and old programs: names, and what converts them."""

from __future__ import annotations

import struct
from pathlib import Path

from crnn_cli.errors import UnreadableError

_FORMATS = {
    "mrd": ("an MRD stream of version 2", "convert it with mrd_to_ismrmrd and ismrmrd_stream_to_hdf5"),
    "stream": (
        "an ISMRMRD stream",
        "pipe it to crnn reconstruct - --stream, or convert it with ismrmrd_stream_to_hdf5",
    ),
    "twix": ("raw data of Siemens (twix, meas.dat)", "convert it to ISMRMRD with siemens_to_ismrmrd"),
    "pfile": ("raw data of GE (P-file)", "convert it to ISMRMRD with ge_to_ismrmrd"),
    "rawlab": ("raw data of Philips (raw, lab)", "convert it to ISMRMRD with philips_to_ismrmrd"),
    "listdata": ("raw data of Philips (list, data)", "read it with another program, and store a complex NumPy array"),
    "matlab4": ("a MATLAB file of version 4", "save the array anew in MATLAB, with -v7 or -v7.3"),
    "bruker": ("raw data of Bruker", "convert it to ISMRMRD with bruker_to_ismrmrd"),
}
"""Names of formats, and what to do with them."""
_BY_SUFFIX = {".7": "pfile", ".raw": "rawlab", ".lab": "rawlab", ".sin": "rawlab", ".list": "listdata",
              ".data": "listdata"}  # fmt: skip
_BY_NAME = {"fid": "bruker", "ser": "bruker", "rawdata.job0": "bruker"}


def refuse_foreign(path: Path, start: bytes) -> None:
    """Name a format that is raw k-space, but not read.

    Parameters
    ----------
    start : first bytes of the file.

    Raises
    ------
    UnreadableError
        If the file is of such a format; the remedy names the converter.
    """
    found = _foreign(path, start)
    if found is None:
        return
    name, remedy = found
    raise UnreadableError(f"{path} is {name}, which is not read", remedy=(remedy,))


def _foreign(path: Path, start: bytes) -> tuple[str, str] | None:
    """Name of the format, and how to convert it; None for any other file."""
    by_content = {
        "mrd": start.startswith(b"yardl") or start.lstrip()[:12].replace(b" ", b"").startswith(b'{"yardl"'),
        "stream": start[1:2] == b"\0" and start[0] in (1, 2, 3) and b"ismrmrdHeader" in start,
        "twix": _is_twix(start),
        "pfile": start[34:44] == b"GE_MED_NMR",
        "matlab4": path.suffix.lower() == ".mat" and _is_matlab4(start),
    }
    found = next((name for name, true in by_content.items() if true), None)
    if found is None and start:
        found = _BY_SUFFIX.get(path.suffix.lower()) or _BY_NAME.get(path.name)
    return None if found is None else _FORMATS[found]


def _is_matlab4(start: bytes) -> bool:
    """Whether a file begins with the header of a matrix: type (MOPT), rows, columns, imaginary or not, length of name.

    Reference: MathWorks, "MAT-File Format", level 4.
    """
    if len(start) < 20:
        return False
    for order in "<>":
        kind, rows, columns, imaginary, name = struct.unpack(f"{order}5i", start[:20])
        digits = [kind // place % 10 for place in (1000, 100, 10, 1)]
        possible = 0 <= kind <= 4052 and digits[1] == 0 and digits[2] <= 5 and digits[3] <= 2
        if possible and min(rows, columns) > 0 and imaginary in (0, 1) and 1 < name <= 64:
            return True
    return False


def _is_twix(start: bytes) -> bool:
    """Whether a file begins as those of Siemens: VD and later with 0 and up to 64 measurements, VB with its header."""
    if len(start) < 64:
        return False
    first, second = struct.unpack("<II", start[:8])
    if first == 0 and 1 <= second <= 64:
        _, _, offset, length = struct.unpack("<IIQQ", start[8:32])
        return bool(0 < offset < 2**48 and 0 < length < 2**48)
    names = (b"Config", b"Dicom", b"Meas", b"MeasYaps", b"Phoenix", b"Spice")
    named = any(start[8:].startswith(name + b"\0") for name in names)
    return bool(32 <= first < 2**24 and second <= 64 and named)

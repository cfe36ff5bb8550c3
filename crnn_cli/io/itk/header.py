"""Text headers of NRRD and MetaImage files: what they say of the place, and where their voxels are.

SimpleITK follows a header to any file that it names. Here voxels must lie in the file itself, or in one beside it, so
that a file that was received cannot make the program read another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crnn_cli.data.input_files import require_file
from crnn_cli.errors import UnreadableError, UnsupportedDataError

_MOST = 2**16
"""Bytes that a header has at most."""
_DATA_FILES = ("data file", "datafile", "elementdatafile")
_REQUIRED = {True: ("type", "dimension", "sizes"), False: ("ndims", "dimsize", "elementtype", "elementdatafile")}
_PLACES = {"space", "space dimension", "transformmatrix", "rotation", "orientation"}


@dataclass(frozen=True)
class ItkHeader:
    """Header of a NRRD or MetaImage file.

    Attributes
    ----------
    nrrd : whether it is NRRD.
    files : the file, and the one that holds the voxels where that is another.
    placed : whether it says how the image lies in the patient.
    """

    nrrd: bool
    files: tuple[Path, ...]
    placed: bool


def read_header(path: Path) -> ItkHeader:
    """Read the header of a file.

    Raises
    ------
    UnreadableError
        If it cannot be read, or the file of its voxels is missing.
    UnsupportedDataError
        If the voxels are spread over several files, or lie in another folder.
    """
    require_file(path)
    try:
        with path.open("rb") as opened:
            start = opened.read(_MOST)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from None
    nrrd = start.startswith(b"NRRD0")
    fields = _fields(start, ":" if nrrd else "=")
    missing = [key for key in _REQUIRED[nrrd] if key not in fields]
    if missing:  # SimpleITK would write to standard error
        raise UnreadableError(f"{path} is damaged: its header lacks {', '.join(missing)}")
    files: tuple[Path, ...] = (path,)
    for key in _DATA_FILES:
        if key in fields and fields[key].upper() != "LOCAL":
            files = (path, _beside(path, fields[key]))
    return ItkHeader(nrrd, files, bool(_PLACES & fields.keys()))


def _fields(start: bytes, separator: str) -> dict[str, str]:
    """Keys, in lower case, and values of the lines up to the end of the header."""
    fields: dict[str, str] = {}
    for line in start.decode("latin-1").splitlines():
        if not line.strip() and separator == ":":
            break
        key, found, value = line.partition(separator)
        if found and not line.startswith("#"):
            fields[key.strip().lower()] = value.strip()
        if key.strip().lower() in _DATA_FILES[2:]:
            break
    return fields


def _beside(path: Path, name: str) -> Path:
    """File of the voxels, which must lie in the folder of the header."""
    if name.upper().startswith("LIST") or "%" in name or " " in name.strip():
        raise UnsupportedDataError(
            f"the voxels of {path} are spread over several files", remedy=("save the image as one file",)
        )
    data = path.parent / name
    if Path(name).name != name or data.resolve().parent != path.parent.resolve():
        raise UnsupportedDataError(
            f"{path} names a file in another place for its voxels",
            remedy=("put the two into one folder, or save the image as one file",),
        )
    if not data.is_file():
        raise UnreadableError(f"the file {name} with the voxels of {path} is missing beside it")
    return data

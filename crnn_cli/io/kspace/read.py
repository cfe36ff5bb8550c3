"""Raw k-space of any format as a `RawScan`: the format is told by the content, never by the name alone.

All arrays are taken as centred, orthonormal k-space; what clearly is not is refused.
"""

from __future__ import annotations

from pathlib import Path

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import UnreadableError, UsageError

_NUMPY = b"\x93NUMPY"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_STARTS = (0, 512, 1024, 2048)
_MATLAB = b"MATLAB 5.0"
_MATLAB_HDF5 = b"MATLAB 7.3"


def is_raw(place: Path) -> bool:
    """Return whether a file holds, or claims to hold, raw k-space in a format that `read_raw` knows.

    The name of a BART pair may be given without its suffix.
    """
    return _family(place) is not None


def read_raw(
    place: Path, axes: str | None = None, variable: str | None = None, phases: int | None = None,
    uneven: float | None = None,
) -> RawScan:  # fmt: skip
    """Return the scan in a file. Little more than headers and one slice are read.

    Parameters
    ----------
    axes : names of the stored axes, such as coil,t,ky,kx, of `raw_stored.NAMES`; for formats that do not say them.
    variable : name of the array in a MATLAB or HDF5 file, or of the group in an ISMRMRD file; where there are several.
    phases : of an ISMRMRD file with ECG time stamps: cardiac phases that its lines are sorted into.
    uneven : of an ISMRMRD file: how far slices may lie beside even places and be taken as even, in mm.

    Raises
    ------
    UsageError
        If ``axes`` do not fit, or an option does not go with the format.
    UnreadableError
        If the file is missing, broken, or no raw k-space.
    UnsupportedDataError
        If it is in doubt what the axes are, or which array is meant.
    """
    from crnn_cli.io.kspace import bart as raw_bart
    from crnn_cli.io.kspace import hdf5 as raw_hdf5
    from crnn_cli.io.kspace import matlab as raw_matlab
    from crnn_cli.io.kspace import npy as raw_numpy

    family = _family(place)
    if family is None:
        reason = "does not exist" if not place.exists() else "holds no raw k-space of a format that is known"
        raise UnreadableError(
            f"{place} {reason}: give ISMRMRD, fastMRI or other HDF5, MATLAB, BART (.cfl with .hdr), or NumPy (.npy)"
        )
    ismrmrd = family == "HDF5" and raw_hdf5.kind_of(place) == "ISMRMRD"
    if phases is not None and not ismrmrd:
        raise UsageError(f"--phases sorts the lines of an ISMRMRD file by their ECG time stamps; {place} is none")
    if uneven is not None and not ismrmrd:
        raise UsageError(f"--uneven is for slices of an ISMRMRD file or a DICOM series; {place} is neither")
    if family in ("NumPy", "BART"):
        if variable is not None:
            raise UsageError(f"--variable chooses an array of a MATLAB or HDF5 file; {place} holds only one array")
        return raw_numpy.read_numpy(place, axes) if family == "NumPy" else raw_bart.read_bart(place, axes)
    if family == "MATLAB":
        return raw_matlab.read_matlab(place, axes, variable)
    if not ismrmrd:
        return raw_hdf5.read_hdf5(place, axes, variable)
    if axes is not None:
        raise UsageError(f"--axes is for files whose axes are in doubt; {place} is ISMRMRD, which says what they are")
    from crnn_cli.io.kspace.ismrmrd.read import read_ismrmrd

    return read_ismrmrd(place, variable, phases, uneven)


def _family(place: Path) -> str | None:
    """Return NumPy, MATLAB (5 to 7), HDF5 or BART, or None."""
    from crnn_cli.io.kspace.bart import bart_files, is_bart_header

    if not place.is_file():
        return "BART" if not place.exists() and all(file.is_file() for file in bart_files(place)) else None
    try:
        with place.open("rb") as stream:
            start = stream.read(_HDF5_STARTS[-1] + len(_HDF5))
    except OSError as error:
        raise UnreadableError(f"{place} cannot be read: {error.strerror}") from error
    if start.startswith(_NUMPY):
        return "NumPy"
    if start.startswith(_MATLAB):
        return "MATLAB"
    if start.startswith(_MATLAB_HDF5) or any(start[at:].startswith(_HDF5) for at in _HDF5_STARTS):
        return "HDF5"
    if is_bart_header(start) or place.suffix == ".cfl":
        return "BART"
    return None

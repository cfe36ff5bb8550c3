"""Raw k-space of any format as a `RawScan`: ISMRMRD, fastMRI and other HDF5, MATLAB, BART, NumPy.

The format is told by content, as `crnn_cli.io.formats` lists it. All arrays are taken as centred, orthonormal k-space;
arrays that clearly are not are refused (`crnn_cli.io.kspace.checks`).
"""

from __future__ import annotations

from pathlib import Path

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import UnreadableError
from crnn_cli.io.formats import identify, read_as, require_not_foreign
from crnn_cli.io.kspace.choices import NOTHING_CHOSEN, RawChoices


def read_raw(
    path: Path, axes: str | None = None, variable: str | None = None, phases: int | None = None,
    slice_tolerance: float | None = None, chosen: RawChoices = NOTHING_CHOSEN,
) -> RawScan:  # fmt: skip
    """Read a scan of raw k-space; little more than headers and one slice is loaded.

    Parameters
    ----------
    path : file; of a BART pair either file, or the name without suffix.
    axes : names of the stored axes, such as ``coil,t,ky,kx``, from `crnn_cli.io.kspace.stored_array.NAMES`; for formats
        that do not name them.
    variable : name of the array in a MATLAB or HDF5 file, or of the group in an ISMRMRD file, where there are several.
    phases : number of cardiac phases that the lines of an ISMRMRD file are sorted into, by its ECG time stamps.
    slice_tolerance : distance in mm that slices of an ISMRMRD file may lie off an even spacing.
    chosen : what else the file leaves open.

    Raises
    ------
    UsageError
        If ``axes`` do not fit, or a parameter does not go with the format.
    UnreadableError
        If the file is missing, damaged, or no raw k-space.
    UnsupportedDataError
        If nothing says which axis is which, or which array is meant.
    """
    row = identify(path, "kspace")
    if row is None:
        require_not_foreign(path)
        reason = "does not exist" if not path.exists() else "holds no raw k-space of a format that is known"
        raise UnreadableError(
            f"{path} {reason}: give ISMRMRD, fastMRI or other HDF5, MATLAB, BART (.cfl with .hdr), or NumPy (.npy)"
        )
    choices = {"axes": axes, "variable": variable, "phases": phases, "slice_tolerance": slice_tolerance}
    scan: RawScan = read_as(row, path, choices | chosen.given())
    return scan

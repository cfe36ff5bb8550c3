"""An ISMRMRD file as a stream of messages, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.io.kspace.hdf5_file import opened
from crnn_cli.io.kspace.ismrmrd.file import (
    BLOCK,
    ReadoutHeaders,
    find_group,
    read_header,
    read_readout_headers,
    read_samples,
    readout_name,
)
from crnn_cli.io.kspace.ismrmrd.readouts import group_readouts
from crnn_cli.io.mrd.messages import ACQUISITION_HEADER, Close, Message, Readout, XmlHeader


def replayed(path: Path, variable: str | None = None) -> Iterator[Message]:
    """Yield the header, the readouts and the end of a file; a block of readouts is in memory.

    The headers of all readouts are looked at first: a scan whose frames are interleaved is refused before it begins.

    Parameters
    ----------
    variable : group of the HDF5 file; None for the only one that holds a scan.

    Raises
    ------
    UnreadableError
        If the file is missing, damaged, or no ISMRMRD.
    UnsupportedDataError
        If it holds several scans and none was chosen, or the frames of a slice are not measured one after another.
    """
    group = find_group(path, variable)
    header, heads = read_header(path, group), read_readout_headers(path, group)
    _require_in_order(path, group_readouts(heads).imaging)
    yield XmlHeader(header)
    for first in range(0, len(heads), BLOCK):
        with opened(path) as file:
            records = _as_sent(file[group]["data"].fields("head")[first : first + BLOCK])
        for index, samples in read_samples(path, group, heads.where(np.arange(first, first + len(records)))):
            yield Readout(first + index, records[index], samples)
    yield Close()


def _as_sent(stored: NDArray[np.void]) -> NDArray[np.void]:
    """Headers of a file as those of a stream; fields that the file lacks are zero."""
    records = np.zeros(len(stored), ACQUISITION_HEADER)
    for name in set(ACQUISITION_HEADER.names or ()) & set(stored.dtype.names or ()) - {"idx"}:
        records[name] = stored[name]
    for name in set(records["idx"].dtype.names or ()) & set(stored["idx"].dtype.names or ()):
        records["idx"][name] = stored["idx"][name]
    return records


def _require_in_order(path: Path, imaging: ReadoutHeaders) -> None:
    """Refuse a scan in which a slice has lines of an earlier frame after those of a later one."""
    for number in np.unique(imaging["slice"]):
        heads = imaging.where(imaging["slice"] == number)
        back = np.flatnonzero(np.diff(heads["repetition"] << 16 | heads["phase"]) < 0)
        if len(back):
            raise UnsupportedDataError(
                f"{path}: {readout_name(heads, int(back[0]) + 1)} belongs to an earlier frame than the one before it: "
                "cardiac phases, averages or repetitions are interleaved, so that no frame is whole before the end of "
                "the scan",
                remedy=("reconstruct the file without ", Param("stream")),
            )

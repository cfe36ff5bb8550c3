"""HDF5 layout of ISMRMRD: the group of a scan, its XML header, and the headers and samples of its readouts.

A readout is a row of the compound data set ``data``, with the fields ``head`` (AcquisitionHeader), ``traj`` and
``data``. The samples of all rows are never in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.hdf5_file import dataset, opened, require_sound, stored_lengths, text_of
from crnn_cli.io.limits import require_possible

BLOCK = 256
"""Readouts whose samples are in memory at once."""
_HEADS = 4096
_COUNTERS = ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "phase", "repetition",
             "set")  # fmt: skip
_NUMBERS = ("flags", "scan_counter", "acquisition_time_stamp", "number_of_samples", "active_channels", "discard_pre",
            "discard_post", "center_sample", "encoding_space_ref", "sample_time_us")  # fmt: skip
_VECTORS = ("position", "read_dir", "phase_dir", "slice_dir")
_BROKEN = "the file is damaged or was cut off; copy or convert it again"

Numbers = NDArray[Any]


@dataclass(frozen=True)
class ReadoutHeaders:
    """Headers of N readouts, one array per field.

    Attributes
    ----------
    row : index of each readout in the file.
    fields : by the names of the AcquisitionHeader, those of EncodingCounters included. Whole numbers are int64 (flags:
        uint64), ``position`` and directions (N, 3) float64 in LPS, mm. ``since_r_wave`` is physiology_time_stamp[0].
    """

    row: Numbers
    fields: dict[str, Numbers]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, name: str) -> Numbers:
        return self.fields[name]

    def where(self, chosen: Numbers) -> ReadoutHeaders:
        """Select readouts by a mask or by indices."""
        return ReadoutHeaders(self.row[chosen], {name: values[chosen] for name, values in self.fields.items()})

    def flagged(self, *flags: int) -> NDArray[np.bool_]:
        """Mask of the readouts with one of the flags, numbered from 1 as in ISMRMRD."""
        bits = sum(1 << (flag - 1) for flag in flags)
        flagged: NDArray[np.bool_] = (self["flags"] & np.uint64(bits)) != 0
        return flagged


SampleSource = Callable[[ReadoutHeaders], Iterator[tuple[int, Complex]]]
"""Yields the samples of readouts, each with its index among them, complex64 (C, X): `read_samples` of a file, or what
has come of a stream."""


def concatenated(parts: Sequence[ReadoutHeaders]) -> ReadoutHeaders:
    """Headers of several parts, one after another."""
    fields = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].fields}
    return ReadoutHeaders(np.concatenate([part.row for part in parts]), fields)


def find_group(path: Path, group: str | None) -> str:
    """Find the group of the scan: the one named, or the only one.

    Raises
    ------
    UnreadableError
        If the file is missing, no HDF5, or holds no ISMRMRD scan.
    UnsupportedDataError
        If it holds several and none was chosen.
    """
    with opened(path) as file:
        scans: list[str] = [name for name, part in [("/", file), *file.items()] if _is_scan(part)]
        if group is not None:
            if group in file and _is_scan(file[group]):
                return group
            raise UnreadableError(f"{path} has no ISMRMRD scan in {group!r}; {_choice(scans)}")
        if len(scans) == 1:
            return scans[0]
        if scans:
            raise UnsupportedDataError(
                f"{path} holds {len(scans)} scans; {_choice(scans)}", remedy=("name one with ", Param("variable"))
            )
        if "kspace" in file:
            raise UnreadableError(
                f"{path} is no ISMRMRD file: it has a dataset 'kspace' as fastMRI files have, and no readouts with "
                "heads (data, xml); read it as fastMRI"
            )
        raise UnreadableError(
            f"{path} is HDF5 but no ISMRMRD file: no group of it has readouts (data) and a header (xml); it has "
            f"{', '.join(sorted(file)[:8]) or 'nothing'}"
        )


def read_header(path: Path, group: str) -> bytes:
    """Read the XML header of a scan.

    Raises
    ------
    UnreadableError
        If the file is damaged.
    """
    with opened(path) as file:
        return text_of(dataset(file[group], "xml", path), path)


def read_readout_headers(path: Path, group: str) -> ReadoutHeaders:
    """Read the headers of all readouts, without their samples.

    Raises
    ------
    UnreadableError
        If there are none, or they lack a field.
    """
    parts: list[ReadoutHeaders] = []
    with opened(path) as file:
        table = file[group]["data"]
        require_possible(len(table) * table.dtype.itemsize, path.stat().st_size, f"{path}, {group}/data")
        require_sound(table.dtype, f"{path}, {group}/data")
        _require_lengths(table, path)
        heads = table.fields("head")
        for first in range(0, len(table), _HEADS):
            part = heads[first : first + _HEADS]
            parts.append(headers_of(part, np.arange(first, first + len(part))))
    if not parts:
        raise UnreadableError(f"{path} has a header but no readouts: nothing was measured, or {_BROKEN}")
    return concatenated(parts)


def read_samples(path: Path, group: str, heads: ReadoutHeaders) -> Iterator[tuple[int, Complex]]:
    """Yield the samples of every readout, a block at a time in the order of the file.

    Yields
    ------
    The index of the readout among ``heads``, and its samples, complex64 (C, X).

    Raises
    ------
    UnreadableError
        If samples are missing, or are NaN or infinite; the readout is named.
    """
    order = np.argsort(heads.row, kind="stable")
    for first in range(0, len(order), BLOCK):
        indices = order[first : first + BLOCK]
        for index, stored in zip(indices.tolist(), _stored_samples(path, group, heads.row[indices]), strict=True):
            yield index, _samples(stored, heads, index)


def _stored_samples(path: Path, group: str, rows: Numbers) -> Numbers:
    """Samples of some readouts as stored.

    The file is closed again: one that a generator held open would be closed whenever memory is collected, perhaps while
    HDF5 reads another file, which ends the process by a signal.
    """
    together = len(rows) == rows[-1] - rows[0] + 1
    with opened(path) as file:
        table = file[group]["data"].fields("data")
        stored: Numbers = table[rows[0] : rows[-1] + 1] if together else table[rows.tolist()]
    return stored


def readout_name(heads: ReadoutHeaders, index: int) -> str:
    """Name of a readout in messages: its number in the file, from 1, and its scan counter."""
    return f"readout {int(heads.row[index]) + 1} (scan counter {int(heads['scan_counter'][index])})"


def _require_lengths(table: h5py.Dataset, path: Path) -> None:
    """Refuse readouts that state more values than the file has bytes for, before memory is reserved for them."""
    size = path.stat().st_size
    for member in ("traj", "data"):
        lengths = stored_lengths(table, member)
        if lengths is not None and 4 * int(lengths.sum(dtype=np.int64)) > size:
            at = int(lengths.argmax())
            raise UnreadableError(
                f"{path}: readout {at + 1} has {int(lengths[at])} numbers, more than the file of {size} bytes holds; "
                f"{_BROKEN}"
            )


def _wrong_length(heads: ReadoutHeaders, index: int, found: int) -> UnreadableError:
    coils, count = int(heads["active_channels"][index]), int(heads["number_of_samples"][index])
    return UnreadableError(
        f"{readout_name(heads, index)} has {found} numbers, where {coils} coils of {count} complex samples need "
        f"{2 * coils * count}: {_BROKEN}"
    )


def _samples(stored: Numbers, heads: ReadoutHeaders, index: int) -> Complex:
    coils, count = int(heads["active_channels"][index]), int(heads["number_of_samples"][index])
    values = np.ascontiguousarray(stored, np.float32)
    if values.size != 2 * coils * count:
        raise _wrong_length(heads, index, values.size)
    if not np.isfinite(values).all():
        raise UnreadableError(f"{readout_name(heads, index)} has NaN or infinite samples: {_BROKEN}")
    samples: Complex = values.view(np.complex64).reshape(coils, count)
    return samples


def headers_of(heads: Numbers, rows: Numbers) -> ReadoutHeaders:
    """Headers of readouts from N records of AcquisitionHeader.

    Parameters
    ----------
    rows : index of each readout in the file or the stream.

    Raises
    ------
    UnreadableError
        If a field is missing, or is no number.
    """
    try:
        fields = {name: heads[name].astype(np.int64) for name in _NUMBERS if name not in {"flags", "sample_time_us"}}
        fields |= {name: heads["idx"][name].astype(np.int64) for name in _COUNTERS}
        with np.errstate(invalid="ignore"):  # a NaN of a damaged header is looked at where it matters
            fields |= {name: heads[name].astype(np.float64) for name in (*_VECTORS, "sample_time_us")}
        fields["since_r_wave"] = heads["physiology_time_stamp"][:, 0].astype(np.int64)
        fields["flags"] = heads["flags"].astype(np.uint64)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UnreadableError(f"the heads of the readouts are not those of ISMRMRD ({error}); {_BROKEN}") from None
    return ReadoutHeaders(rows, fields)


def _is_scan(part: Any) -> bool:
    """Whether a group has a header and a table of readouts."""
    if not isinstance(part, h5py.Group) or not {"data", "xml"} <= set(part):
        return False
    data, xml = part["data"], part["xml"]
    if not isinstance(data, h5py.Dataset) or not isinstance(xml, h5py.Dataset):
        return False
    return {"head", "data"} <= set(data.dtype.names or ()) and data.ndim == 1


def _choice(scans: list[str]) -> str:
    return f"it has scans in {', '.join(map(repr, scans))}" if scans else "it holds none at all"

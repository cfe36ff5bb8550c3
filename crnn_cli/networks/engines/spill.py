"""Features that do not fit in memory, in a file.

Legend: N frame of any item, F feature, Y phase encoding, X readout.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, MutableSequence
from typing import Any

import torch
from torch import Tensor


class DiskTensorList(MutableSequence[Tensor]):
    """A list of features (N, F, Y, X) in a nameless file, in the folder for temporary files (TMPDIR).

    An element that is read is a copy in new memory, features innermost: changes must be assigned back. Elements are
    appended and removed at the end, and replaced by others of the same shape and dtype. The file is gone with the list,
    or with the process.

    >>> features = DiskTensorList()
    >>> features.append(torch.ones(1, 2, 3, 3))
    >>> len(features), features[0].shape
    (1, torch.Size([1, 2, 3, 3]))

    Raises
    ------
    OSError
        When the disk is full, or the file ends early.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._entries: list[tuple[int, torch.Size, torch.dtype]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        """Read an element into new memory."""
        offset, (n, f, y, x), dtype = self._entries[index]
        values_NYXF = torch.empty(n, y, x, f, dtype=dtype)
        left = memoryview(_bytes(values_NYXF))
        self._file.seek(offset)
        while left:
            count = self._file.readinto(left)
            if not count:
                raise OSError("a file of features ended early")
            left = left[count:]
        return values_NYXF.permute(0, 3, 1, 2)

    def __setitem__(self, index: Any, value: Tensor | Iterable[Tensor]) -> None:
        assert isinstance(value, Tensor)
        offset, shape, dtype = self._entries[index]
        if (value.shape, value.dtype) != (shape, dtype):
            raise ValueError(f"{tuple(shape)} of {dtype} cannot become {tuple(value.shape)} of {value.dtype}")
        self._write(offset, value)

    def __delitem__(self, index: Any) -> None:
        if index not in (-1, len(self) - 1):
            raise ValueError("only the last element can be taken away")
        self._entries.pop()

    def insert(self, index: int, value: Tensor) -> None:
        """Add an element; ValueError unless at the end."""
        if index != len(self):
            raise ValueError("an element can only be added at the end")
        offset = self._entries[-1][0] + _size(*self._entries[-1][1:]) if self._entries else 0
        self._write(offset, value)
        self._entries.append((offset, value.shape, value.dtype))

    def _write(self, offset: int, value: Tensor) -> None:
        left = memoryview(_bytes(value.permute(0, 2, 3, 1).contiguous()))
        self._file.seek(offset)
        while left:
            left = left[self._file.write(left) :]


def _size(shape: torch.Size, dtype: torch.dtype) -> int:
    return shape.numel() * dtype.itemsize


def _bytes(values: Tensor) -> Any:
    """Memory of contiguous values, as bytes."""
    return values.flatten().view(torch.uint8).numpy()

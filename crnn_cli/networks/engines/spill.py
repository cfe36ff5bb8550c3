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
    """A list of features (N, F, Y, X) in a file without a name, in the folder for temporary files (TMPDIR).

    What is asked for is read into new memory, features innermost; what is changed there must be put back. The file is
    gone with the list, or with the process. An element can only be replaced by one of the same size, added and taken
    at the end.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._kept: list[tuple[int, torch.Size, torch.dtype]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: Any) -> Any:
        """Return an element, in new memory."""
        place, (n, f, y, x), kind = self._kept[index]
        values_NYXF = torch.empty(n, y, x, f, dtype=kind)
        left = memoryview(_bytes(values_NYXF))
        self._file.seek(place)
        while left:
            count = self._file.readinto(left)
            if not count:
                raise OSError("a file of features ended early")
            left = left[count:]
        return values_NYXF.permute(0, 3, 1, 2)

    def __setitem__(self, index: Any, value: Tensor | Iterable[Tensor]) -> None:
        assert isinstance(value, Tensor)
        place, shape, kind = self._kept[index]
        if (value.shape, value.dtype) != (shape, kind):
            raise ValueError(f"{tuple(shape)} of {kind} cannot become {tuple(value.shape)} of {value.dtype}")
        self._write(place, value)

    def __delitem__(self, index: Any) -> None:
        if index not in (-1, len(self) - 1):
            raise ValueError("only the last element can be taken away")
        self._kept.pop()

    def insert(self, index: int, value: Tensor) -> None:
        """Add an element at the end."""
        if index != len(self):
            raise ValueError("an element can only be added at the end")
        place = self._kept[-1][0] + _size(*self._kept[-1][1:]) if self._kept else 0
        self._write(place, value)
        self._kept.append((place, value.shape, value.dtype))

    def _write(self, place: int, value: Tensor) -> None:
        left = memoryview(_bytes(value.permute(0, 2, 3, 1).contiguous()))
        self._file.seek(place)
        while left:
            left = left[self._file.write(left) :]


def _size(shape: torch.Size, kind: torch.dtype) -> int:
    return shape.numel() * kind.itemsize


def _bytes(values: Tensor) -> Any:
    """Return the memory of contiguous values."""
    return values.flatten().view(torch.uint8).numpy()

"""The grid on which a drawn structure is followed: a window around it, with pixels of a size that suits it.

The window is the bounding box of what is drawn, wider by half its longer side on each side, so that other slices fit in
it. Pixels are square, and such that the longer side of the box has 48 to 80 of them: a structure looks about as large
to the network whatever it is, and no image is enlarged more than three times.

Legend: S slice, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.labels.shape_interpolation import interpolate_distances
from crnn_cli.segmentation.preprocessing import SlicePreprocessing, normalise_intensity, resample_slices

_LEAST, _MOST, _ENLARGED = 48, 80, 3.0
_MARGIN = 0.5
_LEAST_MARGIN = 6
_MIRRORED = ((), (1,), (2,), (1, 2))
"""Axes along which the views are mirrored: their mean is better than one view (benchmarks/log.md)."""
INTENSITY = SlicePreprocessing(1.0, "percentiles", 1.0, 99.0)
"""How intensities are scaled; the spacing is that of a `StructureGrid`."""
Mask = NDArray[np.bool_]


class DrawnNetwork(Protocol):
    """Network such as `crnn_cli.networks.drawn_clstm.DrawnCLSTM`."""

    def follow(
        self, image_SYX: Tensor, distance_SYX: Tensor, known_S: Tensor, others_SYX: Tensor | None = None,
        progress: Callable[[int, int], None] = ...,
    ) -> Tensor:  # fmt: skip
        """Logits (S, Y, X) of one structure."""
        ...


@dataclass(frozen=True)
class StructureGrid:
    """A window of the slices, and its pixels for the network.

    Attributes
    ----------
    rows, columns : of the slices, of the window.
    size : rows and columns of the network's pixels in it.
    pixel : their side, mm.
    """

    rows: slice
    columns: slice
    size: tuple[int, int]
    pixel: float

    @staticmethod
    def around(drawn_YX: Mask, spacing: tuple[float, float], relative_margin: float = _MARGIN) -> StructureGrid:
        """Grid around what is drawn in any slice.

        Parameters
        ----------
        drawn_YX : at least one pixel.
        spacing : of rows and columns, mm.
        relative_margin : of the window on each side, relative to the longer side of the box.
        """
        spans, longest = [], 0.0
        for axis, mm in ((1, spacing[0]), (0, spacing[1])):
            inside = np.flatnonzero(drawn_YX.any(axis=axis))
            spans.append((int(inside[0]), int(inside[-1]) + 1))
            longest = max(longest, (spans[-1][1] - spans[-1][0]) * mm)
        fine = min(spacing)
        pixels = min(max(longest / fine, _LEAST), _MOST, _ENLARGED * longest / fine)
        pixel = longest / pixels
        windows, size = [], []
        for (start, stop), n, mm in zip(spans, drawn_YX.shape, spacing, strict=True):
            margin = max(_LEAST_MARGIN, round(relative_margin * longest / mm))
            low, high = max(0, start - margin), min(n, stop + margin)
            windows.append(slice(low, high))
            size.append(max(1, round((high - low) * mm / pixel)))
        return StructureGrid(windows[0], windows[1], (size[0], size[1]), pixel)


@dataclass(frozen=True)
class StructureInput:
    """What the network is given of a structure, on its grid.

    Attributes
    ----------
    grid : of the structure.
    image_SYX, distance_SYX, others_SYX : see `crnn_cli.networks.drawn_clstm.DrawnCLSTM.forward`.
    known_S : which slices are drawn.
    """

    grid: StructureGrid
    image_SYX: Tensor
    distance_SYX: Tensor
    known_S: Tensor
    others_SYX: Tensor | None

    @staticmethod
    def of(
        image_SYX: NDArray[np.float32], own_SYX: Mask, others_SYX: Mask, known_S: Mask, spacing: tuple[float, float]
    ) -> StructureInput:
        """Input of a structure that is drawn in some slices.

        Parameters
        ----------
        image_SYX : magnitudes, in any unit; they are scaled by percentiles of the window.
        own_SYX, others_SYX : the structure, and all others together; only drawn slices are looked at.
        known_S : which slices are drawn; the structure is in at least one of them.
        spacing : of rows and columns, mm.
        """
        drawn_YX: Mask = np.any(own_SYX[known_S], axis=0)
        grid = StructureGrid.around(drawn_YX, spacing)
        window = (slice(None), grid.rows, grid.columns)
        scaled = normalise_intensity(image_SYX[window], INTENSITY)
        others = others_SYX[window]
        return StructureInput(
            grid,
            resample_slices(torch.from_numpy(scaled)[:, None], grid.size)[:, 0],
            _distances(own_SYX[window], known_S, spacing, grid),
            torch.from_numpy(known_S.copy()),
            _distances(others, known_S, spacing, grid) if others[known_S].any() else None,
        )

    def with_distances(self, own_SYX: NDArray[np.float32], others_SYX: NDArray[np.float32] | None) -> StructureInput:
        """Copy that is told other signed distances, on the grid of the slices, in mm.

        Parameters
        ----------
        own_SYX : of the structure.
        others_SYX : of all others together; None where there is none.
        """

        def on_grid(mm_SYX: NDArray[np.float32]) -> Tensor:
            window_SYX = np.ascontiguousarray(mm_SYX[:, self.grid.rows, self.grid.columns])
            return resample_slices(torch.from_numpy(window_SYX)[:, None], self.grid.size)[:, 0] / self.grid.pixel

        others = None if others_SYX is None else on_grid(others_SYX)
        return replace(self, distance_SYX=on_grid(own_SYX), others_SYX=others)

    def of_slices(self, places: NDArray[np.int64]) -> StructureInput:
        """Copy with some of the slices.

        Parameters
        ----------
        places : of the slices, in order; at least one of them is drawn.
        """
        kept = torch.from_numpy(places)
        others = None if self.others_SYX is None else self.others_SYX[kept]
        return replace(
            self, image_SYX=self.image_SYX[kept], distance_SYX=self.distance_SYX[kept], known_S=self.known_S[kept],
            others_SYX=others,
        )  # fmt: skip

    def follow(
        self,
        network: DrawnNetwork,
        device: torch.device,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> NDArray[np.float32]:
        """Logits (S, Y, X) of the window, on the grid of the image: the mean over the four mirrored views."""
        known_S = self.known_S.to(device)
        stacks = (self.image_SYX, self.distance_SYX, self.others_SYX)
        logits_SYX = torch.zeros_like(self.image_SYX)
        for number, axes in enumerate(_MIRRORED):
            image, distance, others = (None if each is None else each.flip(axes).to(device) for each in stacks)
            assert image is not None
            assert distance is not None

            def part(done: int, total: int, number: int = number) -> None:
                progress(number * total + done, len(_MIRRORED) * total)

            logits_SYX += network.follow(image, distance, known_S, others, part).float().cpu().flip(axes)
        logits_SYX /= len(_MIRRORED)
        rows, columns = self.grid.rows, self.grid.columns
        size = (rows.stop - rows.start, columns.stop - columns.start)
        found: NDArray[np.float32] = resample_slices(logits_SYX[:, None], size)[:, 0].numpy()
        return found


def _distances(mask_SYX: Mask, known_S: Mask, spacing: tuple[float, float], grid: StructureGrid) -> Tensor:
    """Interpolated signed distances in pixels of the network."""
    mm_SYX = interpolate_distances(mask_SYX, known_S, (1.0, *spacing))
    return resample_slices(torch.from_numpy(mm_SYX)[:, None], grid.size)[:, 0] / grid.pixel

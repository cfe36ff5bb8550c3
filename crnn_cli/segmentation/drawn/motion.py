"""Shapes carried through the frames of a slice by its motion: each frame is registered to the drawn frames around it.

Let d be a drawn frame. Demons find the displacement u_t that makes I_d(x + u_t(x)) like I_t(x), coarse to fine, from
the displacement of the frame next to t on the side of d. So a long way is walked in small steps, but each of them ends
at the drawn frame itself: errors do not add up. The signed distance of a structure in frame t is that of the drawn
frame, read where the motion leads:

    D_t(x) = D_d(x + u_t(x))

Between two drawn frames both are walked from, and the distances interpolated as if neither moved. In a closed cycle
the sequence begins and ends with a drawn frame, so that it is walked both ways round.

Legend: S frame (slice of the stack over time), Y row, X column.

References
----------
Thirion: "Image matching as a diffusion process: an analogy with Maxwell's demons", Medical Image Analysis 2(3), 1998.
Vercauteren, Pennec, Perchant, Ayache: "Diffeomorphic demons: efficient non-parametric image registration",
NeuroImage 45(1), 2009 (forces of both images).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from crnn_cli.labels.shape_interpolation import Distances, between_distances, signed_distance
from crnn_cli.segmentation.drawn.stack import DrawnStack
from crnn_cli.segmentation.preprocessing import normalise_intensity, resample_slices
from crnn_cli.segmentation.structure_grid import INTENSITY, StructureGrid

Moved = Mapping[int, Distances]
"""Signed distances (S, Y, X) of each structure in mm, by its number."""
_MARGIN = 0.25
"""Of the window, on each side, relative to the longer side of what is drawn."""
_STEPS = ((4, 20), (2, 20), (1, 20))
"""Size of the pixels and iterations, one after the other."""
_SMOOTH = 1.0
"""Standard deviation of the Gaussian that smooths displacements, in pixels; chosen on development cases."""
_BRIGHT = 100.0  # intensities go from 0 to about this; demons leave differences below 0.001 alone
Field = NDArray[np.float64]


def moved_shapes(stack: DrawnStack, progress: Callable[[int, int], None] = lambda done, total: None) -> Moved:
    """Carry each structure from the drawn frames through the others.

    Parameters
    ----------
    stack : frames of one slice; a structure is drawn in at least one.
    progress : called with (frames registered, how many in all).

    Returns
    -------
    Signed distances of each structure that is drawn; in drawn frames those of what is drawn.
    """
    window = _Window.of(stack)
    drawn = [int(s) for s in np.flatnonzero(stack.known_S)]
    spans = [(None, drawn[0]), *itertools.pairwise(drawn), (drawn[-1], None)]
    walks = [walk for before, after in spans for walk in _walks(before, after, len(stack.known_S))]
    total, done = sum(len(frames) for _, frames in walks), 0
    found: dict[tuple[int, int], Mapping[int, Distances]] = {}
    for start, frames in walks:
        shapes = _shapes(stack, start)
        for s, field_2YX in zip(frames, window.followed(start, frames), strict=True):
            found[start, s] = {number: window.moved(shape, field_2YX) for number, shape in shapes.items()}
            done += 1
            progress(done, total)
    found |= {(d, d): _shapes(stack, d) for d in drawn}
    return {number: _between_drawn(stack, found, number) for number in stack.structures}


def _walks(before: int | None, after: int | None, count: int) -> Iterator[tuple[int, list[int]]]:
    """Walks through the frames between two drawn ones: where each begins, and through which frames it goes."""
    if before is not None:
        yield before, list(range(before + 1, count if after is None else after))
    if after is not None:
        yield after, list(range(after - 1, -1 if before is None else before, -1))


def _shapes(stack: DrawnStack, d: int) -> dict[int, Distances]:
    """Signed distances in mm of the structures of a drawn frame."""
    numbers = [int(number) for number in np.unique(stack.drawn_SYX[d]) if number]
    return {number: signed_distance(stack.drawn_SYX[d] == number, stack.spacing[1:]) for number in numbers}


def _between_drawn(
    stack: DrawnStack, found: Mapping[tuple[int, int], Mapping[int, Distances]], number: int
) -> Distances:
    """Signed distances of a structure in all frames, interpolated between those carried from either side."""
    drawn = [int(s) for s in np.flatnonzero(stack.known_S)]
    size = stack.drawn_SYX.shape[1:]
    nowhere_YX = np.full(size, -np.hypot(*(n * mm for n, mm in zip(size, stack.spacing[1:], strict=True))), np.float32)
    frames = []
    for s in range(len(stack.known_S)):
        before = max((d for d in drawn if d <= s), default=drawn[0])
        after = min((d for d in drawn if d >= s), default=drawn[-1])
        share = (s - before) / (after - before) if before < s < after else 0.0
        near, far = found[before, s], found[after, s]
        there = number in near or number in far
        frames.append(between_distances(near.get(number), far.get(number), share) if there else nowhere_YX)
    return np.stack(frames)


@dataclass(frozen=True)
class _Window:
    """Window around what is drawn, and the frames in it on the grid of the registration.

    Attributes
    ----------
    rows, columns : the window.
    image_SYX : intensities.
    """

    rows: slice
    columns: slice
    image_SYX: NDArray[np.float32]

    @staticmethod
    def of(stack: DrawnStack) -> _Window:
        drawn_YX = np.asarray((stack.drawn_SYX[stack.known_S] > 0).any(axis=0))
        grid = StructureGrid.around(drawn_YX, stack.spacing[1:], _MARGIN)
        scaled = normalise_intensity(stack.image_SYX[:, grid.rows, grid.columns], INTENSITY)
        image_SYX = resample_slices(torch.from_numpy(scaled)[:, None], grid.size)[:, 0].numpy()
        return _Window(grid.rows, grid.columns, (_BRIGHT * image_SYX).astype(np.float32))

    def followed(self, start: int, frames: list[int]) -> Iterator[Field]:
        """Displacements (2, Y, X), rows first, from each frame to the drawn one, in pixels of the window."""
        field: sitk.Image | None = None
        size = (self.rows.stop - self.rows.start, self.columns.stop - self.columns.start)
        scale = [n / m for n, m in zip(size, self.image_SYX.shape[1:], strict=True)]
        for s in frames:
            field = _registered(self.image_SYX[s], self.image_SYX[start], field)
            moved_2YX = np.moveaxis(sitk.GetArrayFromImage(field), -1, 0)[::-1]
            fine_21YX = resample_slices(torch.from_numpy(np.ascontiguousarray(moved_2YX))[:, None], size)
            yield fine_21YX[:, 0].numpy() * np.array(scale)[:, None, None]

    def moved(self, shape_YX: Distances, field_2YX: Field) -> Distances:
        """Signed distances read where displacements lead; beyond the window they stay."""
        found_YX = shape_YX.copy()
        first = np.array([self.rows.start, self.columns.start])[:, None, None]
        places_2YX = np.indices(field_2YX.shape[1:]) + first + field_2YX
        found_YX[self.rows, self.columns] = map_coordinates(shape_YX, places_2YX, order=1, mode="nearest")
        return found_YX


def _registered(frame_YX: NDArray[np.float32], drawn_YX: NDArray[np.float32], field: sitk.Image | None) -> sitk.Image:
    """Displacement from a frame to the drawn one, in pixels, columns first.

    Parameters
    ----------
    field : where it begins; None for none.
    """
    fixed, moving = sitk.GetImageFromArray(frame_YX), sitk.GetImageFromArray(drawn_YX)
    if field is None:
        field = sitk.Image(fixed.GetSize(), sitk.sitkVectorFloat64)
    for pixel, iterations in _STEPS:
        near, far = (_coarser(each, pixel) for each in (fixed, moving))
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetStandardDeviations(_SMOOTH)
        demons.SetSmoothUpdateField(False)
        demons.SetNumberOfThreads(1)  # a window is small
        field = demons.Execute(near, far, sitk.Resample(field, near))
    return field


def _coarser(image: sitk.Image, pixel: int) -> sitk.Image:
    """An image of larger pixels, smoothed before."""
    if pixel == 1:
        return image
    coarser: sitk.Image = sitk.Shrink(sitk.DiscreteGaussian(image, [(pixel / 2) ** 2] * 2), [pixel] * 2)
    return coarser

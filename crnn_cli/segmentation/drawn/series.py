"""Volume or series of which some slices are drawn: each drawn frame is completed, then followed through the others.

In a frame with drawn slices the others are labelled from them. After that each slice is a sequence over time, in which
these frames are drawn and the others are not: the same method labels it, in both directions. In a closed cycle the
last frame is followed by the first, so the sequence begins and ends with a drawn frame.

Legend: K structure (from 1), T frame, S slice, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.geometry import SliceOrder
from crnn_cli.data.image import Image, magnitude_of
from crnn_cli.segmentation.drawn.methods import FillMethod
from crnn_cli.segmentation.drawn.stack import Certainty, DrawnStack, FilledStack, FillSettings, Known, Numbers

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DrawnSeries:
    """Image, and what is drawn in it.

    Attributes
    ----------
    image : (x, y, z) or (x, y, z, t), finite.
    order : of the slices.
    numbers_TSYX : structures, in the order of the slices; 0 in slices that are not drawn.
    known_TS : which slices are drawn, at least one.
    structures : how many there are, K.
    """

    image: Image
    order: SliceOrder
    numbers_TSYX: Numbers
    known_TS: Known
    structures: int

    @property
    def drawn_frames(self) -> list[int]:
        """Frames of which some slice is drawn."""
        return [int(frame) for frame in np.flatnonzero(self.known_TS.any(axis=1))]

    def magnitudes(self, t: int) -> NDArray[np.float32]:
        """Magnitudes (S, Y, X) of a frame."""
        array = self.image.array[..., t] if self.image.array.ndim == 4 else self.image.array
        return np.ascontiguousarray(self.order.to_slices(magnitude_of(array)), np.float32)

    def stack(self, t: int) -> DrawnStack:
        """A frame of which some slices are drawn."""
        return DrawnStack(self.magnitudes(t), self.numbers_TSYX[t], self.known_TS[t], self.order.spacing)

    def on_grid(self, each_TSYX: NDArray[np.generic]) -> NDArray[np.generic]:
        """An array (..., T, S, Y, X) on the grid of the image: (..., x, y, z) or (..., x, y, z, t)."""
        ahead = each_TSYX.shape[:-4]
        frames = each_TSYX.reshape(-1, *each_TSYX.shape[-3:])
        placed = np.stack([self.order.from_slices(frame) for frame in frames])
        series = np.moveaxis(placed.reshape(*ahead, each_TSYX.shape[-4], *placed.shape[1:]), -4, -1)
        return series if self.image.array.ndim == 4 else series[..., 0]


@dataclass(frozen=True)
class FilledSeries:
    """Labels of every slice and frame.

    Attributes
    ----------
    numbers_TSYX : structures; drawn slices as they were drawn.
    certainty : of each frame; None where the method does not know.
    probability_KTSYX : of the background and of each structure, where they were kept.
    """

    numbers_TSYX: Numbers
    certainty: tuple[Certainty, ...] | None
    probability_KTSYX: NDArray[np.float32] | None = None


def label_series(
    series: DrawnSeries, method: FillMethod, settings: FillSettings, closed: bool = False,
    progress: Progress = lambda done, total: None,
) -> FilledSeries:  # fmt: skip
    """Label every slice of every frame from those that are drawn.

    Parameters
    ----------
    closed : the first frame follows the last.
    progress : called with (steps done, steps in all).
    """
    frames, slices = series.known_TS.shape
    drawn = series.drawn_frames
    followed = slices if len(drawn) < frames else 0
    work = _Work(method, settings, progress, len(drawn) + followed)
    complete = {t: work.fill(series.stack(t)) for t in drawn}
    if not followed:
        return _joined([complete[t] for t in range(frames)])
    image_TSYX = np.stack([series.magnitudes(t) for t in range(frames)])
    through = _frames_in_order(frames, drawn[0], closed)
    known_T = np.isin(through, drawn)
    columns = []
    for s in range(slices):
        drawn_TYX = np.zeros((len(through), *image_TSYX.shape[2:]), np.uint8)
        for place in np.flatnonzero(known_T):
            drawn_TYX[place] = complete[through[place]].labels_SYX[s]
        spacing = (1.0, *series.order.spacing[1:])
        columns.append(work.fill(DrawnStack(image_TSYX[through, s], drawn_TYX, known_T, spacing, over_time=True)))
    places = [through.index(t) for t in range(frames)]
    return _joined([complete[t] if t in complete else _frame_of(columns, places[t]) for t in range(frames)])


@dataclass
class _Work:
    """Stacks that are labelled one after the other, and their common progress."""

    method: FillMethod
    settings: FillSettings
    progress: Progress
    stacks: int
    done: int = 0

    def fill(self, stack: DrawnStack) -> FilledStack:
        def stack_progress(step: int, steps: int) -> None:
            self.progress(self.done * steps + step, self.stacks * steps)

        if stack.structures:
            made = self.method.fill(stack, self.settings, stack_progress)
        else:
            made = _background(stack, self.settings)
        self.done += 1
        self.progress(self.done, self.stacks)
        return made


def _background(stack: DrawnStack, settings: FillSettings) -> FilledStack:
    """A stack in which no structure is drawn."""
    none_SK, shape = np.zeros((len(stack.known_S), settings.structures)), stack.drawn_SYX.shape
    certainty = Certainty(none_SK, none_SK, none_SK.astype(np.int64), none_SK.sum(axis=1), none_SK > 0)
    kept = np.zeros((settings.structures + 1, *shape), np.float32) if settings.keep_probabilities else None
    if kept is not None:
        kept[0] = 1
    return FilledStack(np.zeros(shape, np.uint8), certainty, kept)


def _frames_in_order(frames: int, first: int, closed: bool) -> list[int]:
    """Frames as they are walked through; a closed cycle begins and ends with the same frame."""
    if not closed:
        return list(range(frames))
    return [(first + step) % frames for step in range(frames + 1)]


def _frame_of(columns: list[FilledStack], place: int) -> FilledStack:
    """One frame of slices that were each labelled over time."""
    labels_SYX = np.stack([column.labels_SYX[place] for column in columns])
    certain = [column.certainty for column in columns]
    found = [each for each in certain if each is not None]
    certainty = None
    if len(found) == len(columns):
        certainty = Certainty(
            *(np.stack([getattr(each, name)[place] for each in found])
              for name in [field.name for field in fields(Certainty)])
        )  # fmt: skip
    kept = [column.probability_KSYX[:, place] for column in columns if column.probability_KSYX is not None]
    probability = np.stack(kept, axis=1) if len(kept) == len(columns) else None
    return FilledStack(labels_SYX, certainty, probability)


def _joined(frames: list[FilledStack]) -> FilledSeries:
    """Frames as a series."""
    certain = [frame.certainty for frame in frames if frame.certainty is not None]
    kept = [frame.probability_KSYX for frame in frames if frame.probability_KSYX is not None]
    return FilledSeries(
        np.stack([frame.labels_SYX for frame in frames]),
        tuple(certain) if len(certain) == len(frames) else None,
        np.stack(kept, axis=1) if len(kept) == len(frames) else None,
    )

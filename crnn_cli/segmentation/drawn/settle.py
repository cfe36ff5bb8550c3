"""Structures that were found one by one are settled together: one label for each voxel.

    p_k = exp(logit_k) / (1 + sum over j of exp(logit_j))

is the probability of structure k; that of the background is what is left.

Legend: K structure (from 1), S slice, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.segmentation.drawn.stack import Certainty, DrawnStack, FilledStack, FillSettings, Known, Numbers

_LARGEST = 30.0  # logits beyond are as certain


@dataclass(frozen=True)
class BoxedLogits:
    """Logits of one structure within a box of the slices; beyond it the structure is not.

    Attributes
    ----------
    number : of the structure.
    rows, columns : the box.
    logits_SYX : float16 will do.
    interpolated_S : slices whose logits a network left to interpolated distances; None: none.
    """

    number: int
    rows: slice
    columns: slice
    logits_SYX: NDArray[np.floating]
    interpolated_S: Known | None = None


def settle(
    stack: DrawnStack, logits: Sequence[BoxedLogits], settings: FillSettings, labels_SYX: Numbers | None = None
) -> FilledStack:
    """Label each voxel where the structures together reach the threshold, with the likeliest; drawn slices stay.

    Parameters
    ----------
    stack : whose drawn slices are kept.
    logits : of each structure that is drawn.
    labels_SYX : labels that were made otherwise; then only their certainty is computed.
    """
    count, shape = settings.structures, stack.drawn_SYX.shape
    made_SYX = np.zeros(shape, np.uint8)
    inside_SK, total_SK, doubtful_S = np.zeros((shape[0], count)), np.zeros((shape[0], count)), np.zeros(shape[0])
    kept = np.zeros((count + 1, *shape), np.float32) if settings.keep_probabilities else None
    for s in range(shape[0]):
        if stack.known_S[s]:
            made_SYX[s] = stack.drawn_SYX[s]
            inside_SK[s] = total_SK[s] = _sizes(made_SYX[s], count)
            if kept is not None:
                kept[:, s] = made_SYX[s] == np.arange(count + 1)[:, None, None]
            continue
        odds = _SliceOdds.of(logits, s, (shape[1], shape[2]))
        made_SYX[s] = odds.labels(settings.threshold) if labels_SYX is None else labels_SYX[s]
        doubtful_S[s] = odds.doubtful(made_SYX[s])
        for number, box, p_YX in odds.probabilities():
            inside_SK[s, number - 1] = p_YX[made_SYX[s][box] == number].sum(dtype=np.float64)
            total_SK[s, number - 1] = p_YX.sum(dtype=np.float64)
            if kept is not None:
                kept[number, s][box] = p_YX
        if kept is not None:
            kept[0, s] = 1 / odds.sum_YX
    size_SK = np.stack([_sizes(labels_YX, count) for labels_YX in made_SYX])
    interpolated_SK = np.zeros((shape[0], count), bool)
    for each in logits:
        if each.interpolated_S is not None:
            interpolated_SK[:, each.number - 1] = each.interpolated_S
    return FilledStack(made_SYX, Certainty(inside_SK, total_SK, size_SK, doubtful_S, interpolated_SK), kept)


@dataclass(frozen=True)
class _SliceOdds:
    """Odds of the structures of a slice against the background, and their sum with its own, which are 1."""

    odds: list[tuple[int, tuple[slice, slice], NDArray[np.float32]]]
    sum_YX: NDArray[np.float32]

    @staticmethod
    def of(logits: Sequence[BoxedLogits], s: int, size: tuple[int, int]) -> _SliceOdds:
        sum_YX = np.ones(size, np.float32)
        odds = []
        for each in logits:
            box = each.rows, each.columns
            odds_YX = np.exp(each.logits_SYX[s].astype(np.float32).clip(-_LARGEST, _LARGEST))
            sum_YX[box] += odds_YX
            odds.append((each.number, box, odds_YX))
        return _SliceOdds(odds, sum_YX)

    def labels(self, threshold: float) -> NDArray[np.uint8]:
        """The likeliest structure where all together reach the threshold."""
        best_YX, likeliest_YX = np.zeros(self.sum_YX.shape, np.float32), np.zeros(self.sum_YX.shape, np.uint8)
        for number, box, odds_YX in self.odds:
            better = odds_YX > best_YX[box]
            best_YX[box][better], likeliest_YX[box][better] = odds_YX[better], number
        return np.where(1 - 1 / self.sum_YX >= threshold, likeliest_YX, 0).astype(np.uint8)

    def probabilities(self) -> Iterator[tuple[int, tuple[slice, slice], NDArray[np.float32]]]:
        """Number, box and probability of each structure."""
        for number, box, odds_YX in self.odds:
            yield number, box, odds_YX / self.sum_YX[box]

    def doubtful(self, labels_YX: NDArray[np.uint8]) -> float:
        """Sum over all voxels of the probability that the label is wrong."""
        right_YX = np.where(labels_YX == 0, 1 / self.sum_YX, 0.0)
        for number, box, p_YX in self.probabilities():
            right_YX[box] += np.where(labels_YX[box] == number, p_YX, 0.0)
        return float((1 - right_YX).sum(dtype=np.float64))


def _sizes(labels_YX: Numbers, structures: int) -> NDArray[np.int64]:
    """Voxels of each structure."""
    sizes: NDArray[np.int64] = np.bincount(labels_YX.ravel(), minlength=structures + 1)[1 : structures + 1]
    return sizes

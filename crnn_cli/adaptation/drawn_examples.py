"""Examples to tune a network for drawn slices on: some drawn slices of a scan are hidden, and have to be found again.

Legend: S slice, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.segmentation.drawn.methods import coarse_slices, structure_input
from crnn_cli.segmentation.drawn.stack import DrawnStack, Known
from crnn_cli.segmentation.preprocessing import resample_slices
from crnn_cli.segmentation.structure_grid import DrawnNetwork, StructureInput

Places = NDArray[np.int64]
_ALSO_VISIBLE = 0.1
"""Weight in the loss of a slice that is not hidden."""
_SLICES = 8
"""Slices of an example, at most but for drawn ones: as in training."""
_MARGIN = 12.0
"""Pixels of the network around the structure, in an example."""
_GRAIN = 32  # pixels
_BRIGHTER, _STEEPER = 0.1, 0.25  # largest change of brightness, and of the logarithm of contrast and of gamma


@dataclass(frozen=True)
class Example:
    """One structure of a stack of which some drawn slices are hidden.

    Attributes
    ----------
    given : what the network is told.
    target_SYX : the structure, 0 to 1, in the slices that were drawn.
    weight_S : of each slice in the loss; 0 where nothing is known.
    """

    given: StructureInput
    target_SYX: Tensor
    weight_S: Tensor

    def logits(self, network: torch.nn.Module, device: torch.device) -> Tensor:
        """Logits (S, Y, X) of the network, with gradients."""
        given = self.given
        others = None if given.others_SYX is None else given.others_SYX.to(device)[None]
        tensors = (given.image_SYX, given.distance_SYX, given.known_S)
        image_SYX, distance_SYX, known_S = (each.to(device) for each in tensors)
        logits_BSYX: Tensor = network(image_SYX[None], distance_SYX[None], known_S[None], others)
        return logits_BSYX[0].float()

    def loss(self, network: torch.nn.Module, device: torch.device) -> Tensor:
        """Cross-entropy and soft Dice, by the weight of the slices."""
        logits_SYX, target_SYX = self.logits(network, device), self.target_SYX.to(device)
        weight_S11 = self.weight_S.to(device)[:, None, None]
        entropy_SYX = F.binary_cross_entropy_with_logits(logits_SYX, target_SYX, reduction="none")
        entropy = (entropy_SYX * weight_S11).mean(dim=(1, 2)).sum() / weight_S11.sum()
        p_SYX = torch.sigmoid(logits_SYX)
        common, both = ((each * weight_S11).sum() for each in (p_SYX * target_SYX, p_SYX + target_SYX))
        return entropy + 1 - (2 * common + 1) / (both + 1)

    def dice(self, network: DrawnNetwork, device: torch.device) -> float | None:
        """Dice of the hidden slices by a network; None where the structure is neither there nor found."""
        given = self.given
        others = None if given.others_SYX is None else given.others_SYX.to(device)
        image_SYX, distance_SYX, known_S = (
            each.to(device) for each in (given.image_SYX, given.distance_SYX, given.known_S)
        )
        logits_SYX = network.follow(image_SYX, distance_SYX, known_S, others)
        hidden_S, found_SYX = self.weight_S == 1, logits_SYX.cpu() > 0
        found, true = found_SYX[hidden_S], self.target_SYX[hidden_S] > 0.5
        size = int(found.sum() + true.sum())
        return 2 * int((found & true).sum()) / size if size else None


def example_of(stack: DrawnStack, number: int, visible_S: Known) -> Example:
    """Hide drawn slices of a stack, and ask for one structure in them.

    The stack is cut to what lies between the visible slices around those that are hidden.

    Parameters
    ----------
    number : of the structure, which is drawn in a visible slice of the part.
    visible_S : the drawn slices that are not hidden.
    """
    part = _part_around(np.flatnonzero(stack.known_S & ~visible_S), np.flatnonzero(visible_S), stack, number)
    shown_S, known_S, drawn_SYX = visible_S[part], stack.known_S[part], stack.drawn_SYX[part]
    shown_SYX = np.where(shown_S[:, None, None], drawn_SYX, 0).astype(np.uint8)
    given = structure_input(DrawnStack(stack.image_SYX[part], shown_SYX, shown_S, stack.spacing), number)
    window_SYX = drawn_SYX[:, given.grid.rows, given.grid.columns] == number
    target_SYX = torch.from_numpy(window_SYX.astype(np.float32))
    weight_S = np.where(known_S & ~shown_S, 1.0, np.where(shown_S, _ALSO_VISIBLE, 0.0)).astype(np.float32)
    return Example(given, resample_slices(target_SYX[:, None], given.grid.size)[:, 0], torch.from_numpy(weight_S))


def _part_around(hidden: Places, visible: Places, stack: DrawnStack, number: int) -> Places:
    """Slices from the last visible one before those that are hidden to the first one after them.

    Wider where no slice of the part shows the structure; all drawn ones and those between where nothing is hidden. Of
    long gaps a few slices, as when a stack is labelled.
    """
    drawn = np.flatnonzero(stack.known_S)
    whole = slice(int(drawn[0]), int(drawn[-1]) + 1)  # beyond them nothing is known
    if not len(hidden):
        return _thinned(whole, stack)
    first, last = int(hidden[0]), int(hidden[-1])
    before, after = visible[visible < first], visible[visible > last]
    part = slice(int(before[-1]) if len(before) else first, int(after[0]) + 1 if len(after) else last + 1)
    seen = [s for s in visible if part.start <= s < part.stop and (stack.drawn_SYX[s] == number).any()]
    return _thinned(part if seen else whole, stack)


def _thinned(part: slice, stack: DrawnStack) -> Places:
    coarse = coarse_slices(stack.known_S[part])
    places: Places = np.arange(part.start, part.stop) if coarse is None else part.start + coarse
    return places


def draw_example(stacks: Sequence[DrawnStack], generator: np.random.Generator) -> Example:
    """Draw a stack, a structure and the slices that are hidden, and vary them at random.

    Parameters
    ----------
    stacks : each with two drawn slices or more.
    """
    stack = stacks[int(generator.integers(len(stacks)))]
    numbers = stack.structures
    number = numbers[int(generator.integers(len(numbers)))]
    drawn = np.flatnonzero(stack.known_S)
    full = np.flatnonzero((stack.drawn_SYX == number).any(axis=(1, 2)))
    hidden = generator.permutation(drawn)[: int(generator.integers(1, len(drawn)))]
    visible_S = stack.known_S.copy()
    visible_S[hidden] = False
    if not visible_S[full].any():
        visible_S[generator.choice(full)] = True
    return _varied(_smaller(example_of(stack, number, visible_S), generator), generator)


def _smaller(example: Example, generator: np.random.Generator) -> Example:
    """The example with at most `_SLICES` slices, cut to the structure and a margin: memory and time go by its size.

    Drawn slices stay. Intensities are still those that the whole window was scaled by.
    """
    given = example.given
    near_YX = (given.distance_SYX > -_MARGIN).any(0) | (example.target_SYX > 0).any(0)
    cut = tuple(_span(near_YX.any(dim=axis)) for axis in (1, 0))
    open_S = (example.weight_S == 0).numpy()
    spare = max(0, min(int(open_S.sum()), len(open_S) - _SLICES))
    chosen_S = np.ones(len(open_S), bool)
    chosen_S[generator.choice(np.flatnonzero(open_S), spare, replace=False)] = False
    kept = torch.from_numpy(chosen_S)

    def part(each_SYX: Tensor) -> Tensor:
        return each_SYX[kept][:, cut[0], cut[1]]

    told = replace(
        given, image_SYX=part(given.image_SYX), distance_SYX=part(given.distance_SYX), known_S=given.known_S[kept],
        others_SYX=None if given.others_SYX is None else part(given.others_SYX),
    )  # fmt: skip
    return Example(told, part(example.target_SYX), example.weight_S[kept])


def _span(inside: Tensor) -> slice:
    """From the first to the last that is inside, longer to a multiple of `_GRAIN` where there is room.

    Convolutions are prepared anew for every size, so there are to be few.
    """
    found = inside.nonzero()[:, 0]
    first, last = int(found[0]), int(found[-1]) + 1
    length = min(len(inside), -(-(last - first) // _GRAIN) * _GRAIN)
    start = min(max(0, (first + last - length) // 2), len(inside) - length)
    return slice(start, start + length)


def _varied(example: Example, generator: np.random.Generator) -> Example:
    """The example flipped, turned and with another contrast."""
    given = example.given
    axes = [axis for axis in (0, 1, 2) if generator.random() < 0.5]
    turned = bool(generator.random() < 0.5)

    def moved(each: Tensor) -> Tensor:
        flipped = each.flip(axes)
        return (flipped.transpose(1, 2) if turned else flipped).contiguous()

    def ordered(each: Tensor) -> Tensor:
        return each.flip(0) if 0 in axes else each

    contrast, gamma = np.exp(generator.uniform(-_STEEPER, _STEEPER, 2))
    brighter = float(generator.uniform(-_BRIGHTER, _BRIGHTER))
    told = replace(
        given,
        image_SYX=moved(given.image_SYX).clamp(min=0) ** float(gamma) * float(contrast) + brighter,
        distance_SYX=moved(given.distance_SYX),
        others_SYX=None if given.others_SYX is None else moved(given.others_SYX),
        known_S=ordered(given.known_S),
    )
    return Example(told, moved(example.target_SYX), ordered(example.weight_S))

"""Examples to tune a network for drawn slices on: some drawn slices of a scan are hidden, and have to be found again.

Legend: S slice, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crnn_cli.segmentation.drawn.methods import structure_input
from crnn_cli.segmentation.drawn.stack import DrawnStack, Known
from crnn_cli.segmentation.preprocessing import resample_slices
from crnn_cli.segmentation.structure_grid import StructureInput

_ALSO_VISIBLE = 0.1
"""Weight in the loss of a slice that is not hidden."""
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

    def dice(self, network: torch.nn.Module, device: torch.device) -> float | None:
        """Dice of the hidden slices; None where the structure is neither there nor found."""
        with torch.no_grad():
            found_SYX = (self.logits(network, device) > 0).cpu()
        hidden_S = self.weight_S == 1
        found, true = found_SYX[hidden_S], self.target_SYX[hidden_S] > 0.5
        size = int(found.sum() + true.sum())
        return 2 * int((found & true).sum()) / size if size else None


def example_of(stack: DrawnStack, number: int, visible_S: Known) -> Example:
    """Hide drawn slices of a stack, and ask for one structure in them.

    Parameters
    ----------
    number : of the structure, which is drawn in a visible slice.
    visible_S : the drawn slices that are not hidden.
    """
    drawn = np.flatnonzero(stack.known_S)
    part = slice(int(drawn[0]), int(drawn[-1]) + 1)  # beyond them nothing is known
    shown_S = visible_S[part]
    shown_SYX = np.where(shown_S[:, None, None], stack.drawn_SYX[part], 0).astype(np.uint8)
    given = structure_input(DrawnStack(stack.image_SYX[part], shown_SYX, shown_S, stack.spacing), number)
    window_SYX = stack.drawn_SYX[part, given.grid.rows, given.grid.columns] == number
    target_SYX = torch.from_numpy(window_SYX.astype(np.float32))
    hidden_S = stack.known_S[part] & ~shown_S
    weight_S = torch.from_numpy(np.where(hidden_S, 1.0, np.where(shown_S, _ALSO_VISIBLE, 0.0)).astype(np.float32))
    return Example(given, resample_slices(target_SYX[:, None], given.grid.size)[:, 0], weight_S)


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
    return _varied(example_of(stack, number, visible_S), generator)


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

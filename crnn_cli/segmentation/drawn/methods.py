"""Methods that label a stack from its drawn slices: a network, interpolated signed distances, the nearest drawn slice.

Legend: K structure (from 1), S slice, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.shape_interpolation import interpolate_distances
from crnn_cli.segmentation.drawn.baselines import copy_nearest, interpolate_shapes
from crnn_cli.segmentation.drawn.settle import BoxedLogits, settle
from crnn_cli.segmentation.drawn.stack import DrawnStack, FilledStack, FillSettings
from crnn_cli.segmentation.structure_grid import DrawnNetwork, StructureInput

Progress = Callable[[int, int], None]
_LARGEST = 100.0  # logits beyond are as certain


class FillMethod(Protocol):
    """Method that labels the slices that are not drawn."""

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack in which at least one structure is drawn.

        Parameters
        ----------
        progress : called with (steps done, steps in all).
        """
        ...


class NearestSlice:
    """Copy of the nearest drawn slice; nothing is said of its certainty."""

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack; see `FillMethod`."""
        del settings
        progress(1, 1)
        return FilledStack(copy_nearest(stack.drawn_SYX, stack.known_S))


class InterpolatedDistances:
    """Interpolation of signed distances; their depth in pixels is taken for logits."""

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack; see `FillMethod`. The threshold does not count."""
        numbers, pixel = stack.structures, min(stack.spacing[1:])
        logits = []
        for done, number in enumerate(numbers):
            depth_SYX = interpolate_distances(stack.drawn_SYX == number, stack.known_S, stack.spacing) / pixel
            clipped_SYX = depth_SYX.clip(-_LARGEST, _LARGEST).astype(np.float16)
            logits.append(BoxedLogits(number, slice(None), slice(None), clipped_SYX))
            progress(done + 1, len(numbers))
        labels_SYX = interpolate_shapes(stack.drawn_SYX, stack.known_S, stack.spacing)
        return settle(stack, logits, settings, labels_SYX)


@dataclass(frozen=True)
class RecurrentNetwork:
    """The network, structure by structure.

    Attributes
    ----------
    network : in evaluation mode, on ``device``.
    bfloat16 : convolutions in bfloat16.
    """

    network: DrawnNetwork
    device: torch.device
    bfloat16: bool = False

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Progress) -> FilledStack:
        """Label a stack; see `FillMethod`.

        Raises
        ------
        UnsupportedDataError
            If the logits come out not finite.
        """
        numbers = stack.structures
        logits = []
        for done, number in enumerate(numbers):

            def structure_progress(step: int, steps: int, done: int = done) -> None:
                progress(done * steps + step, len(numbers) * steps)

            logits.append(self._logits(stack, number, structure_progress))
        return settle(stack, logits, settings)

    def _logits(self, stack: DrawnStack, number: int, progress: Progress) -> BoxedLogits:
        """Logits of one structure, on the grid of the stack."""
        given = structure_input(stack, number)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            made_SYX = given.follow(self.network, self.device, progress)
        if not bool(np.isfinite(made_SYX).all()):
            raise UnsupportedDataError(
                "the network produced values that are not finite: the input's range is not usable"
            )
        clipped_SYX = made_SYX.clip(-_LARGEST, _LARGEST).astype(np.float16)
        return BoxedLogits(number, given.grid.rows, given.grid.columns, clipped_SYX)


def structure_input(stack: DrawnStack, number: int) -> StructureInput:
    """What a network is given of one structure of a stack.

    Parameters
    ----------
    number : of the structure, which is drawn in some slice.
    """
    own_SYX = stack.drawn_SYX == number
    others_SYX = (stack.drawn_SYX > 0) & ~own_SYX
    return StructureInput.of(stack.image_SYX, own_SYX, others_SYX, stack.known_S, stack.spacing[1:])

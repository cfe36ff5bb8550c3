"""Samples of k-space kept from frame to frame: view sharing that looks back only.

Legend: N coil or batch, T frame, Y phase encoding, X readout (1 where whole lines are measured, in masks).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_KEPT = 0.5
"""Weight of a sample relative to one that was measured a frame later."""


@dataclass(frozen=True)
class RunningSamples:
    """Weighted mean of each sample over the frames that measured it, later ones with more weight.

    A sample measured in frames s has the value sum_s w(s) y_s / sum_s w(s), w(s) = 0.5^(last - s), where last is the
    latest of them. It stays as it is until it is measured again, and is zero before it was measured at all. The memory
    is that of one frame, however many have passed.

    >>> samples = RunningSamples.empty(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1))
    >>> samples = samples.updated(torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[1.0], [0.0]]]))
    >>> samples.updated(torch.tensor([[[6.0], [1.0]]]), torch.ones(1, 2, 1)).value_NYX.flatten().tolist()
    [5.0, 1.0]

    Attributes
    ----------
    value_NYX : the means, in the space of the data given.
    weight_NYX : sum of the weights, in units of that of the last measurement.
    age_NYX : frames since the last measurement.
    """

    value_NYX: Tensor
    weight_NYX: Tensor
    age_NYX: Tensor

    @classmethod
    def empty(cls, data_NYX: Tensor, mask_NYX: Tensor) -> RunningSamples:
        """Hold nothing yet, for data and masks of these shapes."""
        nothing = torch.zeros_like(mask_NYX)
        return cls(torch.zeros_like(data_NYX), nothing, nothing)

    def updated(self, data_NYX: Tensor, mask_NYX: Tensor) -> RunningSamples:
        """Take in the samples of the next frame.

        Parameters
        ----------
        data_NYX : samples; those outside the mask are ignored.
        mask_NYX : 0/1.
        """
        measured = mask_NYX > 0
        before = self.weight_NYX * _KEPT ** (self.age_NYX + 1)
        value = torch.where(measured, (before * self.value_NYX + data_NYX) / (before + 1), self.value_NYX)
        return RunningSamples(
            value,
            torch.where(measured, before + 1, self.weight_NYX),
            torch.where(measured, 0.0, self.age_NYX + 1),
        )

    def filled(self, data_NYX: Tensor, mask_NYX: Tensor) -> Tensor:
        """Samples of a frame, with those that it lacks from the frames before."""
        return torch.where(mask_NYX > 0, data_NYX, self.value_NYX)


def running_series(data_NTYX: Tensor, mask_NTYX: Tensor) -> Tensor:
    """Fill each frame of a series from the frames before it, (N, T, Y, X).

    Parameters
    ----------
    data_NTYX : zero where not measured.
    mask_NTYX : 0/1, broadcastable to the data.
    """
    mask_NTYX = mask_NTYX.expand(len(data_NTYX), data_NTYX.shape[1], -1, -1)
    samples, filled = RunningSamples.empty(data_NTYX[:, 0], mask_NTYX[:, 0]), []
    for data_NYX, mask_NYX in zip(data_NTYX.unbind(1), mask_NTYX.unbind(1), strict=True):
        samples = samples.updated(data_NYX, mask_NYX)
        filled.append(samples.filled(data_NYX, mask_NYX))
    return torch.stack(filled, 1)

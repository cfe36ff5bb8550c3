"""Optimisers of network weights: Muon, and the running average (EMA) that is validated and published.

Muon replaces the running mean of the gradients of a convolution, as a matrix of outputs by inputs and taps, by the
nearest matrix with orthonormal rows. Every direction in which a step changes the layer is then equally long, however
weak its gradient. Biases and other weights are updated by Adam.

Legend: M matrix, O output, I inputs of an output (channels and taps).

References
----------
Jordan et al.: "Muon: an optimizer for hidden layers in neural networks", 2024, with its five Newton-Schulz iterations;
Bernstein, Newhouse: "Old optimizer, new norm", arXiv 2409.20325.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MIN_OUTPUTS = 8  # outputs of a matrix
_ITERATIONS, _COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
_TINY = 1e-12


class Muon:
    """Muon for convolutions with at least 8 outputs, Adam for all other weights.

    Parameters
    ----------
    weights : of the network.
    rate : length of a step: its largest singular value, for a matrix that is not taller than wide; times
        sqrt(rows / columns) for a taller one.
    momentum : of the running mean of the gradients, with Nesterov's look-ahead.
    other_rate : learning rate of Adam.
    """

    def __init__(self, weights: Iterable[nn.Parameter], rate: float, momentum: float, other_rate: float) -> None:
        self.momentum, self._own = momentum, {"lr": rate}
        weights = list(weights)
        self._by_shape = defaultdict[torch.Size, list[nn.Parameter]](list)
        for weight in weights:
            if _is_matrix(weight):
                self._by_shape[weight.shape].append(weight)
        self._means = {weight: torch.zeros_like(weight) for weight in weights if _is_matrix(weight)}
        self._other = torch.optim.Adam([weight for weight in weights if not _is_matrix(weight)], lr=other_rate)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Rates of both, as ``lr``, to be changed in place; as of any optimiser of torch."""
        return [self._own, *self._other.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients of all weights."""
        for weight in self._means:
            weight.grad = None
        self._other.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """State to go on from, without the weights."""
        return {"means": list(self._means.values()), "other": self._other.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same network.

        Raises
        ------
        ValueError, RuntimeError, KeyError, TypeError
            If it is of another network.
        """
        for mean, saved in zip(self._means.values(), state["means"], strict=True):
            if mean.shape != saved.shape:
                raise ValueError(f"a mean gradient is of {tuple(saved.shape)}, the weights of {tuple(mean.shape)}")
            mean.copy_(saved)
        self._other.load_state_dict(state["other"])

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights that have gradients."""
        for weights in self._by_shape.values():
            moved = [weight for weight in weights if weight.grad is not None]
            if moved:
                steps_MOI = orthogonalise(torch.stack([self._nesterov(weight).flatten(1) for weight in moved]))
                rows, columns = steps_MOI.shape[1:]
                for weight, step in zip(moved, steps_MOI, strict=True):
                    weight.sub_(step.view_as(weight), alpha=self._own["lr"] * max(1.0, rows / columns) ** 0.5)
        self._other.step()

    def _nesterov(self, weight: nn.Parameter) -> Tensor:
        assert weight.grad is not None
        mean = self._means[weight].lerp_(weight.grad, 1 - self.momentum)
        direction: Tensor = weight.grad.lerp(mean, self.momentum)
        return direction


def orthogonalise(matrices_MOI: Tensor) -> Tensor:
    """Bring all singular values near 1 (0.7 to 1.2) and keep the singular vectors, by five Newton-Schulz iterations.

    Singular values below a hundredth of the matrix norm stay smaller; zeros stay zeros.

    Parameters
    ----------
    matrices_MOI : a stack of matrices, real.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> values = torch.linalg.svdvals(orthogonalise(torch.randn(1, 8, 20)))
    >>> bool(values.min() > 0.6 and values.max() < 1.3)
    True
    """
    first, second, third = _COEFFICIENTS
    rows, columns = matrices_MOI.shape[1:]
    wide = matrices_MOI.mT if rows > columns else matrices_MOI
    near: Tensor = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp_min(_TINY)
    for _ in range(_ITERATIONS):
        gram = near @ near.mT
        near = first * near + (second * gram + third * gram @ gram) @ near
    return near.mT if rows > columns else near


def update_ema(averaged: nn.Module, network: nn.Module, step: int, slowest: float) -> None:
    """Move a running average of parameters and buffers towards those of a network.

    The decay is min(slowest, (1 + step) / (10 + step)): early averages forget faster. Integer buffers are copied.

    Parameters
    ----------
    averaged, network : of the same structure; the first is changed in place.
    step : optimiser steps done before this one.
    slowest : the decay that is approached.
    """
    decay = min(slowest, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, current in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(current, 1 - decay)
            else:
                mean.copy_(current)


def _is_matrix(weight: Tensor) -> bool:
    return weight.dim() > 1 and len(weight) >= _MIN_OUTPUTS

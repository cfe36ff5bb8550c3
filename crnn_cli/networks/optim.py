"""Muon: steps of weights whose directions all count the same.

The running mean of the gradients of a convolution, as a matrix of outputs by all that they are made of, is replaced by
the nearest one with orthonormal rows: each direction in which it changes what the layer does is as long as any other,
however weak its gradient. Biases and other weights go by Adam.

References
----------
Jordan et al.: "Muon: an optimizer for hidden layers in neural networks", 2024, with its five Newton-Schulz iterations;
Bernstein, Newhouse: "Old optimizer, new norm", arXiv 2409.20325.

Legend: M matrix, O output, I all that an output is made of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_FEWEST = 8  # outputs of a matrix
_ITERATIONS, _COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
_TINY = 1e-12


class Muon:
    """An optimiser of weights by their gradients.

    rate : length of a step, of a matrix of more columns than rows its largest singular value. momentum : of the mean of
    gradients, which this one counts in once more (Nesterov). other_rate : of Adam, for all that is no matrix: biases,
    and convolutions of fewer than 8 outputs.
    """

    def __init__(self, weights: Iterable[nn.Parameter], rate: float, momentum: float, other_rate: float) -> None:
        self.rate, self.momentum = rate, momentum
        every = list(weights)
        self._alike = defaultdict[torch.Size, list[nn.Parameter]](list)
        for weight in every:
            if _is_matrix(weight):
                self._alike[weight.shape].append(weight)
        self._means = {weight: torch.zeros_like(weight) for weight in every if _is_matrix(weight)}
        self._other = torch.optim.Adam([weight for weight in every if not _is_matrix(weight)], lr=other_rate)

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights that have gradients."""
        for weights in self._alike.values():
            moved = [weight for weight in weights if weight.grad is not None]
            if moved:
                steps_MOI = orthogonalise(torch.stack([self._towards(weight).flatten(1) for weight in moved]))
                rows, columns = steps_MOI.shape[1:]
                for weight, step in zip(moved, steps_MOI, strict=True):
                    weight.sub_(step.view_as(weight), alpha=self.rate * max(1.0, rows / columns) ** 0.5)
        self._other.step()

    def _towards(self, weight: nn.Parameter) -> Tensor:
        assert weight.grad is not None
        mean = self._means[weight].lerp_(weight.grad, 1 - self.momentum)
        towards: Tensor = weight.grad.lerp(mean, self.momentum)
        return towards


def orthogonalise(matrices_MOI: Tensor) -> Tensor:
    """Return matrices with the same singular vectors, whose singular values are near 1: from 0.7 to 1.2 or so.

    What was weaker than a hundredth of all is left weaker, and zeros stay zeros.
    """
    first, second, third = _COEFFICIENTS
    rows, columns = matrices_MOI.shape[1:]
    wide = matrices_MOI.mT if rows > columns else matrices_MOI
    made: Tensor = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp_min(_TINY)
    for _ in range(_ITERATIONS):
        gram = made @ made.mT
        made = first * made + (second * gram + third * gram @ gram) @ made
    return made.mT if rows > columns else made


def _is_matrix(weight: Tensor) -> bool:
    return weight.dim() > 1 and len(weight) >= _FEWEST

"""How much memory a training step will take, before it takes it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from crnn_cli.compute.memory import saved_tensor_bytes

_BEYOND = 1.5  # of what is kept for the gradients: work space, gradients of features, fragmentation


def step_bytes(forward: Callable[[], Tensor], factor: float) -> int:
    """Return about how many bytes a training step needs; what activation checkpoints compute again is not seen.

    Parameters
    ----------
    forward : a step with small items, up to its loss. factor : how much larger the real ones are.
    """
    return round(_BEYOND * factor * saved_tensor_bytes(forward))

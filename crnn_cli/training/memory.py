"""Estimate of the memory of a training step, before the step is made."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from crnn_cli.compute.memory import saved_tensor_bytes

_BEYOND = 1.5  # times what is kept for the gradients, for work space, gradients of features, fragmentation


def step_bytes(forward: Callable[[], Tensor], factor: float) -> int:
    """Estimate the memory of a training step from a miniature one.

    What activation checkpoints compute again is not seen; see `crnn_cli.training.job.TrainingJob.memory_multipliers`.

    Parameters
    ----------
    forward : computes the loss of miniature items.
    factor : how much larger the real items are.

    Returns
    -------
    Bytes.
    """
    return round(_BEYOND * factor * saved_tensor_bytes(forward))

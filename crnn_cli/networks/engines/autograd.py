"""Layers over all frames of sequences at once whose gradients are written out, for training.

Autograd would keep what every step makes and go over all features for every sum and every ReLU, forwards and backwards.
Here a sum and its ReLU are made inside the convolution, where oneDNN has that (`fused`), the gradient of the features,
a convolution too, likewise; only states are kept, and the gradient of weights that recur is one for all frames.

Legend: B batch, T frame, F feature, Y phase encoding, X readout; N = T * B frames, those of one time together. Features
lie innermost in memory (channels last).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from crnn_cli.networks.engines.onednn import Convolutions, Kernel
from crnn_cli.networks.engines.weight_cache import cast_weights


def fused_sum(
    one: nn.Conv2d, features_NFYX: Tensor, other: nn.Conv2d, before_NFYX: Tensor | None,
    *, relu: bool = True, shift: int = 0, batch: int = 1,
) -> Tensor:  # fmt: skip
    """Return one * features + other * before, perhaps without what is negative.

    before : None for zeros. shift : so many channels of the features come from the frame before, and as many from the
    frame after; at the ends a frame is its own neighbour. batch : B.
    """
    apply: Callable[..., Tensor] = _Sum.apply
    return apply((relu, shift, batch), features_NFYX, before_NFYX, one.weight, one.bias, other.weight, other.bias)


def bidirectional_recurrence(convolution: nn.Conv2d, terms_NFYX: Tensor, batch: int, truncate: int = 0) -> Tensor:
    """Return the sum of h_t = ReLU(terms_t + convolution * h_(t -+ 1)) of both directions of time, each from zeros.

    batch : B. truncate : frames after which gradients are cut, in each direction from its own first frame; 0: never.
    """
    apply: Callable[..., Tensor] = _Recurrence.apply
    return apply(terms_NFYX, convolution.weight, convolution.bias, batch, truncate)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, how: tuple[bool, int, int], features_NFYX: Tensor, before_NFYX: Tensor | None, *weights: Tensor
    ) -> Tensor:  # fmt: skip
        (relu, shift, batch), (one, one_bias, other, other_bias) = how, weights
        convolutions, seen = _convolutions(features_NFYX), _moved(features_NFYX, shift, batch)
        if before_NFYX is None:
            made = convolutions.made(cast_weights(one, one_bias + other_bias, seen.dtype), seen, relu)
        else:
            made = convolutions.made(cast_weights(other, other_bias, seen.dtype), before_NFYX)
            made = convolutions.added(cast_weights(one, one_bias, seen.dtype), seen, made, relu)
        context.save_for_backward(features_NFYX, before_NFYX, one, other, made if relu else None)
        context.shift, context.batch = shift, batch
        return made

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features_NFYX, before_NFYX, one, other, made_NFYX = context.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        if made_NFYX is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, made_NFYX, 0)
        of_features = of_before = of_other = None
        if context.needs_input_grad[1]:
            of_features = _moved_back(_of_input(one, gradient), context.shift, context.batch)
        seen = _moved(features_NFYX, context.shift, context.batch)
        of_one, of_bias = _of_weights(gradient, seen, one)
        if before_NFYX is not None:
            of_other, _ = _of_weights(gradient, before_NFYX, other)
            of_before = _of_input(other, gradient)
        return None, of_features, of_before, of_one, of_bias, of_other, of_bias


class _Recurrence(torch.autograd.Function):
    """Both directions are one batch: one is at frame t when the other is at T - 1 - t."""

    @staticmethod
    def forward(
        context: Any, terms_NFYX: Tensor, weight: Tensor, bias: Tensor, batch: int, truncate: int
    ) -> Tensor:  # fmt: skip
        convolutions, hidden_TPFYX = _convolutions(terms_NFYX), _paired(terms_NFYX, batch)
        kernel = cast_weights(weight, bias, terms_NFYX.dtype)
        hidden_TPFYX[0].add_(kernel[1].view(-1, 1, 1)).relu_()
        for t in range(1, len(hidden_TPFYX)):
            convolutions.added(kernel, hidden_TPFYX[t - 1], hidden_TPFYX[t], relu=True)
        context.save_for_backward(hidden_TPFYX, weight)
        context.batch, context.truncate = batch, truncate
        return _summed(hidden_TPFYX, batch)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TPFYX, weight = context.saved_tensors
        gradient_TPFYX = _paired(gradients[0], context.batch)
        convolutions, kernel = _convolutions(gradient_TPFYX), _reversed(weight, gradient_TPFYX)
        for t in reversed(range(len(hidden_TPFYX))):
            here = gradient_TPFYX[t]
            torch.ops.aten.threshold_backward.grad_input(here, hidden_TPFYX[t], 0, grad_input=here)
            if t and not (context.truncate > 0 and t % context.truncate == 0):
                convolutions.added(kernel, here, gradient_TPFYX[t - 1])
        later, earlier = gradient_TPFYX[1:].flatten(0, 1), hidden_TPFYX[:-1].flatten(0, 1)
        of_weight, of_bias = _of_weights(later, earlier, weight)
        of_bias += gradient_TPFYX[0].sum((0, 2, 3), dtype=of_bias.dtype)
        return _summed(gradient_TPFYX, context.batch), of_weight, of_bias, None, None


def _convolutions(like: Tensor) -> Convolutions:
    return Convolutions(like.dtype, like.device)


def _reversed(weight: Tensor, like: Tensor) -> Kernel:
    """Return the kernel of the convolution that gives the gradient of the input from that of the output."""
    return weight.to(like.dtype).flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last), None


def _of_input(weight: Tensor, gradient_NFYX: Tensor) -> Tensor:
    return _convolutions(gradient_NFYX).made(_reversed(weight, gradient_NFYX), gradient_NFYX)


def _of_weights(gradient_NFYX: Tensor, features_NFYX: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias."""
    if not len(features_NFYX):  # a single frame does not recur
        return torch.zeros_like(weight), torch.zeros_like(weight[:, 0, 0, 0])
    one, padding = [1, 1], [size // 2 for size in weight.shape[2:]]
    _, of_weight, of_bias = torch.ops.aten.convolution_backward(
        gradient_NFYX, features_NFYX, weight.to(gradient_NFYX.dtype, memory_format=torch.channels_last),
        [len(weight)], one, padding, one, False, [0, 0], 1, [False, True, True],
    )  # fmt: skip
    return of_weight.to(weight.dtype), of_bias.to(weight.dtype)


def _paired(sequence_NFYX: Tensor, batch: int) -> Tensor:
    """Return (T, 2 B, F, Y, X): beside each frame the one that is as far from the other end."""
    frames = len(sequence_NFYX) // batch
    made: Tensor = _empty(sequence_NFYX, 2 * len(sequence_NFYX)).unflatten(0, (frames, 2 * batch))
    for t, frame_BFYX in enumerate(sequence_NFYX.split(batch)):
        made[t, :batch] = frame_BFYX
        made[frames - 1 - t, batch:] = frame_BFYX
    return made


def _summed(paired_TPFYX: Tensor, batch: int) -> Tensor:
    """Return the sequence (N, F, Y, X) of the sums of both directions at each frame."""
    made = _empty(paired_TPFYX[0], len(paired_TPFYX) * batch)
    for ahead, back, out in zip(paired_TPFYX, paired_TPFYX.unbind()[::-1], made.split(batch), strict=True):
        torch.add(ahead[:batch], back[batch:], out=out)
    return made


def _empty(like_NFYX: Tensor, frames: int) -> Tensor:
    return torch.empty(
        (frames, *like_NFYX.shape[1:]), dtype=like_NFYX.dtype, device=like_NFYX.device,
        memory_format=torch.channels_last,
    )  # fmt: skip


def _moved(features_NFYX: Tensor, shift: int, batch: int) -> Tensor:
    """Return features whose channels come from the neighbour frames."""
    if not shift:
        return features_NFYX
    made = features_NFYX.clone(memory_format=torch.preserve_format)
    made[batch:, :shift] = features_NFYX[:-batch, :shift]
    made[:-batch, shift : 2 * shift] = features_NFYX[batch:, shift : 2 * shift]
    return made


def _moved_back(gradient_NFYX: Tensor, shift: int, batch: int) -> Tensor:
    """Return a gradient in its memory, each channel where it came from."""
    if shift:
        ahead = gradient_NFYX[:, :shift].clone()
        back = gradient_NFYX[:, shift : 2 * shift].clone()
        gradient_NFYX[:-batch, :shift] = ahead[batch:]
        gradient_NFYX[-batch:, :shift] = 0
        gradient_NFYX[:batch, :shift] += ahead[:batch]
        gradient_NFYX[batch:, shift : 2 * shift] = back[:-batch]
        gradient_NFYX[:batch, shift : 2 * shift] = 0
        gradient_NFYX[-batch:, shift : 2 * shift] += back[-batch:]
    return gradient_NFYX

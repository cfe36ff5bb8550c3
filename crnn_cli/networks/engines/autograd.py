"""Fused layers with hand-derived backward passes (`torch.autograd.Function`), used in training.

Autograd would keep the result of every step, and pass over all features for every sum and every ReLU, forwards and
backwards. Here sums and ReLU happen inside the convolution, where oneDNN offers that (`onednn`); so do the sums of the
gradients of features, which are convolutions, too. Only states are kept, and the gradient of recurrent weights is one
convolution over all frames.

Legend: B batch, T frame, P = 2 B both directions, F feature, Y phase encoding, X readout; N = T * B frames, those of
one time together. Features lie innermost in memory (channels last).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from crnn_cli.networks.engines.onednn import Convolutions, Kernel
from crnn_cli.networks.engines.weight_cache import cast_weights


def fused_sum(
    conv_x: nn.Conv2d, features_NFYX: Tensor, conv_h: nn.Conv2d, before_NFYX: Tensor | None,
    *, relu: bool = True, shift: int = 0, batch: int = 1,
) -> Tensor:  # fmt: skip
    """conv_x(features) + conv_h(before), followed by ReLU if ``relu``.

    Parameters
    ----------
    conv_x, conv_h : convolutions with bias.
    features_NFYX : input of the first.
    before_NFYX : input of the second; None for zeros, which give its bias.
    relu : whether negative values become 0.
    shift : channels of the features that come from the frame before, and as many from the frame after; at the ends a
        frame is its own neighbour.
    batch : B.
    """
    apply: Callable[..., Tensor] = _Sum.apply
    return apply(
        (relu, shift, batch), features_NFYX, before_NFYX, conv_x.weight, conv_x.bias, conv_h.weight, conv_h.bias
    )


def bidirectional_recurrence(convolution: nn.Conv2d, terms_NFYX: Tensor, batch: int, truncate: int = 0) -> Tensor:
    """Sum over both directions of time of h_t = ReLU(terms_t + convolution * h_(t -+ 1)), each from zeros.

    Parameters
    ----------
    convolution : from a frame to its neighbour.
    terms_NFYX : what both directions have in common.
    batch : B.
    truncate : frames after which gradients are cut, in each direction from its own first frame; 0: never.

    Returns
    -------
    (N, F, Y, X). For the backward pass the hidden states of both directions are kept, nothing else.
    """
    apply: Callable[..., Tensor] = _Recurrence.apply
    return apply(terms_NFYX, convolution.weight, convolution.bias, batch, truncate)


class _Sum(torch.autograd.Function):
    """`fused_sum`."""

    @staticmethod
    def forward(
        ctx: Any, options: tuple[bool, int, int], features_NFYX: Tensor, before_NFYX: Tensor | None, *weights: Tensor
    ) -> Tensor:  # fmt: skip
        (relu, shift, batch), (x_weight, x_bias, h_weight, h_bias) = options, weights
        convolutions, shifted = _convolutions_for(features_NFYX), _temporal_shift(features_NFYX, shift, batch)
        if before_NFYX is None:
            output = convolutions.conv(cast_weights(x_weight, x_bias + h_bias, shifted.dtype), shifted, relu)
        else:
            output = convolutions.conv(cast_weights(h_weight, h_bias, shifted.dtype), before_NFYX)
            output = convolutions.conv_accumulate_(cast_weights(x_weight, x_bias, shifted.dtype), shifted, output, relu)
        ctx.save_for_backward(features_NFYX, before_NFYX, x_weight, h_weight, output if relu else None)
        ctx.shift, ctx.batch = shift, batch
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features_NFYX, before_NFYX, x_weight, h_weight, output_NFYX = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        if output_NFYX is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, output_NFYX, 0)
        features_gradient = before_gradient = h_gradient = None
        if ctx.needs_input_grad[1]:
            features_gradient = _temporal_shift_backward(_input_gradient(x_weight, gradient), ctx.shift, ctx.batch)
        shifted = _temporal_shift(features_NFYX, ctx.shift, ctx.batch)
        x_gradient, bias_gradient = _weight_gradients(gradient, shifted, x_weight)
        if before_NFYX is not None:
            h_gradient, _ = _weight_gradients(gradient, before_NFYX, h_weight)
            before_gradient = _input_gradient(h_weight, gradient)
        return None, features_gradient, before_gradient, x_gradient, bias_gradient, h_gradient, bias_gradient


class _Recurrence(torch.autograd.Function):
    """`bidirectional_recurrence`. Both directions are one batch: one is at frame t, the other at T - 1 - t."""

    @staticmethod
    def forward(
        ctx: Any, terms_NFYX: Tensor, weight: Tensor, bias: Tensor, batch: int, truncate: int
    ) -> Tensor:  # fmt: skip
        convolutions, hidden_TPFYX = _convolutions_for(terms_NFYX), _pair_directions(terms_NFYX, batch)
        kernel = cast_weights(weight, bias, terms_NFYX.dtype)
        hidden_TPFYX[0].add_(kernel[1].view(-1, 1, 1)).relu_()
        for t in range(1, len(hidden_TPFYX)):
            convolutions.conv_accumulate_(kernel, hidden_TPFYX[t - 1], hidden_TPFYX[t], relu=True)
        ctx.save_for_backward(hidden_TPFYX, weight)
        ctx.batch, ctx.truncate = batch, truncate
        return _sum_directions(hidden_TPFYX, batch)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TPFYX, weight = ctx.saved_tensors
        gradient_TPFYX = _pair_directions(gradients[0], ctx.batch)
        convolutions, kernel = _convolutions_for(gradient_TPFYX), _transposed_kernel(weight, gradient_TPFYX)
        for t in reversed(range(len(hidden_TPFYX))):
            here = gradient_TPFYX[t]
            torch.ops.aten.threshold_backward.grad_input(here, hidden_TPFYX[t], 0, grad_input=here)
            if t and not (ctx.truncate > 0 and t % ctx.truncate == 0):
                convolutions.conv_accumulate_(kernel, here, gradient_TPFYX[t - 1])
        later, earlier = gradient_TPFYX[1:].flatten(0, 1), hidden_TPFYX[:-1].flatten(0, 1)
        weight_gradient, bias_gradient = _weight_gradients(later, earlier, weight)
        bias_gradient += gradient_TPFYX[0].sum((0, 2, 3), dtype=bias_gradient.dtype)
        return _sum_directions(gradient_TPFYX, ctx.batch), weight_gradient, bias_gradient, None, None


def _convolutions_for(like: Tensor) -> Convolutions:
    return Convolutions(like.dtype, like.device)


def _transposed_kernel(weight: Tensor, like: Tensor) -> Kernel:
    """Kernel of the convolution that turns the gradient of the output into that of the input."""
    return weight.to(like.dtype).flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last), None


def _input_gradient(weight: Tensor, gradient_NFYX: Tensor) -> Tensor:
    return _convolutions_for(gradient_NFYX).conv(_transposed_kernel(weight, gradient_NFYX), gradient_NFYX)


def _weight_gradients(gradient_NFYX: Tensor, features_NFYX: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of weight and bias."""
    if not len(features_NFYX):  # a single frame does not recur
        return torch.zeros_like(weight), torch.zeros_like(weight[:, 0, 0, 0])
    ones, padding = [1, 1], [size // 2 for size in weight.shape[2:]]
    _, weight_gradient, bias_gradient = torch.ops.aten.convolution_backward(
        gradient_NFYX, features_NFYX, weight.to(gradient_NFYX.dtype, memory_format=torch.channels_last),
        [len(weight)], ones, padding, ones, False, [0, 0], 1, [False, True, True],
    )  # fmt: skip
    return weight_gradient.to(weight.dtype), bias_gradient.to(weight.dtype)


def _pair_directions(sequence_NFYX: Tensor, batch: int) -> Tensor:
    """Pair frame t with frame T - 1 - t along the batch axis, (T, 2 B, F, Y, X): both directions as one batch."""
    frames = len(sequence_NFYX) // batch
    output: Tensor = _empty(sequence_NFYX, 2 * len(sequence_NFYX)).unflatten(0, (frames, 2 * batch))
    for t, frame_BFYX in enumerate(sequence_NFYX.split(batch)):
        output[t, :batch] = frame_BFYX
        output[frames - 1 - t, batch:] = frame_BFYX
    return output


def _sum_directions(paired_TPFYX: Tensor, batch: int) -> Tensor:
    """Sum the two directions of (T, 2 B, F, Y, X) at each frame, (N, F, Y, X)."""
    output = _empty(paired_TPFYX[0], len(paired_TPFYX) * batch)
    for ahead, back, out in zip(paired_TPFYX, paired_TPFYX.unbind()[::-1], output.split(batch), strict=True):
        torch.add(ahead[:batch], back[batch:], out=out)
    return output


def _empty(like_NFYX: Tensor, frames: int) -> Tensor:
    return torch.empty(
        (frames, *like_NFYX.shape[1:]), dtype=like_NFYX.dtype, device=like_NFYX.device,
        memory_format=torch.channels_last,
    )  # fmt: skip


def _temporal_shift(features_NFYX: Tensor, shift: int, batch: int) -> Tensor:
    """Take the first channels from the frame before, as many more from the frame after (TSM)."""
    if not shift:
        return features_NFYX
    output = features_NFYX.clone(memory_format=torch.preserve_format)
    output[batch:, :shift] = features_NFYX[:-batch, :shift]
    output[:-batch, shift : 2 * shift] = features_NFYX[batch:, shift : 2 * shift]
    return output


def _temporal_shift_backward(gradient_NFYX: Tensor, shift: int, batch: int) -> Tensor:
    """Gradient of `_temporal_shift`, in the memory of the gradient: each channel goes back to where it came from."""
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

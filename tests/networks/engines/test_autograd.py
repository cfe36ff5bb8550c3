"""Layers over all frames are the formulas, and their gradients those that autograd finds for these."""

import pytest
import torch
from torch import nn

from crnn_cli.networks.engines import onednn as module
from crnn_cli.networks.engines.autograd import bidirectional_recurrence, fused_sum
from crnn_cli.networks.engines.schedule import broadcast_bias

FEATURES = 5


def convolution(inputs=FEATURES, dtype=torch.float64):
    return nn.Conv2d(inputs, FEATURES, 3, padding=1).to(dtype)


def sequence(frames, batch, channels=FEATURES, dtype=torch.float64):
    return torch.randn(frames * batch, channels, 4, 3).to(dtype).requires_grad_(True)


def channels_of_neighbours(features, shift, batch):
    """Return features whose channels come from the frames before and after."""
    frames = features.unflatten(0, (-1, batch))
    before, after = torch.cat([frames[:1], frames[:-1]]), torch.cat([frames[1:], frames[-1:]])
    parts = before[:, :, :shift], after[:, :, shift : 2 * shift], frames[:, :, 2 * shift :]
    return torch.cat(parts, 2).flatten(0, 1)


def plain_sum(one, features, other, before, relu, shift, batch):
    seen = one(channels_of_neighbours(features, shift, batch))
    made = seen + (broadcast_bias(other, seen) if before is None else other(before))
    return made.relu() if relu else made


def plain_directions(h2h, terms, batch, truncate):
    frames = terms.unflatten(0, (-1, batch))
    total = 0
    for order in (1, -1):
        hidden, made = torch.zeros_like(frames[0]), []
        for t, frame in enumerate(frames if order == 1 else frames.flip(0)):
            if truncate > 0 and t % truncate == 0:
                hidden = hidden.detach()
            hidden = (frame + h2h(hidden)).relu()
            made.append(hidden)
        total = total + torch.stack(made[::order])
    return total.flatten(0, 1)


def compare(made, plain, values):
    """Compare results and gradients of two ways to compute the same."""
    torch.testing.assert_close(made, plain)
    towards = torch.randn_like(plain)
    found = torch.autograd.grad((made * towards).sum(), values)
    torch.testing.assert_close(found, torch.autograd.grad((plain * towards).sum(), values))


@pytest.fixture(params=[torch.float64, torch.float32], ids=["one after the other", "fused"])
def dtype(request):
    if request.param == torch.float32 and not module._has_fused(torch.float32):
        pytest.skip("this PyTorch has no convolution into a sum")
    torch.manual_seed(0)
    return request.param


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize(("relu", "shift"), [(True, 0), (True, 2), (False, 0), (False, 1)])
@pytest.mark.parametrize("first", [False, True])
def test_a_sum_and_its_gradients(frames, batch, relu, shift, first, dtype):
    one, other = convolution(dtype=dtype), convolution(dtype=dtype)
    features, before = sequence(frames, batch, dtype=dtype), None if first else sequence(frames, batch, dtype=dtype)
    weights = [one.weight, one.bias, other.bias, *([] if first else [other.weight])]
    values = [features, *weights, *([] if first else [before])]
    given = one, features, other, before, relu, shift, batch
    compare(fused_sum(*given[:4], relu=relu, shift=shift, batch=batch), plain_sum(*given), values)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5, 6])
@pytest.mark.parametrize("truncate", [0, 1, 2])
def test_both_directions_and_their_gradients(frames, batch, truncate, dtype):
    h2h, terms = convolution(dtype=dtype), sequence(frames, batch, dtype=dtype)
    compare(
        bidirectional_recurrence(h2h, terms, batch, truncate), plain_directions(h2h, terms, batch, truncate),
        [terms, h2h.weight, h2h.bias],
    )  # fmt: skip


def test_what_is_given_is_not_changed():
    one, other, features, before = convolution(), convolution(), sequence(3, 1), sequence(3, 1)
    kept = features.detach().clone(), before.detach().clone()
    made = fused_sum(one, features, other, before, shift=2)
    both = bidirectional_recurrence(one, made, 1)
    towards = torch.randn_like(both)
    again, held = towards.clone(), made.detach().clone()
    both.backward(towards, retain_graph=True)
    assert torch.equal(made, held)
    assert torch.equal(towards, again)
    assert all(torch.equal(now, then) for now, then in zip((features, before), kept, strict=True))
    found = features.grad.clone()
    features.grad = None
    both.backward(towards)  # what is kept for the gradients is as it was
    assert torch.equal(features.grad, found)


def test_images_without_gradients_take_part():
    one, other, images = convolution(2), convolution(), sequence(3, 1, 2).detach()
    made = fused_sum(one, images, other, sequence(3, 1))
    made.sum().backward()
    assert one.weight.grad is not None
    assert images.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_and_gradients_stay_innermost_in_memory(dtype):
    one, other = convolution(dtype=torch.float32), convolution(dtype=torch.float32)
    features, before = (
        sequence(3, 2).detach().to(dtype, memory_format=torch.channels_last).requires_grad_(True) for _ in range(2)
    )
    made = bidirectional_recurrence(other, fused_sum(one, features, other, before, shift=1, batch=2), 2)
    assert made.dtype == dtype
    assert made.is_contiguous(memory_format=torch.channels_last)
    made.backward(torch.ones_like(made))
    for values in (features, before):
        assert values.grad.is_contiguous(memory_format=torch.channels_last)
        assert values.grad.dtype == dtype
    assert one.weight.grad.dtype == other.bias.grad.dtype == torch.float32


def test_the_gradient_of_a_convolution_is_one_of_any_size():
    one, other = (nn.Conv2d(FEATURES, FEATURES, size, padding=size // 2).double() for size in (5, 1))
    features, before = sequence(2, 1), sequence(2, 1)
    given = one, features, other, before
    compare(fused_sum(*given), plain_sum(*given, True, 0, 1), [features, before, one.weight, other.weight])


def test_a_convolution_of_numbers_of_half_precision_is_near():
    torch.manual_seed(0)
    h2h, terms = convolution(dtype=torch.float32), sequence(5, 1, dtype=torch.float32)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        made = bidirectional_recurrence(h2h, terms.to(dtype), 1)
        found[dtype] = torch.cat([v.flatten() for v in torch.autograd.grad(made.float().square().sum(), h2h.weight)])
    error = (found[torch.bfloat16] - found[torch.float32]).norm() / found[torch.float32].norm()
    assert 1e-4 < error < 0.03

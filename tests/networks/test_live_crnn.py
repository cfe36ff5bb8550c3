"""The causal network: its formula, that it looks back only, and that frames one by one are the series."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from crnn_cli.networks.live_crnn import LiveCRNN, LiveCRNNConfig
from tests.support.live import SMALL, measurement, network


def halves(image_YX):
    """Return the eight half-size images of a complex one, real part first, zero beyond an odd edge."""
    y, x = image_YX.shape
    whole = torch.zeros(y + y % 2, x + x % 2, dtype=image_YX.dtype)
    whole[:y, :x] = image_YX
    quarters = [whole[dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)]
    return torch.stack([part for each in (torch.real, torch.imag) for part in map(each, quarters)])


def whole(halves_CVU, shape):
    image = torch.zeros(2, 2 * halves_CVU.shape[1], 2 * halves_CVU.shape[2])
    for channel in range(8):
        part, (dy, dx) = channel // 4, divmod(channel % 4, 2)
        image[part, dy::2, dx::2] = halves_CVU[channel]
    return torch.complex(*image)[: shape[0], : shape[1]]


def slowly(net, running_TYX, consistent):
    """Return the images by the formula at the top of the module, a frame and an iteration at a time."""

    def convolved(layer, *inputs):
        return F.conv2d(torch.cat(inputs)[None], layer.weight, layer.bias, padding=1)[0]

    shape, total = running_TYX.shape[1:], net.config.iterations
    zeros = torch.zeros(net.config.features, *halves(running_TYX[0]).shape[1:])
    cells, layers, image, mean, made = [zeros] * total, [zeros] * 3, running_TYX[0], torch.zeros(shape), []
    for t, running in enumerate(running_TYX):
        mean = mean + (running - mean) / min(t + 1, 16)
        guess, begun = image, running if net.config.given_start else image
        image = consistent(begun, t, net.sets[0].error)
        for i in range(total):
            weights = net.sets[i * net.config.weight_sets // total]
            entered = [halves(each) for each in (image, running, mean, image - guess)]
            cells[i] = F.relu(convolved(weights.cell, *entered, cells[i], layers[0]))
            first = F.relu(convolved(weights.layers[0], cells[i], layers[1]))
            second = F.relu(convolved(weights.layers[1], first, layers[2]))
            layers = [cells[i], first, second]
            guess = image + whole(convolved(weights.output, second), shape)
            image = consistent(guess, t, weights.error)
        made.append(image)
    return torch.stack(made)


@pytest.mark.parametrize("given_start", [0, 1])
@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("sets", [1, 2])
def test_images_are_those_of_the_formula(coils, sets, given_start):
    data = measurement(coils=coils, deviation=0.05)
    config = LiveCRNNConfig(features=4, iterations=2, weight_sets=sets, given_start=given_start)
    operator, net = data.consistency(), network(config)
    running = operator.running()
    with torch.no_grad():
        made = net(running, operator)
        expected = slowly(
            net, running[0], lambda image, t, error: operator.step(image[None, None], slice(t, t + 1), error)[0, 0]
        )
    torch.testing.assert_close(made[0], expected, atol=1e-5, rtol=1e-4)


def test_a_frame_does_not_depend_on_later_ones():
    data = measurement()
    changed = data.kspace_BCTYX.clone()
    changed[:, :, 4:] *= 2
    net = network()
    with torch.no_grad():
        images = [
            net(operator.running(), operator)
            for operator in (data.consistency(), type(data)(changed, data.mask_BTYX).consistency())
        ]
    assert torch.equal(images[0][:, :4], images[1][:, :4])
    assert not torch.allclose(images[0][:, 4:], images[1][:, 4:])


def test_it_remembers_frames_before():
    data = measurement()
    net, operator = network(), data.consistency()
    running = operator.running()
    with torch.no_grad():
        alone = net.step(running[:, 5:], lambda image, error: operator.step(image, slice(5, 6), error), None)
        assert not torch.allclose(alone.image_B1YX, net(running, operator)[:, 5:], atol=1e-3)


def test_untrained_it_leaves_the_image_to_data_consistency():
    data = measurement()
    operator = data.consistency()
    image = LiveCRNN(SMALL)(operator.running(), operator).detach()
    expected = operator.running()[:, :1]
    for t in range(6):
        expected = operator.step(expected, slice(t, t + 1))
        torch.testing.assert_close(image[:, t : t + 1], expected, atol=1e-5, rtol=1e-5)


def test_untrained_and_given_a_start_it_makes_it_consistent():
    data = measurement()
    operator = data.consistency()
    initial = torch.randn_like(operator.running())
    image = LiveCRNN(replace(SMALL, given_start=1))(initial, operator).detach()
    torch.testing.assert_close(image, operator(initial), atol=1e-5, rtol=1e-5)


def test_truncation_cuts_gradients_and_changes_no_image():
    data = measurement()
    operator = data.consistency()
    running = operator.running().requires_grad_()
    net = network()
    plain = net(running, operator)
    net.truncate = 3
    cut = net(running, operator)
    assert torch.equal(plain, cut)
    (of_plain,) = torch.autograd.grad(plain[:, 5].abs().sum(), running)
    (of_cut,) = torch.autograd.grad(cut[:, 5].abs().sum(), running)
    assert of_plain[:, 2].abs().sum() > 0
    assert of_cut[:, 2].abs().sum() == 0
    assert of_cut[:, 4].abs().sum() > 0


def test_no_iterations_give_the_running_images_and_progress_is_called_for_each():
    data, called = measurement(), []
    operator, net = data.consistency(), network()
    with torch.no_grad():
        assert torch.equal(net(operator.running(), operator, 0), operator.running())
        net(operator.running(), operator, progress=lambda: called.append(1))
    assert len(called) == SMALL.iterations


@pytest.mark.parametrize(
    "sizes", [{"features": 0}, {"kernel": 4}, {"iterations": 0}, {"weight_sets": 65}, {"given_start": 2}]
)
def test_sizes_out_of_range_are_refused(sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        LiveCRNNConfig(**sizes)

"""Steps whose directions all count the same."""

import copy

import pytest
import torch
from torch import nn

from crnn_cli.networks.optim import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 12, 40), (2, 40, 12), (1, 9, 9)])
def test_singular_vectors_stay_and_values_become_one(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    made = orthogonalise(matrices)
    values = torch.linalg.svdvals(made)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ made @ right.mT
    assert float((inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-6
    torch.testing.assert_close(orthogonalise(5 * matrices), made)
    assert torch.equal(orthogonalise(torch.zeros(shape)), torch.zeros(shape))


def quadratic(seed=0):
    """Return weights of a convolution with a bias and an output layer, and a loss with far and near directions."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(4, 16, 3), nn.Conv2d(16, 2, 1))
    scale = torch.logspace(-1, 0, 16).view(-1, 1, 1, 1)
    goal = [weight.detach() + 0.1 * torch.randn_like(weight) for weight in net.parameters()]

    def loss():
        apart = [weight - wanted for weight, wanted in zip(net.parameters(), goal, strict=True)]
        return (apart[0] * scale).square().sum() + sum(each.square().sum() for each in apart[1:])

    return net, goal, loss


def test_weak_directions_come_as_far_as_strong_ones():
    net, goal, loss = quadratic()
    apart = [(w - g).abs().mean().item() for w, g in zip(net.parameters(), goal, strict=True)]
    weakest = (net[0].weight - goal[0])[0].norm().item()
    optimiser = Muon(net.parameters(), 0.05, 0.9, 0.01)
    for _ in range(60):
        net.zero_grad()
        loss().backward()
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] *= 0.95
    assert (net[0].weight - goal[0])[0].norm().item() < 0.3 * weakest  # its gradient is a hundredth of the strongest
    for weight, wanted, before in list(zip(net.parameters(), goal, apart, strict=True))[1:]:
        assert (weight - wanted).abs().mean().item() < 0.3 * before


@pytest.mark.parametrize(("inputs", "size", "longer"), [(3, 3, 1), (2, 1, 2)])
def test_a_step_is_as_long_as_asked_for(inputs, size, longer):
    torch.manual_seed(0)
    net = nn.Conv2d(inputs, 8, size)
    before = net.weight.detach().clone()
    net.weight.grad = torch.randn_like(net.weight)
    Muon(net.parameters(), 0.02, 0.9, 0.0).step()
    values = torch.linalg.svdvals((net.weight.detach() - before).flatten(1)) / longer
    assert 0.02 * 0.6 < float(values.min()) <= float(values.max()) < 0.02 * 1.3
    assert net.bias.grad is None


def test_weights_without_gradients_stay():
    net, _, loss = quadratic()
    net[0].weight.requires_grad_(False)
    before = [weight.detach().clone() for weight in net.parameters()]
    loss().backward()
    Muon(net.parameters(), 0.02, 0.9, 0.01).step()
    stayed = [torch.equal(weight, was) for weight, was in zip(net.parameters(), before, strict=True)]
    assert stayed == [True, False, False, False]


def test_the_mean_of_gradients_lasts():
    made = {}
    for momentum in (0.0, 0.9):
        torch.manual_seed(0)
        net = nn.Conv2d(2, 8, 1)
        optimiser = Muon(net.parameters(), 1.0, momentum, 0.0)
        one, other = torch.zeros_like(net.weight), torch.zeros_like(net.weight)
        one[0, 0], other[1, 1] = 1, 1e-3
        for gradient in (one, other):
            before, net.weight.grad = net.weight.detach().clone(), gradient
            optimiser.step()
        made[momentum] = (before - net.weight).detach()
    assert made[0.0][0, 0] == 0
    assert made[0.9][0, 0] > 0.5


def test_biases_and_convolutions_of_few_outputs_go_by_adam():
    net = nn.Conv2d(3, 7, 3)
    before = [weight.detach().clone() for weight in net.parameters()]
    for weight in net.parameters():
        weight.grad = torch.randn_like(weight)
    Muon(net.parameters(), 1.0, 0.9, 0.01).step()
    for weight, was in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close((weight - was).abs(), torch.full_like(weight, 0.01), rtol=1e-3, atol=1e-6)


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    net, _, loss = quadratic()
    optimiser = Muon(net.parameters(), 0.05, 0.9, 0.01)

    def steps(optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
        return [weight.detach().clone() for weight in net.parameters()]

    before = steps(optimiser, 3)
    state = copy.deepcopy(optimiser.state_dict())
    expected = steps(optimiser, 2)
    with torch.no_grad():
        for weight, saved in zip(net.parameters(), before, strict=True):
            weight.copy_(saved)
    resumed = Muon(net.parameters(), 0.05, 0.9, 0.01)
    resumed.load_state_dict(state)
    for weight, wanted in zip(steps(resumed, 2), expected, strict=True):
        torch.testing.assert_close(weight, wanted, rtol=0, atol=0)
    with pytest.raises(ValueError, match="mean gradient"):
        Muon(nn.Conv2d(3, 9, 3).parameters(), 0.05, 0.9, 0.01).load_state_dict(
            Muon(nn.Conv2d(4, 9, 3).parameters(), 0.05, 0.9, 0.01).state_dict()
        )

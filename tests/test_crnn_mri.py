"""The fast network equals the paper's loops, and obeys what its structure promises."""

import pytest
import torch

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.published import read_published_checkpoint
from tests.conftest import data_file
from tests.reference import crnn_mri_loops

PUBLISHED_NAMES = [
    "bcrnn.i2h", "bcrnn.h2h", "bcrnn.ih2ih",
    "conv1_x", "conv1_h", "conv2_x", "conv2_h", "conv3_x", "conv3_h", "conv4_x",
]  # fmt: skip


def network(features=5, iterations=3, seed=0):
    torch.manual_seed(seed)
    return CRNNMRI(CRNNMRIConfig(features=features, kernel=3, iterations=iterations)).eval()


def problem(batch=2, frames=5, lines=9, columns=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, frames, lines, 1, generator=g) < 0.4
    mask[:, :, lines // 2] = True
    kspace = torch.randn(batch, frames, lines, columns, dtype=torch.complex64, generator=g) * mask
    operator = SingleCoilConsistency(kspace, mask)
    return operator.zero_filled(), operator


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_published_size():
    assert sum(p.numel() for p in CRNNMRI(CRNNMRIConfig()).parameters()) == 297_794


def test_weight_names_are_pinned():
    names = [f"{name}.{part}" for name in PUBLISHED_NAMES for part in ("weight", "bias")]
    assert list(network().state_dict()) == names


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@pytest.mark.parametrize("gradients", [False, True])
def test_equals_the_loops(frames, gradients):
    net = network()
    image, operator = problem(frames=frames)
    with torch.no_grad():
        expected = crnn_mri_loops.reconstruct(net.state_dict(), 5, image, operator, 3)
    with torch.set_grad_enabled(gradients):
        found = net(image, operator)
    assert relative(found.detach(), expected) < 1e-5


def test_gradients_equal_those_of_the_loops():
    net = network(features=3, iterations=2)
    image, operator = problem(frames=3)
    net(image, operator).abs().sum().backward()
    weights = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    crnn_mri_loops.reconstruct(weights, 3, image, operator, 2).abs().sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, weights[name].grad, atol=1e-4, rtol=1e-4)


def test_one_batch_item_does_not_see_another():
    net = network()
    image, operator = problem(batch=2)
    single = SingleCoilConsistency(operator._data[:1], operator._mask[:1])
    single._data, single._weighted = operator._data[:1], operator._weighted[:1]
    with torch.no_grad():
        assert relative(net(image[:1], single), net(image, operator)[:1]) < 1e-5


def test_time_reversal_of_the_scan_reverses_the_images():
    """One cell runs both ways with the same weights and the sum is kept, so time has no direction."""
    net = network()
    image, operator = problem(frames=6)
    backward = SingleCoilConsistency(operator._data, operator._mask)
    backward._data, backward._mask = operator._data.flip(1), operator._mask.flip(1)
    backward._keep, backward._weighted = operator._keep.flip(1), operator._weighted.flip(1)
    with torch.no_grad():
        assert relative(net(image.flip(1), backward).flip(1), net(image, operator)) < 1e-5


def test_frame_order_matters():
    net = network()
    image, operator = problem(frames=6)
    order = torch.tensor([0, 3, 1, 5, 2, 4])
    shuffled = SingleCoilConsistency(operator._data, operator._mask)
    shuffled._data, shuffled._mask = operator._data[:, order], operator._mask[:, order]
    shuffled._keep, shuffled._weighted = operator._keep[:, order], operator._weighted[:, order]
    with torch.no_grad():
        assert relative(net(image[:, order], shuffled)[:, order.argsort()], net(image, operator)) > 1e-3


def test_iterations_are_free_at_run_time_and_progress_is_told():
    net = network(iterations=2)
    image, operator = problem()
    ticks = []
    with torch.no_grad():
        four = net(image, operator, 4, lambda: ticks.append(1))
        assert len(ticks) == 4
        assert relative(net(image, operator), four) > 1e-4
        assert torch.equal(net(image, operator, 0), image)


def test_published_weights_run_and_improve_a_scan():
    weights = read_published_checkpoint(data_file("weights", "crnn_mri_d5_c5.pth"))
    net = CRNNMRI(CRNNMRIConfig()).eval()
    net.load_state_dict(weights)
    image, operator = problem(batch=1, frames=3, lines=12, columns=10)
    with torch.no_grad():
        expected = crnn_mri_loops.reconstruct(weights, 64, image, operator, 5)
        assert relative(net(image, operator), expected) < 1e-5

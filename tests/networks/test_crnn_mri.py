"""The fast network equals the paper's loops, and obeys what its structure promises."""

import pytest
import torch

from crnn_cli.bundles.import_checkpoint import read_published_checkpoint
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.live_crnn import LiveCRNN, LiveCRNNConfig
from crnn_cli.training.grow_network import expand_network, from_causal
from tests.reference import crnn_mri_loops
from tests.support.data import data_file

PUBLISHED_NAMES = [
    "bcrnn.i2h", "bcrnn.h2h", "bcrnn.ih2ih",
    "conv1_x", "conv1_h", "conv2_x", "conv2_h", "conv3_x", "conv3_h", "conv4_x",
]  # fmt: skip


def network(features=5, iterations=3, seed=0, **more):
    torch.manual_seed(seed)
    return CRNNMRI(CRNNMRIConfig(features=features, kernel=3, iterations=iterations, **more)).eval()


VARIANTS = [
    {"weight_sets": 2}, {"weight_sets": 9}, {"tsm_channels": 2}, {"temporal_context": 1},
    {"weight_sets": 3, "tsm_channels": 1, "temporal_context": 1},
    {"weight_sets": 2, "noise_aware": 1},
    {"pixel_unshuffle": 2}, {"pixel_unshuffle": 3, "temporal_context": 1, "tsm_channels": 1, "weight_sets": 2},
]  # fmt: skip


def problem(batch=2, frames=5, lines=9, columns=7, seed=0, dtype=torch.complex64, deviation=0.1):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, frames, lines, 1, generator=g) < 0.4
    mask[:, :, lines // 2] = True
    kspace = torch.randn(batch, frames, lines, columns, dtype=dtype, generator=g) * mask
    operator = SingleCoilConsistency(kspace, mask, deviation=deviation)
    return operator.zero_filled(), operator


def part_of(operator, pick):
    """Return the operator of some of the items or frames of another, perhaps in another order."""
    return SingleCoilConsistency(pick(image_to_kspace(operator.zero_filled())), pick(operator._mask), deviation=0.1)


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_published_size():
    assert sum(p.numel() for p in CRNNMRI(CRNNMRIConfig()).parameters()) == 297_794


def test_errors_expected_fall_from_set_to_set():
    assert network(weight_sets=3, noise_aware=1).state_dict()["error"] == pytest.approx(0.05)
    errors = [
        float(value)
        for name, value in network(weight_sets=3, noise_aware=1).state_dict().items()
        if name.endswith("error")
    ]
    assert sorted(errors, reverse=True) == pytest.approx([0.2, 0.1, 0.05])
    assert network(noise_aware=1).state_dict()["error"] == pytest.approx(0.05)


def test_an_error_expected_matters_only_where_noise_is_known():
    net = network(weight_sets=2, noise_aware=1)
    with torch.no_grad():
        for deviation, least, most in ((0.0, 0.0, 0.0), (0.1, 1e-3, 10)):
            image, operator = problem(deviation=deviation)
            trusting = net(image, operator)
            other = expand_network(net, net.config)
            for layers in (other, *other.earlier):
                layers.error *= 3
            assert least <= relative(other(image, operator), trusting) <= most


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


@pytest.mark.parametrize("more", VARIANTS)
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("gradients", [False, True])
def test_variants_equal_the_loops(more, frames, gradients):
    net = network(**more)
    image, operator = problem(frames=frames)
    with torch.no_grad():
        expected = crnn_mri_loops.reconstruct(net.state_dict(), 5, image, operator, 3, **more)
        plain = crnn_mri_loops.reconstruct(
            net.state_dict(), 5, image, operator, 3, **more | {"tsm_channels": 0, "weight_sets": 1}
        )
    with torch.set_grad_enabled(gradients):
        found = net(image, operator).detach()
    assert relative(found, expected) < 1e-5
    assert (
        relative(found, plain) > 1e-3
        or more in ({"temporal_context": 1}, {"pixel_unshuffle": 2})
        or (more == {"tsm_channels": 2} and frames == 1)
    )


@pytest.mark.parametrize("more", [{}, *VARIANTS])
def test_gradients_equal_those_of_the_loops(more):
    more = more | {
        "tsm_channels": min(1, more.get("tsm_channels", 0)),
        "weight_sets": min(2, more.get("weight_sets", 1)),
    }
    net = network(features=3, iterations=4, **more)
    image, operator = problem(frames=3)
    net(image, operator).abs().sum().backward()
    weights = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    crnn_mri_loops.reconstruct(weights, 3, image, operator, 4, **more).abs().sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, weights[name].grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("before", "config"),
    [
        (1, {"weight_sets": 3}), (2, {"weight_sets": 4}), (2, {"weight_sets": 2, "temporal_context": 1}),
        (1, {"weight_sets": 3, "temporal_context": 1}),
        (1, {"temporal_context": 1}), (2, {"weight_sets": 2, "noise_aware": 1}),
        (1, {"features": 8}), (2, {"features": 7, "weight_sets": 2, "temporal_context": 1, "noise_aware": 1}),
    ],
)  # fmt: skip
def test_a_grown_network_is_the_same_function(before, config):
    net = network(weight_sets=before)
    image, operator = problem(deviation=0.0)
    larger = expand_network(net, CRNNMRIConfig(**{"features": 5} | config))
    with torch.no_grad():
        assert relative(larger(image, operator, 4), net(image, operator, 4)) < 1e-6


def test_features_that_are_added_can_learn_at_once():
    larger = expand_network(network(), CRNNMRIConfig(features=8, iterations=2))
    image, operator = problem()
    larger(image, operator).abs().sum().backward()
    assert larger.conv2_x.weight.grad[:5, 5:].abs().max() > 0  # of old outputs, by inputs that are new
    assert larger.conv2_x.weight[5:].abs().min() > 0
    again = expand_network(network(), CRNNMRIConfig(features=8, iterations=2))
    assert all(torch.equal(a, b) for a, b in zip(larger.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"features": 4, "weight_sets": 2}, "taken away"),
        ({"features": 5, "weight_sets": 1}, "taken away"),
        ({"features": 5, "kernel": 5}, "kernel"),
        ({"features": 5, "pixel_unshuffle": 2}, "pixel_unshuffle"),
    ],
)
def test_what_cannot_grow_is_refused(config, why):
    with pytest.raises(ValueError, match=why):
        expand_network(network(weight_sets=2), CRNNMRIConfig(**config))


HALF = {"pixel_unshuffle": 2, "temporal_context": 1, "noise_aware": 1}


def test_a_network_begun_from_the_causal_one_adds_a_share_of_what_that_adds(monkeypatch):
    """One frame, one iteration, nothing measured; without the layer that the causal network lacks."""
    monkeypatch.setattr("crnn_cli.training.grow_network._THIRD", 0.0)
    torch.manual_seed(0)
    causal = LiveCRNN(LiveCRNNConfig(5, 3, 1, 1))
    torch.nn.init.normal_(causal.sets[0].output.weight)
    torch.nn.init.normal_(causal.sets[0].output.bias)
    begun = from_causal(causal, CRNNMRIConfig(5, 3, 1, 1, **HALF))
    image = torch.randn(2, 1, 9, 7, dtype=torch.complex64)
    nothing = SingleCoilConsistency(torch.zeros_like(image), torch.zeros(2, 1, 9, 1))
    with torch.no_grad():
        added = causal(image, nothing) - image
        torch.testing.assert_close(begun(image, nothing) - image, 0.2 * added)
    assert float(added.abs().mean()) > 0.1


def test_each_set_begins_from_its_own_always_alike():
    causal = LiveCRNN(LiveCRNNConfig(5, 3, 2, 2))
    begun, again = (from_causal(causal, CRNNMRIConfig(5, 3, 2, 2, **HALF)) for _ in range(2))
    for weight, same in zip(begun.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, same)
    for layers, before in zip((*begun.earlier, begun), causal.sets, strict=True):
        torch.testing.assert_close(layers.bcrnn.h2h.weight, before.cell.weight[:, 32:37])
        torch.testing.assert_close(layers.bcrnn.ih2ih.weight, before.cell.weight[:, 37:] / 2)


@pytest.mark.parametrize(
    "changes", [{"features": 6}, {"weight_sets": 1}, {"pixel_unshuffle": 1}, {"temporal_context": 0}]
)
def test_another_size_than_that_of_the_causal_network_is_refused(changes):
    sizes = {"features": 5, "iterations": 2, "weight_sets": 2} | HALF | changes
    with pytest.raises(ValueError, match="begun from one for streams"):
        from_causal(LiveCRNN(LiveCRNNConfig(5, 3, 2, 2)), CRNNMRIConfig(**sizes))


def test_one_batch_item_does_not_see_another():
    net = network()
    image, operator = problem(batch=2)
    single = part_of(operator, lambda values: values[:1])
    with torch.no_grad():
        assert relative(net(image[:1], single), net(image, operator)[:1]) < 1e-5


def test_time_reversal_of_the_scan_reverses_the_images():
    """One cell runs both ways with the same weights and the sum is kept, so time has no direction."""
    net = network()
    image, operator = problem(frames=6)
    backward = part_of(operator, lambda values: values.flip(1))
    with torch.no_grad():
        assert relative(net(image.flip(1), backward).flip(1), net(image, operator)) < 1e-5


def test_frame_order_matters():
    net = network()
    image, operator = problem(frames=6)
    order = torch.tensor([0, 3, 1, 5, 2, 4])
    shuffled = part_of(operator, lambda values: values[:, order])
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


def gradients(net, image, operator, **settings):
    """Return the loss and the gradient of every weight under settings of training."""
    for name, value in {"truncate": 0, "checkpoint": 0, **settings}.items():
        setattr(net, name, value)
    net.zero_grad()
    found = net(image, operator)
    loss = found.abs().square().sum()
    loss.backward()
    return loss.detach(), [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("checkpoint", [0, 2])
def test_gradients_equal_finite_differences(checkpoint):
    """In double precision, which the network keeps throughout."""
    net = network(features=2).double()
    net.checkpoint = checkpoint
    image, operator = problem(batch=1, frames=3, lines=4, columns=3, dtype=torch.complex128)
    assert torch.autograd.gradcheck(lambda x: net(x, operator), image.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("iterations", [1, 5])
@pytest.mark.parametrize("checkpoint", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("truncate", [0, 2])
def test_checkpoints_change_neither_loss_nor_gradients(iterations, checkpoint, truncate):
    net = network(features=3, iterations=iterations).double()
    image, operator = problem(dtype=torch.complex128)
    expected, wanted = gradients(net, image, operator, truncate=truncate)
    loss, found = gradients(net, image, operator, truncate=truncate, checkpoint=checkpoint)
    assert torch.equal(loss, expected)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("checkpoint", [1, 2])
def test_checkpoints_work_in_mixed_precision(checkpoint):
    net = network(features=3, iterations=5)
    image, operator = problem()
    with torch.autocast("cpu", torch.bfloat16):
        expected, wanted = gradients(net, image, operator)
        loss, found = gradients(net, image, operator, checkpoint=checkpoint)
    assert torch.equal(loss, expected)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_progress_is_told_once_an_iteration_with_checkpoints():
    net = network(iterations=5)
    net.checkpoint = 2
    image, operator = problem()
    ticks = []
    net(image, operator, progress=lambda: ticks.append(1)).abs().sum().backward()
    assert len(ticks) == 5


def saved_bytes(net, checkpoint):
    """Return the bytes that the graph of a forward pass holds, each storage counted once, weights and data apart."""
    net.checkpoint = checkpoint
    image, operator = problem(batch=1, frames=4, lines=32, columns=32)
    apart = {p.untyped_storage().data_ptr() for p in net.parameters()}
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(image, operator)
    return sum(s.nbytes() for pointer, s in storages.items() if pointer not in apart)


def test_checkpoints_keep_only_states_between_groups():
    """Of 6 iterations: everything, or the states before each iteration but the first, or before every third."""
    net = network(features=16, iterations=6)
    states = 4 * 4 * 16 * 4 * 32 * 32
    everything, each, every_third = (saved_bytes(net, checkpoint) for checkpoint in (0, 1, 3))
    assert everything > 6 * 1.4 * states
    assert 5 * states < each < 5.5 * states
    assert 1 * states < every_third < 1.5 * states


@pytest.mark.parametrize("truncate", [1, 2, 6, 7])
def test_truncation_leaves_the_images_as_they_are(truncate):
    net = network()
    image, operator = problem(frames=6)
    expected = net(image, operator)
    net.truncate = truncate
    assert torch.equal(net(image, operator), expected)


@pytest.mark.parametrize("truncate", [0, 1, 2])
def test_gradients_of_sets_that_are_alike_add_up_to_those_of_one(truncate):
    net = network(features=3, iterations=4)
    alike = expand_network(net, CRNNMRIConfig(features=3, iterations=4, weight_sets=2))
    image, operator = problem(frames=6, dtype=torch.complex128)
    _, wanted = gradients(net.double(), image, operator, truncate=truncate)
    _, found = gradients(alike.double(), image, operator, truncate=truncate)
    for one, last, first in zip(wanted, found[: len(wanted)], found[len(wanted) :], strict=True):
        torch.testing.assert_close(last + first, one)


def test_truncation_beyond_the_sequence_is_none():
    net = network(features=3).double()
    image, operator = problem(frames=6, dtype=torch.complex128)
    _, wanted = gradients(net, image, operator)
    for truncate, same in ((6, True), (100, True), (5, False), (1, False)):
        _, found = gradients(net, image, operator, truncate=truncate)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)) == same, truncate


@pytest.mark.parametrize("frames", [6, 7])
@pytest.mark.parametrize("truncate", [0, 1, 2, 3, 4])
def test_truncation_cuts_both_directions_of_time(frames, truncate):
    """In one iteration frame s reaches frame t forward if no multiple of truncate is in (s, t], backward mirrored."""
    net = network(iterations=1)
    net.truncate = truncate
    image = problem(batch=1, frames=frames)[0].requires_grad_()
    out = net(image, lambda image_BTYX, error: image_BTYX)
    length = truncate or frames
    for t in range(frames):
        (grad,) = torch.autograd.grad(out[:, t].abs().sum(), image, retain_graph=True)
        reached = {s for s in range(frames) if grad[:, s].any()}
        forward = {s for s in range(t + 1) if s // length == t // length}
        backward = {s for s in range(t, frames) if (frames - 1 - s) // length == (frames - 1 - t) // length}
        assert reached == forward | backward


@pytest.mark.parametrize(("truncate", "checkpoint"), [(1, 1), (2, 3)])
def test_without_gradients_training_attributes_do_nothing(truncate, checkpoint):
    net = network()
    image, operator = problem()
    with torch.no_grad():
        expected = net(image, operator)
        net.truncate, net.checkpoint = truncate, checkpoint
        assert torch.equal(net(image, operator), expected)
    assert set(net.state_dict()) == set(network().state_dict())

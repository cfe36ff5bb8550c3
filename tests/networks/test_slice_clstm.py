"""The slice network: inference equals training's forward, slices see what they should, and its shape is pinned."""

import pytest
import torch

from crnn_cli.networks import slice_clstm
from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig


def network(directions=2, scales=3, seed=0, **settings):
    """Return a network with random readouts, biases, peepholes and batch statistics."""
    torch.manual_seed(seed)
    config = SliceCLSTMConfig(classes=3, width=3, scales=scales, hidden=2, directions=directions, **settings)
    made = SliceCLSTM(config).eval()
    with torch.no_grad():
        for readout in made.readout:
            readout.weight.normal_(0, 5)
        for name, value in made.state_dict().items():
            if "peephole" in name or "running_mean" in name:
                value.normal_(0, 0.3)
            elif "running_var" in name:
                value.uniform_(0.5, 2)
    return made


def stack(slices=6, rows=9, columns=7, seed=0):
    return torch.randn(slices, rows, columns, generator=torch.Generator().manual_seed(seed))


def logits(made, image_SYX):
    with torch.no_grad():
        return made(image_SYX[None])[0][0]


def seen(made, slices=6):
    """Return which slices each slice's logits depend on: entry t, s where t looks at s."""
    image = stack(slices)
    found = torch.zeros(slices, slices, dtype=torch.bool)
    for s in range(slices):
        other = image.clone()
        other[s] += torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(9))
        found[:, s] = (logits(made, other) - logits(made, image)).abs().amax((1, 2, 3)) > 1e-5
    return found


@pytest.mark.parametrize("directions", [0, 1, 2])
@pytest.mark.parametrize("slices", [1, 4, 5, 10])
@pytest.mark.parametrize("kept_bytes", [2**28, 0])
def test_label_is_the_softmax_of_forward(monkeypatch, directions, slices, kept_bytes):
    """Whether the stack divides by the chunk or not, and whether features are kept or computed again."""
    monkeypatch.setattr(slice_clstm, "_MAX_KEPT_BYTES", kept_bytes)
    made, image = network(directions), stack(slices)
    found = made.label(image)
    assert found.shape == (slices, 3, 9, 7)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.softmax(logits(made, image), 1), rtol=0, atol=1e-6)


def test_features_are_computed_once_if_they_are_kept_and_else_twice(monkeypatch):
    monkeypatch.setattr(slice_clstm, "_PIXELS_AT_ONCE", 4 * 12 * 8)
    made, image, calls = network(2), stack(10), []
    made.cnn.register_forward_hook(lambda *_: calls.append(1))
    made.label(image)
    assert len(calls) == 3
    monkeypatch.setattr(slice_clstm, "_MAX_KEPT_BYTES", 0)
    made.label(image)
    assert len(calls) == 3 + 6


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (5, 3), (8, 16), (17, 10)])
def test_any_size_of_slice(size):
    made, image = network(), stack(3, *size)
    found = made.label(image)
    assert found.shape == (3, 3, *size)
    torch.testing.assert_close(found, torch.softmax(logits(made, image), 1), rtol=0, atol=1e-6)


def test_ascending_only_looks_back():
    assert torch.equal(seen(network(1)), torch.ones(6, 6, dtype=torch.bool).tril())


def test_both_directions_look_everywhere():
    assert seen(network(2)).all()


def test_the_cnn_alone_looks_at_its_slice():
    assert torch.equal(seen(network(0)), torch.eye(6, dtype=torch.bool))
    made, image, order = network(0), stack(), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(logits(made, image[order]), logits(made, image)[order])


def test_order_matters_with_the_recurrent_part():
    made, image, order = network(2), stack(), torch.tensor([3, 0, 5, 1, 4, 2])
    assert (logits(made, image[order]) - logits(made, image)[order]).abs().max() > 1e-2


def test_sequences_of_a_batch_do_not_see_each_other():
    made, images = network(2), torch.stack([stack(seed=1), stack(seed=2)])
    with torch.no_grad():
        together = made(images)
    for b in range(2):
        with torch.no_grad():
            for found, alone in zip(together, made(images[b : b + 1]), strict=True):
                torch.testing.assert_close(found[b], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("directions", [1, 2])
def test_a_zero_readout_is_the_cnn_alone(directions):
    """So the recurrent part is attached to a trained CNN without loss; a new network starts there."""
    torch.manual_seed(0)
    made = SliceCLSTM(SliceCLSTMConfig(classes=3, width=3, scales=2, hidden=2, directions=directions)).eval()
    alone = SliceCLSTM(SliceCLSTMConfig(classes=3, width=3, scales=2, hidden=2, directions=0)).eval()
    alone.load_state_dict({k: v for k, v in made.state_dict().items() if k.startswith("cnn.")})
    image = stack()
    assert torch.equal(logits(made, image), logits(alone, image))
    torch.testing.assert_close(made.label(image), alone.label(image))
    with torch.no_grad():
        refined, side, *_ = made(image[None])
    assert torch.equal(refined, side[..., :9, :7])


def test_a_reversed_stack_with_swapped_directions_gives_the_reversed_result():
    made, image = network(2), stack()
    swapped = network(2)
    weights = made.state_dict()
    other = {"cells.0": "cells.1", "cells.1": "cells.0", "readout.0": "readout.1", "readout.1": "readout.0"}
    swapped.load_state_dict(
        {k: weights[k.replace(p, other[p]) if (p := ".".join(k.split(".")[:2])) in other else k] for k in weights}
    )
    expected = logits(made, image)
    torch.testing.assert_close(logits(swapped, image.flip(0)).flip(0), expected, rtol=0, atol=1e-4)
    assert (logits(made, image.flip(0)).flip(0) - expected).abs().max() > 1e-2


def test_padding_repeats_the_last_row_and_column():
    made, image = network(2, scales=3), stack(4, 9, 7)
    padded = torch.cat([image, image[:, -1:].expand(-1, 3, -1)], 1)
    padded = torch.cat([padded, padded[:, :, -1:]], 2)
    torch.testing.assert_close(logits(made, image), logits(made, padded)[..., :9, :7])


def test_side_outputs_have_the_size_of_their_scale():
    with torch.no_grad():
        shapes = [tuple(out.shape) for out in network(scales=3)(stack(4, 9, 7)[None])]
    assert shapes == [(1, 4, 3, 9, 7), (1, 4, 3, 12, 8), (1, 4, 3, 6, 4), (1, 4, 3, 3, 2)]


@pytest.mark.parametrize(("directions", "total"), [(0, 6), (1, 6), (2, 12)])
def test_progress_counts_slices_and_directions(directions, total):
    ticks = []
    network(directions).label(stack(), lambda done, of: ticks.append((done, of)))
    assert ticks == [(k, total) for k in range(1, total + 1)]


def test_size_of_the_default_network():
    """The numbers of a block: two 3 x 3 convolutions, and scale and shift of two normalisations."""
    widths = (24, 48, 96, 192)

    def block(before, width):
        return 9 * before * width + 9 * width * width + 4 * width

    cnn = sum(block(b, w) for b, w in zip((1, *widths), widths, strict=False))
    cnn += sum(w * w + 2 * w * w + 2 * w + 9 * w * w + 2 * w for w in widths[:-1])
    cnn += sum(2 * w + 2 for w in widths)
    cell = 9 * 24 * 64 + 9 * 16 * 64 + 64 + 3 * 16
    expected = cnn + 2 * (cell + 2 * 16)
    assert expected == 852_944
    assert sum(p.numel() for p in SliceCLSTM(SliceCLSTMConfig()).parameters()) == expected


def test_weight_names_are_pinned():
    """Published weights have these names."""
    norm = ("bias", "num_batches_tracked", "running_mean", "running_var", "weight")
    names = []
    for m in range(4):
        names += [f"cnn.blocks.{m}.{k}.weight" for k in (0, 3)]
        names += [f"cnn.blocks.{m}.{k}.{part}" for k in (1, 4) for part in norm]
        names += [f"cnn.side.{m}.{part}" for part in ("bias", "weight")]
    for m in range(3):
        names += [f"cnn.lateral.{m}.weight", f"cnn.above.{m}.weight", f"cnn.aggregate.{m}.2.weight"]
        names += [f"cnn.aggregate.{m}.{k}.{part}" for k in (0, 3) for part in norm]
    for d in range(2):
        names += [f"cells.{d}.peephole_{gate}" for gate in "ifo"]
        names += [f"cells.{d}.x2g.weight", f"cells.{d}.h2g.weight", f"cells.{d}.h2g.bias", f"readout.{d}.weight"]
    assert sorted(SliceCLSTM(SliceCLSTMConfig()).state_dict()) == sorted(names)


@pytest.mark.parametrize(
    "settings",
    [
        {"classes": 1}, {"classes": 257}, {"width": 0}, {"width": 257}, {"scales": 0}, {"scales": 7}, {"hidden": 0},
        {"hidden": 257}, {"kernel": 2}, {"kernel": 17}, {"kernel": -1}, {"directions": 3}, {"directions": -1},
    ],
)  # fmt: skip
def test_senseless_sizes_are_refused(settings):
    with pytest.raises(ValueError, match=r"classes|width|kernel|directions"):
        SliceCLSTMConfig(**settings)


def gradients(made, image_SYX, truncate):
    """Return the refined logits and the gradient of every weight."""
    made.zero_grad()
    made.truncate = truncate
    refined = made(image_SYX[None])[0]
    refined.square().sum().backward()
    return refined.detach(), [p.grad.clone() for p in made.parameters() if p.grad is not None]


@pytest.mark.parametrize("directions", [1, 2])
def test_truncation_leaves_the_logits_and_beyond_the_stack_is_none(directions):
    made, image = network(directions).double(), stack(6).double()
    expected, wanted = gradients(made, image, 0)
    for truncate, same in ((6, True), (100, True), (5, False), (2, False), (1, False)):
        refined, found = gradients(made, image, truncate)
        assert torch.equal(refined, expected)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)) == same, truncate


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("slices", [5, 6])
@pytest.mark.parametrize("truncate", [0, 1, 2, 3])
def test_truncation_cuts_each_direction_counted_from_its_first_slice(directions, slices, truncate):
    made, image = network(directions), stack(slices).requires_grad_()
    made.truncate = truncate
    refined = made(image[None])[0][0]
    length = truncate or slices
    for t in range(slices):
        (grad,) = torch.autograd.grad(refined[t].square().sum(), image, retain_graph=True)
        reached = {s for s in range(slices) if grad[s].any()}
        ascending = {s for s in range(t + 1) if s // length == t // length}
        descending = {s for s in range(t, slices) if (slices - 1 - s) // length == (slices - 1 - t) // length}
        assert reached == (ascending | descending if directions == 2 else ascending)


def test_truncation_is_for_training_only():
    made, image = network(), stack()
    expected = made.label(image)
    made.truncate = 1
    assert torch.equal(made.label(image), expected)

"""The network for drawn slices: it begins as interpolation, inference equals training, and its shape is pinned."""

import pytest
import torch

from crnn_cli.networks import drawn_clstm
from crnn_cli.networks.drawn_clstm import LARGEST_DISTANCE, DrawnCLSTM, DrawnCLSTMConfig


def network(seed=0, **sizes):
    """Return a network whose last layer is not zero, with random batch statistics and peepholes."""
    torch.manual_seed(seed)
    made = DrawnCLSTM(DrawnCLSTMConfig(width=8, hidden=4, keys=4, **sizes)).eval()
    with torch.no_grad():
        made.correct.weight.normal_(0, 1)
        for name, value in made.state_dict().items():
            if "peephole" in name or "running_mean" in name:
                value.normal_(0, 0.3)
            elif "running_var" in name:
                value.uniform_(0.5, 2)
    return made


def stack(slices=6, rows=17, columns=14, drawn=(1, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(slices, rows, columns, generator=generator)
    distance, others = (4 * torch.randn(slices, rows, columns, generator=generator) for _ in range(2))
    known = torch.zeros(slices, dtype=torch.bool)
    known[list(drawn)] = True
    return image, distance, known, others


def logits(made, image, distance, known, others=None):
    with torch.no_grad():
        return made(image[None], distance[None], known[None], None if others is None else others[None])[0]


def test_untrained_it_gives_the_interpolation_itself():
    image, distance, known, others = stack()
    made = DrawnCLSTM(DrawnCLSTMConfig(width=8, hidden=4)).eval()
    assert ((logits(made, image, 3 * distance, known, others) > 0) == (distance > 0)).all()


@pytest.mark.parametrize("pixels", [2**18, 24 * 16 * 2, 1])
def test_follow_is_forward_however_many_slices_are_taken_at_once(monkeypatch, pixels):
    monkeypatch.setattr(drawn_clstm, "_AT_ONCE", pixels)
    made, (image, distance, known, others) = network(), stack()
    followed, whole = made.follow(image, distance, known, others), logits(made, image, distance, known, others)
    torch.testing.assert_close(followed[~known], whole[~known], rtol=0, atol=2e-5)
    assert (followed[known] == 0).all(), "drawn slices are not decoded"


def test_follow_tells_how_far_it_is(monkeypatch):
    monkeypatch.setattr(drawn_clstm, "_AT_ONCE", 24 * 16 * 2)
    image, distance, known, others = stack()
    told = []
    network().follow(image, distance, known, others, lambda done, total: told.append((done, total)))
    assert told == [(2, 12), (4, 12), (6, 12), (8, 12), (10, 12), (12, 12)]


def test_stacks_of_a_batch_do_not_see_each_other():
    made, one, other = network(), stack(seed=1), stack(drawn=(0,), seed=2)
    with torch.no_grad():
        both = made(*[torch.stack(parts) for parts in zip(one, other, strict=True)])
    torch.testing.assert_close(both[0], logits(made, *one), rtol=0, atol=2e-5)
    torch.testing.assert_close(both[1], logits(made, *other), rtol=0, atol=2e-5)


def test_every_slice_sees_every_other_and_the_labels_before_and_after_it():
    made = network().double()
    image, distance, known, others = (each if each.dtype == torch.bool else each.double() for each in stack())
    plain = logits(made, image, distance, known, others)
    for s in range(len(image)):
        moved, redrawn = image.clone(), distance.clone()
        moved[s] = moved[s].flip(0)
        redrawn[s] = redrawn[s].flip(1)
        for changed in (logits(made, moved, distance, known, others), logits(made, image, redrawn, known, others)):
            assert ((changed - plain).abs().amax((1, 2)) > 1e-12).all()


def test_labels_are_fetched_from_where_the_image_moved_to(monkeypatch):
    """With features that are the pixels themselves, a moved pattern fetches the distances of the pattern."""
    made = network()
    made.nearness.data.fill_(-4.0)
    made.likeness.data.fill_(50.0)
    monkeypatch.setattr(made, "look", Pixels())
    image, distance = torch.randn(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    both = torch.cat([image, image.roll((4, 8), (2, 3))], 1)
    pair = drawn_clstm._Stack.padded(both, torch.cat([distance, distance], 1), torch.tensor([[True, False]]), None)
    fetched = made._fetched(pair, torch.tensor([1]), pair.before_N[1:])
    inner = (..., slice(16, 48), slice(16, 48))
    moved = pair.distance_N1YX[:1].roll((4, 8), (2, 3))
    torch.testing.assert_close(fetched[inner], moved[inner], rtol=0, atol=0.05)


class Pixels(torch.nn.Module):
    """The pixels of each square of 4 x 4 as its features."""

    def forward(self, image_N1YX):
        return torch.nn.functional.pixel_unshuffle(image_N1YX, 4)


def test_distances_beyond_the_largest_are_all_the_same():
    made, (image, distance, known, others) = network(), stack()
    far = distance.sign() * (distance.abs() + LARGEST_DISTANCE)
    torch.testing.assert_close(
        logits(made, image, far, known, others), logits(made, image, 10 * far, known, others), rtol=0, atol=0
    )


def test_no_other_structure_is_one_that_is_far_away():
    made, (image, distance, known, _) = network(), stack()
    far = torch.full_like(distance, -1e4)
    torch.testing.assert_close(logits(made, image, distance, known), logits(made, image, distance, known, far))


def test_a_stack_without_a_drawn_slice_is_refused():
    image, distance, known, _ = stack()
    with pytest.raises(ValueError, match="no drawn slice"):
        logits(network(), image, distance, known & False)


@pytest.mark.parametrize("sizes", [{"width": 12}, {"width": 0}, {"width": 128}, {"hidden": 0}, {"keys": 300}])
def test_sizes_out_of_range_are_refused(sizes):
    with pytest.raises(ValueError, match=r"width|hidden"):
        DrawnCLSTMConfig(**sizes)


def test_parameters_are_pinned():
    made = DrawnCLSTM(DrawnCLSTMConfig())
    assert sum(parameter.numel() for parameter in made.parameters()) == 904916
    assert list(dict(made.named_children())) == ["look", "encode", "cells", "decode", "correct"]

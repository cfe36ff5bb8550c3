"""Losses equal what is worked out by hand, MONAI's and torch's own, and have the gradients they should."""

import math

import pytest
import torch
import torch.nn.functional as F

from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig
from crnn_cli.training.segment.losses import (
    LOSSES,
    balanced_cross_entropy,
    cross_entropy,
    dice_loss,
    jaccard_loss,
    mixed_loss,
    supervised_loss,
)

MIXED = {"ce": 0.5, "jaccard": 1.0}


def logits_of(*foreground):
    """Return logits (1, S, 2, 1, X) whose softmax gives these foreground probabilities, a list per slice."""
    p = torch.tensor(foreground, dtype=torch.float64)[None, :, None, None]
    return torch.cat([1 - p, p], dim=2).log()


def labels_of(*foreground):
    y = torch.tensor(foreground, dtype=torch.float64)[None, :, None, None]
    return torch.cat([1 - y, y], dim=2)


def problem(batch=2, slices=4, classes=3, rows=6, columns=5, seed=0):
    """Return logits and hard labels in double precision with every class in every sequence."""
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, slices, classes, rows, columns, dtype=torch.float64, generator=g)
    values = torch.randint(0, classes, (batch, slices, rows, columns), generator=g)
    values[:, 0, 0, :classes] = torch.arange(classes)
    return logits, F.one_hot(values, classes).permute(0, 1, 4, 2, 3).double()


LOGITS, LABELS = logits_of([0.5, 0.25], [0.8, 0.1]), labels_of([1, 0], [1, 0])


def test_jaccard_by_hand():
    """Over both slices: min sums to .5 + .8, max to 1 + .25 + 1 + .1."""
    assert float(jaccard_loss(LOGITS, LABELS)) == pytest.approx(1 - 1.3 / 2.35, abs=1e-12)


def test_jaccard_of_soft_labels_by_hand():
    soft = labels_of([0.3, 0.25], [0.9, 0])
    assert float(jaccard_loss(LOGITS, soft)) == pytest.approx(1 - (0.3 + 0.25 + 0.8) / (0.5 + 0.25 + 0.9 + 0.1))


def test_dice_by_hand():
    assert float(dice_loss(LOGITS, LABELS)) == pytest.approx(1 - 2 * 1.3 / (1.65 + 2), abs=1e-12)


def test_cross_entropy_by_hand():
    expected = -sum(math.log(p) for p in (0.5, 0.75, 0.8, 0.9)) / 4
    assert float(cross_entropy(LOGITS, LABELS)) == pytest.approx(expected, abs=1e-12)


def test_balanced_cross_entropy_by_hand():
    """One voxel of four is foreground: it weighs 4 / 2, each of the other three 4 / (3 * 2)."""
    labels = labels_of([1, 0], [0, 0])
    expected = -(2 * math.log(0.5) + 2 / 3 * (math.log(0.75) + math.log(0.2) + math.log(0.9))) / 4
    assert float(balanced_cross_entropy(LOGITS, labels)) == pytest.approx(expected, abs=1e-12)


def test_sums_run_over_the_sequence_not_the_slice():
    """An empty slice without false alarms changes nothing."""
    empty = logits_of([0.5, 0.25], [1e-300, 1e-300]), labels_of([1, 0], [0, 0])
    single = logits_of([0.5, 0.25]), labels_of([1, 0])
    for loss in (jaccard_loss, dice_loss):
        assert float(loss(*empty)) == pytest.approx(float(loss(*single)), abs=1e-12)


@pytest.mark.parametrize("smooth", [0.0, 1e-9])
@pytest.mark.parametrize("jaccard", [True, False])
def test_overlap_losses_equal_monais(jaccard, smooth):
    """MONAI's classes are axis 1; slices, rows and columns are its three dimensions of space."""
    losses = pytest.importorskip("monai.losses")
    logits, labels = problem()
    options = {"include_background": False, "squared_pred": False, "smooth_nr": smooth, "smooth_dr": 1e-9}
    expected = losses.DiceLoss(jaccard=jaccard, softmax=True, **options)(logits.transpose(1, 2), labels.transpose(1, 2))
    torch.testing.assert_close((jaccard_loss if jaccard else dice_loss)(logits, labels), expected, rtol=0, atol=1e-8)


def test_cross_entropies_equal_torchs():
    logits, labels = problem()
    values = labels.argmax(2)
    expected = F.cross_entropy(logits.transpose(1, 2), values)
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    balanced = []
    for l_SKYX, v_SYX in zip(logits, values, strict=True):  # torch divides by the sum of the weights, here the voxels
        weight = v_SYX.numel() / (3 * torch.bincount(v_SYX.flatten(), minlength=3)).double()
        balanced.append(F.cross_entropy(l_SKYX, v_SYX, weight))
    torch.testing.assert_close(balanced_cross_entropy(logits, labels), torch.stack(balanced).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    logits, labels = problem(batch=2, slices=2, rows=2, columns=3)
    labels[1, :, 0] += labels[1, :, 2]  # the second sequence lacks a class
    labels[1, :, 2] = 0
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, labels), logits.requires_grad_())


@pytest.mark.parametrize("name", ["jaccard", "dice", "balanced"])
def test_absent_classes_are_ignored(name):
    """With a third class that is neither there nor predicted, the loss is that of two classes."""
    logits, labels = problem(classes=2)
    more = torch.cat([logits, torch.full_like(logits[:, :, :1], -1e3)], 2)
    with_absent = torch.cat([labels, torch.zeros_like(labels[:, :, :1])], 2)
    torch.testing.assert_close(LOSSES[name](more, with_absent), LOSSES[name](logits, labels))


@pytest.mark.parametrize("loss", [jaccard_loss, dice_loss])
def test_each_sequence_counts_its_own_classes(loss):
    """The mean runs over the pairs of sequence and class present: here 2 of the first, 1 of the second."""
    logits, labels = problem()
    labels[1, :, 0] += labels[1, :, 2]
    labels[1, :, 2] = 0
    first = float(loss(logits[:1], labels[:1]))
    second = float(loss(logits[1:], labels[1:]))
    assert float(loss(logits, labels)) == pytest.approx((2 * first + second) / 3)


@pytest.mark.parametrize("loss", [jaccard_loss, dice_loss])
def test_no_structure_at_all_gives_zero_and_no_gradient(loss):
    logits, labels = problem()
    labels[:, :, 0], labels[:, :, 1:] = 1, 0
    logits.requires_grad_()
    found = loss(logits, labels)
    found.backward()
    assert found.item() == 0
    assert (logits.grad == 0).all()


def test_jaccard_is_zero_at_soft_labels_and_dice_is_not():
    logits, _ = problem()
    soft = torch.softmax(logits, 2)
    assert float(jaccard_loss(logits, soft)) == pytest.approx(0, abs=1e-12)
    assert float(dice_loss(logits, soft)) > 0.05
    assert float(jaccard_loss(logits + 0.1 * torch.randn_like(logits), soft)) > 1e-3


def test_overlap_losses_go_from_perfect_to_wrong():
    logits, labels = problem()
    for loss in (jaccard_loss, dice_loss):
        assert float(loss(1e3 * labels, labels)) == pytest.approx(0, abs=1e-9)
        assert float(loss(1e3 * labels.roll(1, 2), labels)) == pytest.approx(1, abs=1e-9)
        assert 0 < float(loss(logits, labels)) < 1


def test_mixed_loss_is_the_weighted_sum():
    logits, labels = problem()
    weights = {"jaccard": 1.0, "dice": 0.25, "ce": 0.5, "balanced": 2.0}
    expected = sum(weight * LOSSES[name](logits, labels) for name, weight in weights.items())
    torch.testing.assert_close(mixed_loss(weights, logits, labels), expected)


def test_supervision_by_hand_at_two_scales():
    """Refined logits count 1; the sides together 1/2, the full-size one twice the coarse one."""
    refined, labels = problem(rows=4, columns=6)
    fine, _ = problem(rows=4, columns=6, seed=1)
    coarse, _ = problem(rows=2, columns=3, seed=2)
    averaged = labels.unflatten(4, (3, 2)).unflatten(3, (2, 2)).mean((4, 6))
    expected = mixed_loss(MIXED, refined, labels)
    expected = expected + 1 / 3 * mixed_loss(MIXED, fine, labels) + 1 / 6 * mixed_loss(MIXED, coarse, averaged)
    torch.testing.assert_close(supervised_loss(MIXED, [refined, fine, coarse], labels), expected)


def test_supervision_by_hand_at_an_odd_size():
    """3 x 5 pixels became 4 x 6 in the network: padding is cut off the fine side, repeated for the coarse one."""
    refined, labels = problem(rows=3, columns=5)
    fine, _ = problem(rows=4, columns=6, seed=1)
    coarse, _ = problem(rows=2, columns=3, seed=2)
    rows, columns = [0, 1, 2, 2], [0, 1, 2, 3, 4, 4]
    averaged = labels[:, :, :, rows][..., columns].unflatten(4, (3, 2)).unflatten(3, (2, 2)).mean((4, 6))
    expected = mixed_loss(MIXED, refined, labels) + 1 / 3 * mixed_loss(MIXED, fine[..., :3, :5], labels)
    expected = expected + 1 / 6 * mixed_loss(MIXED, coarse, averaged)
    torch.testing.assert_close(supervised_loss(MIXED, [refined, fine, coarse], labels), expected)


@pytest.mark.parametrize(("scales", "size"), [(1, (7, 5)), (3, (13, 10)), (4, (9, 17)), (3, (8, 12))])
def test_supervision_of_a_networks_outputs_reaches_every_weight(scales, size):
    torch.manual_seed(0)
    network = SliceCLSTM(SliceCLSTMConfig(classes=3, width=2, scales=scales, hidden=2))
    for readout in network.readout:
        torch.nn.init.normal_(readout.weight)
    labels = F.one_hot(torch.randint(0, 3, (1, 3, *size)), 3).permute(0, 1, 4, 2, 3).float()
    loss = supervised_loss(MIXED, network(torch.randn(1, 3, *size)), labels)
    assert torch.isfinite(loss)
    loss.backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any(), name  # noqa: PT018

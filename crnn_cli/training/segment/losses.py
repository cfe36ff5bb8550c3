"""Losses of segmentation, on probabilities and one-hot labels of whole slice sequences.

    jaccard   1 - sum min(p, y) / sum max(p, y)           per class over the sequence; classes present are averaged
    dice      1 - 2 sum p y / (sum p + sum y)             the same
    ce        - mean over voxels of log p[label]
    balanced  the same, each class weighted so that all that are present count alike

Soft Jaccard as in Cai et al. (MICCAI 2017); with hard labels min(p, y) = p y and max(p, y) = p + y - p y, and it stays
right where labels are soft (Wang, Ning, Blaschko: "Jaccard metric losses", NeurIPS 2023). Sums run over the whole
sequence, so slices without the structure do no harm.

Legend: B sequence, S slice, K class (0 background), Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def jaccard_loss(logits_BSKYX: Tensor, labels_BSKYX: Tensor) -> Tensor:
    """Compute the mean soft Jaccard loss of the foreground classes present, 0 where there is none.

    Parameters
    ----------
    logits_BSKYX : of the network.
    labels_BSKYX : one-hot, or soft.
    """
    p = torch.softmax(logits_BSKYX, dim=2)
    return _over_present(torch.minimum(p, labels_BSKYX), torch.maximum(p, labels_BSKYX), labels_BSKYX)


def dice_loss(logits_BSKYX: Tensor, labels_BSKYX: Tensor) -> Tensor:
    """Compute the mean soft Dice loss of the foreground classes present, 0 where there is none.

    Parameters
    ----------
    logits_BSKYX : of the network.
    labels_BSKYX : one-hot, or soft.
    """
    p = torch.softmax(logits_BSKYX, dim=2)
    return _over_present(2 * p * labels_BSKYX, p + labels_BSKYX, labels_BSKYX)


def cross_entropy(logits_BSKYX: Tensor, labels_BSKYX: Tensor) -> Tensor:
    """Compute the mean over voxels of - sum_k y_k log p_k, over all classes, background included.

    Parameters
    ----------
    logits_BSKYX : of the network.
    labels_BSKYX : one-hot, or soft.
    """
    return _negative_log_likelihood(logits_BSKYX, labels_BSKYX).mean()


def balanced_cross_entropy(logits_BSKYX: Tensor, labels_BSKYX: Tensor) -> Tensor:
    """Compute the cross-entropy with the same total weight for every class present in a sequence.

    Weight of class k: N / (n_k * classes present), n_k of N voxels. For two classes that is the balance of Xie and Tu
    (holistically-nested edge detection, ICCV 2015).
    """
    count_BK = labels_BSKYX.sum(dim=(1, 3, 4))
    present_B1 = (count_BK > 0).sum(dim=1, keepdim=True)
    weight_BK = count_BK.sum(dim=1, keepdim=True) / (count_BK.clamp_min(1e-6) * present_B1)
    weight_BK = torch.where(count_BK > 0, weight_BK, 0.0)
    weight_BSYX = torch.einsum("bk,bskyx->bsyx", weight_BK, labels_BSKYX)
    return (weight_BSYX * _negative_log_likelihood(logits_BSKYX, labels_BSKYX)).mean()


LOSSES: dict[str, Loss] = {
    "jaccard": jaccard_loss,
    "dice": dice_loss,
    "ce": cross_entropy,
    "balanced": balanced_cross_entropy,
}


def mixed_loss(weights: Mapping[str, float], logits_BSKYX: Tensor, labels_BSKYX: Tensor) -> Tensor:
    """Compute the weighted sum of losses.

    Parameters
    ----------
    weights : by names of `LOSSES`.
    logits_BSKYX : of the network.
    labels_BSKYX : one-hot, or soft.

    >>> logits_BSKYX = torch.zeros(1, 2, 2, 4, 4)
    >>> labels_BSKYX = torch.ones(1, 2, 2, 4, 4) / 2
    >>> round(float(mixed_loss({"ce": 1.0}, logits_BSKYX, labels_BSKYX)), 3)
    0.693
    """
    terms = [weight * LOSSES[name](logits_BSKYX, labels_BSKYX) for name, weight in weights.items()]
    return torch.stack(terms).sum()


def supervised_loss(weights: Mapping[str, float], outputs: list[Tensor], labels_BSKYX: Tensor) -> Tensor:
    """Compute the loss of a `SliceCLSTM`: refined logits plus side outputs (deep supervision).

    Side output m has weight 2^-m, against labels averaged down to its scale. Together the sides count half as much as
    the refined logits.

    Parameters
    ----------
    weights : of losses, by names of `LOSSES`.
    outputs : refined logits, then side outputs, full size first.
    labels_BSKYX : one-hot.
    """
    refined, *sides = outputs
    loss: Tensor = mixed_loss(weights, refined, labels_BSKYX)
    shares: list[float] = [2.0**-m for m in range(len(sides))]
    for m, (share, side) in enumerate(zip(shares, sides, strict=True)):
        target = labels_BSKYX
        if m:
            target = F.avg_pool2d(_fitted(labels_BSKYX, side, 2**m).flatten(0, 1), 2**m)
            target = target.unflatten(0, labels_BSKYX.shape[:2])
        loss = loss + 0.5 * share / sum(shares) * mixed_loss(weights, _cropped(side, target), target)
    return loss


def _fitted(labels_BSKYX: Tensor, side: Tensor, step: int) -> Tensor:
    """Pad the labels as the network pads the slices, by repeating the last row and column."""
    rows, columns = (step * n for n in side.shape[-2:])
    grown = labels_BSKYX.flatten(0, 1)
    grown = F.pad(grown, (0, columns - grown.shape[-1], 0, rows - grown.shape[-2]), mode="replicate")
    fitted: Tensor = grown.unflatten(0, labels_BSKYX.shape[:2])
    return fitted


def _cropped(side: Tensor, target: Tensor) -> Tensor:
    return side[..., : target.shape[-2], : target.shape[-1]]


def _over_present(above_BSKYX: Tensor, below_BSKYX: Tensor, labels_BSKYX: Tensor) -> Tensor:
    """Mean over sequences and foreground classes present of 1 - sum above / sum below."""
    present_BK = labels_BSKYX[:, :, 1:].sum(dim=(1, 3, 4)) > 0
    ratio_BK = above_BSKYX[:, :, 1:].sum(dim=(1, 3, 4)) / below_BSKYX[:, :, 1:].sum(dim=(1, 3, 4)).clamp_min(1e-6)
    return ((1 - ratio_BK) * present_BK).sum() / present_BK.sum().clamp_min(1)


def _negative_log_likelihood(logits_BSKYX: Tensor, labels_BSKYX: Tensor) -> Tensor:
    return -(labels_BSKYX * torch.log_softmax(logits_BSKYX, dim=2)).sum(dim=2)

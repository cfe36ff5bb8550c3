"""Training items for cine reconstruction: a random sequence, how it was sampled, and where to start from.

Legend: B batch (1), T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.mri.consistency import SingleCoilConsistency, energy_weighted_rms
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.sampling import PATTERNS
from crnn_cli.training.scenes import Dice, SceneSize, from_cine, random_scene, with_phase


@dataclass(frozen=True)
class CineItems:
    """What random items are made of.

    cines : real magnitude cines (T, Y, X) to take views of; may be empty.
    real_share : the share of items made from them.
    pixels : frames * lines * columns of one item, about: what a step costs.
    """

    cines: Sequence[Tensor]
    real_share: float = 0.4
    pixels: int = 25_600


@dataclass(frozen=True)
class CineItem:
    """One training item, scaled so that the bright parts of the start image are about 1."""

    start_BTYX: Tensor
    truth_BTYX: Tensor
    consistency: SingleCoilConsistency


def draw_item(source: CineItems, seed: int) -> CineItem:
    """Return the item of a seed. The start image knows the whole cycle, the item is a part of it.

    Patches keep the undersampled axis whole and cut the readout (Qin's demo): a Cartesian pattern couples pixels
    along Y only. Lines 72 to 176, frames 6 to 12 out of 10 to 30, acceleration 3 to 14, noise in two thirds.
    """
    dice = Dice(seed)
    lines, kept = dice.integer(72, 176), dice.integer(6, 12)
    columns = max(16, min(64, round(source.pixels / (lines * kept) / 4) * 4))
    size = SceneSize(max(kept, dice.integer(10, 30)), lines, columns)
    if source.cines and dice.chance(source.real_share):
        cine = source.cines[dice.integer(0, len(source.cines) - 1)]
        magnitude = from_cine(cine, size, dice)
    else:
        magnitude = random_scene(size, dice)
    truth = with_phase(magnitude, dice)[None]
    truth = truth / energy_weighted_rms(truth).clamp_min(1e-3)
    kspace, mask = _sample(truth, dice)
    whole = SingleCoilConsistency(kspace, mask)
    start = whole.view_shared()
    scale = dice.log_uniform(0.8, 1.25) / energy_weighted_rms(start).clamp_min(1e-3)
    first = dice.integer(0, size.frames - kept)
    part = slice(first, first + kept)
    consistency = SingleCoilConsistency(kspace[:, part] * scale, mask[:, part])
    return CineItem(start[:, part] * scale, truth[:, part] * scale, consistency)


def _sample(truth: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Return noisy undersampled k-space and its mask (1, T, Y, 1)."""
    frames, lines = truth.shape[1:3]
    pattern = "variable-density" if dice.chance(0.75) else "sheared-grid"
    acceleration = dice.log_uniform(3, min(14, lines / 6))
    centre = None if dice.chance(0.7) else dice.integer(1, max(1, int(lines / acceleration * 0.8)))
    mask = PATTERNS[pattern](frames, lines, acceleration, dice.generator, centre)[None, :, :, None]
    noise = dice.log_uniform(0.003, 0.06) if dice.chance(0.67) else 0.0
    kspace = image_to_kspace(truth)
    kspace = kspace + noise * torch.complex(dice.normal(*kspace.shape), dice.normal(*kspace.shape)) / 2**0.5
    return kspace * mask, mask

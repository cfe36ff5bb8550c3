"""Training items for cine reconstruction: a random sequence, its random undersampling, and the initial image.

Legend: B batch (1), C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.mri.consistency import SingleCoilConsistency, energy_weighted_rms
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.multicoil import MultiCoilConsistency
from crnn_cli.mri.sampling import PATTERNS
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import INITIAL_IMAGES
from crnn_cli.training.reconstruct.coil_maps import perturb_maps, random_maps
from crnn_cli.training.reconstruct.scenes import SceneRandom, SceneSize, from_cine, random_scene, with_phase
from crnn_cli.training.settings import setting

CPU = torch.device("cpu")
_MOST_COLUMNS = 128


@dataclass(frozen=True)
class SamplingSettings:
    """Sizes and undersampling of items; each quantity is random between its bounds, both included."""

    lines: int = setting(72, "fewest lines along the undersampled axis, which items keep whole")
    most_lines: int = setting(176, "most of them")
    frames: int = setting(6, "fewest frames of an item, a part of a cycle")
    most_frames: int = setting(12, "most of them")
    cycle: int = setting(10, "fewest frames of a cycle")
    most_cycle: int = setting(30, "most of them")
    acceleration: float = setting(3.0, "lowest")
    most_acceleration: float = setting(14.0, "highest")
    variable_density: float = setting(0.75, "share of variable-density patterns; the others are sheared grids")
    noisy: float = setting(0.67, "share of items with noise in k-space")
    noise: float = setting(0.003, "lowest noise, relative to the bright parts of the image")
    most_noise: float = setting(0.06, "highest noise")
    told: float = setting(0.0, "share of noisy items whose data consistency knows the noise; with several coils all do")
    several: float = setting(0.0, "share of items with several coils, of simulated sensitivities")
    coils: int = setting(2, "fewest coils of those items")
    most_coils: int = setting(12, "most of them")
    maps_error: float = setting(0.05, "largest error of the sensitivities that the network is given, down to a tenth")

    def __post_init__(self) -> None:
        if not 16 <= self.lines <= self.most_lines or not 2 <= self.frames <= self.most_frames:
            raise ValueError("lines must be from 16 to most_lines, frames from 2 to most_frames")
        if not 2 <= self.cycle <= self.most_cycle or not 1 < self.acceleration <= self.most_acceleration:
            raise ValueError("cycle must be from 2 to most_cycle, acceleration above 1, up to most_acceleration")
        if not 0 < self.noise <= self.most_noise:
            raise ValueError("noise must be above 0, up to most_noise")
        if not all(0 <= share <= 1 for share in (self.variable_density, self.noisy, self.told)):
            raise ValueError("variable_density, noisy and told are shares: from 0 to 1")
        if not 0 <= self.several <= 1 or not 2 <= self.coils <= self.most_coils or not 0 <= self.maps_error < 1:
            raise ValueError("several is a share, from 0 to 1; coils from 2 to most_coils; maps_error from 0, below 1")


@dataclass(frozen=True)
class CineItems:
    """Source of random items.

    Attributes
    ----------
    cines : real cines (T, Y, X) to take random views of, magnitude or complex; may be empty.
    real_share : share of the items made from them; the others are simulated scenes.
    pixels : frames * lines * columns of an item, about: the cost of a step.
    sampling : sizes and undersampling.
    initial_image : of the network, a key of `crnn_cli.reconstruction.reconstruct.INITIAL_IMAGES`.
    """

    cines: Sequence[Tensor]
    real_share: float = 0.4
    pixels: int = 25_600
    sampling: SamplingSettings = SamplingSettings()
    initial_image: str = "time-wiener"


@dataclass(frozen=True)
class CineItem:
    """A training item, scaled so that the bright parts of the initial image are about 1.

    Attributes
    ----------
    initial_BTYX : input of the network.
    truth_BTYX : fully sampled, without noise.
    consistency : operator with the undersampled data.
    """

    initial_BTYX: Tensor
    truth_BTYX: Tensor
    consistency: SingleCoilConsistency | MultiCoilConsistency


@dataclass(frozen=True)
class DrawnSampling:
    """The random part of an item, drawn on the CPU.

    The initial image, most of the work, is computed where training runs.

    Attributes
    ----------
    measured : of the whole cycle, (1, C, T, Y, X).
    truth_BTYX : of as many frames.
    initial_image : see `CineItems`.
    brightness : of the bright parts of the initial image.
    part : the frames of the item.
    """

    measured: SliceMeasurement
    truth_BTYX: Tensor
    initial_image: str
    brightness: float
    part: slice

    def item(self, device: torch.device) -> CineItem:
        """Compute the item on a device, in full precision.

        The initial image is made from all frames of the cycle, of which the item is a part.
        """
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            whole = self.measured.to(device)
            start = INITIAL_IMAGES[self.initial_image](whole.consistency())
            scale = self.brightness / energy_weighted_rms(start).clamp_min(1e-3)
            kspace, mask = whole.kspace_BCTYX[:, :, self.part] * scale, whole.mask_BTYX[:, self.part]
            kept = SliceMeasurement(kspace, mask, whole.maps_BCYX, whole.deviation * float(scale))
            truth = self.truth_BTYX[:, self.part].to(device) * scale
            return CineItem(start[:, self.part] * scale, truth, kept.consistency())


def draw(source: CineItems, seed: int) -> DrawnSampling:
    """Draw the random part of an item.

    Patches keep the undersampled axis whole and cut the readout (as Qin's demo): a Cartesian pattern couples pixels
    along Y only. Magnitude cines get a random phase; complex ones keep their own.

    Parameters
    ----------
    source : of the items.
    seed : the same seed gives the same item.
    """
    rng, how = SceneRandom(seed), source.sampling
    lines, kept = rng.integer(how.lines, how.most_lines), rng.integer(how.frames, how.most_frames)
    columns = max(16, min(_MOST_COLUMNS, round(source.pixels / (lines * kept) / 4) * 4))
    size = SceneSize(max(kept, rng.integer(how.cycle, how.most_cycle)), lines, columns)
    if source.cines and rng.chance(source.real_share):
        cine = source.cines[rng.integer(0, len(source.cines) - 1)]
        view = from_cine(cine, size, rng)
    else:
        view = random_scene(size, rng)
    truth = (view if view.is_complex() else with_phase(view, rng))[None]
    truth = truth / energy_weighted_rms(truth).clamp_min(1e-3)
    measured = _sample(truth, rng, how)
    brightness = rng.log_uniform(0.8, 1.25)
    first = rng.integer(0, size.frames - kept)
    return DrawnSampling(measured, truth, source.initial_image, brightness, slice(first, first + kept))


def draw_item(source: CineItems, seed: int, device: torch.device = CPU) -> CineItem:
    """Draw and compute the item of a seed; see `draw`."""
    return draw(source, seed).item(device)


def _sample(truth_BTYX: Tensor, rng: SceneRandom, how: SamplingSettings) -> SliceMeasurement:
    """Sample with a random pattern and noise.

    With one coil of uniform sensitivity, as always where ``several`` is 0, no sensitivities are given. The noise is
    that of one coil, in each coil: as sum_c |s_c|^2 = 1, it is the same in the combined image.

    Returns
    -------
    K-space (1, C, T, Y, X), mask (1, T, Y, 1), inexact sensitivities, and the noise level that data consistency is
        told: a little off as well, or 0 for nothing.
    """
    frames, lines, columns = truth_BTYX.shape[1:]
    pattern = "variable-density" if rng.chance(how.variable_density) else "sheared-grid"
    acceleration = rng.log_uniform(how.acceleration, max(how.acceleration, min(how.most_acceleration, lines / 6)))
    centre = None if rng.chance(0.7) else rng.integer(1, max(1, int(lines / acceleration * 0.8)))
    mask = PATTERNS[pattern](frames, lines, acceleration, rng.generator, centre)[None, :, :, None]
    noise = rng.log_uniform(how.noise, how.most_noise) if rng.chance(how.noisy) else 0.0
    seen_BCTYX, maps_BCYX = truth_BTYX[:, None], None
    if how.several and rng.chance(how.several):
        maps_CYX = random_maps(rng.integer(how.coils, how.most_coils), lines, columns, rng)
        seen_BCTYX = seen_BCTYX * maps_CYX[:, None]
        error = rng.log_uniform(how.maps_error / 10, how.maps_error) if how.maps_error else 0.0
        maps_BCYX = perturb_maps(maps_CYX, error, rng)[None]
    kspace = image_to_kspace(seen_BCTYX)
    kspace = kspace + noise * torch.complex(rng.normal(*kspace.shape), rng.normal(*kspace.shape)) / 2**0.5
    told = noise and how.told and (maps_BCYX is not None or rng.chance(how.told))
    return SliceMeasurement(
        kspace * mask[:, None], mask, maps_BCYX, noise * rng.log_uniform(0.8, 1.25) if told else 0.0
    )

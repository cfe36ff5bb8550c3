"""The measured lines of a scan, all slices together, to be cut along the readout.

Where a mask does not change along kx, data are kept with the readout in image space: there a Cartesian pattern couples
pixels along y only, and some columns are a scan of their own. Where single samples were measured, nothing is cut.

Legend: Z slice, B batch of one, C coil, T frame, Y phase encoding, X readout, M measured line or sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crnn_cli.assessment.held_out import drop_samples, hold_out_lines, outside_acs
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.consistency import energy_weighted_rms
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.sampling_density import inverse_density_weights
from crnn_cli.reconstruction.measurement import SliceMeasurement, SliceSource
from crnn_cli.reconstruction.reconstruct import STARTS, InferenceSettings

VALIDATION = 0.05
"""Of the lines outside the centre, for validation; where frames have few of them, one of some frames alone."""
Firsts = Callable[[int, int], Iterable[int]]
"""From the number of columns and the width of a patch to the first columns of patches."""
_FEWEST = 8  # lines for validation, where there is one in so many frames
_NEXT = 1_000_003  # between the seeds of neighbouring slices


@dataclass(frozen=True)
class _Slice:
    """What was measured of a slice, on the CPU; see `SliceMeasurement`.

    samples : (C, M, X) of lines, with the readout in image space, or (C, M) of single samples.
    scale : from the data to what the network is trained with. energy_X : of what is not for validation, by column.
    rarity : see `crnn_cli.mri.sampling_density`.
    """

    samples: Tensor
    mask_BTYX: Tensor
    validation_BTYX: Tensor
    maps_BCYX: Tensor | None
    deviation: float
    scale: Tensor
    energy_X: Tensor
    rarity: Tensor


class Patches:
    """The slices of a scan that can be tuned on; see `gather_patches`. filled : the numbers of all that are not empty."""

    def __init__(self, slices: dict[int, _Slice], filled: list[int]) -> None:
        self._slices, self._filled = slices, filled
        self._known: dict[tuple[int, Firsts], tuple[list[tuple[int, int]], Tensor]] = {}
        self.whole = any(each.samples.dim() == 2 for each in slices.values())

    @property
    def validation(self) -> dict[int, Tensor | None]:
        """Return the masks of the lines for validation of the slices that are not empty; None: it is not tuned on."""
        return {z: self._slices[z].validation_BTYX if z in self._slices else None for z in self._filled}

    @property
    def coils(self) -> int:
        """Return the number of coils."""
        return len(next(iter(self._slices.values())).samples)

    def scale(self, z: int) -> Tensor:
        """Return the factor from the data of a slice to what the network is trained with, (1, 1, 1, 1)."""
        return self._slices[z].scale

    def rarity(self, z: int) -> Tensor:
        """Return the weights of the samples of a slice at each place, (1, 1, Y, X), X 1 for whole lines."""
        return self._slices[z].rarity

    def cut(self, z: int, x: int, width: int, device: torch.device) -> tuple[SliceMeasurement, Tensor]:
        """Return what was measured of columns x to x + width - 1, and the mask of what is for validation."""
        one = self._slices[z]
        frames, lines, columns = one.mask_BTYX.shape[1:]
        if one.samples.dim() == 2:
            kspace_CTYX = one.samples.new_zeros(len(one.samples), frames, lines, columns)
            kspace_CTYX[:, one.mask_BTYX[0]] = one.samples
            here = slice(None)
        else:
            here = slice(x, min(x + width, one.samples.shape[-1]))
            part_CMX = one.samples[..., here]
            kspace_CTYX = part_CMX.new_zeros(len(part_CMX), frames, lines, part_CMX.shape[-1])
            kspace_CTYX[:, one.mask_BTYX[0, ..., 0]] = image_to_kspace(part_CMX, (-1,))
        maps_BCYX = None if one.maps_BCYX is None else one.maps_BCYX[..., here].to(device)
        measured = SliceMeasurement(kspace_CTYX[None].to(device), one.mask_BTYX.to(device), maps_BCYX, one.deviation)
        return measured, one.validation_BTYX.to(device)

    def draw(self, width: int, generator: torch.Generator) -> tuple[int, int]:
        """Return a random slice and first column, more often where there is more energy."""
        places, weights = self._places(width, _everywhere)
        return places[int(torch.multinomial(weights, 1, generator=generator))]

    def tiles(self, width: int, most: int, generator: torch.Generator) -> tuple[list[tuple[int, int]], Tensor]:
        """Return slices and first columns of patches that cover slices side by side, and the energy of each.

        More likely where there is more energy.
        """
        places, weights = self._places(width, _side_by_side)
        chosen = torch.multinomial(weights, min(most, int((weights > 0).sum())), generator=generator)
        return [places[i] for i in chosen.tolist()], weights[chosen]

    def _places(self, width: int, firsts: Firsts) -> tuple[list[tuple[int, int]], Tensor]:
        """Return the places of patches, and the energy of each."""
        known = self._known.get((width, firsts))
        if known is not None:
            return known
        places, weights = [], []
        for z, one in self._slices.items():
            columns = 1 if one.samples.dim() == 2 else len(one.energy_X)
            total = torch.cat([torch.zeros(1), one.energy_X.cumsum(0)])
            for x in firsts(columns, min(width, columns)):
                places.append((z, x))
                weights.append(total[-1] if columns == 1 else total[min(x + width, columns)] - total[x])
        self._known[width, firsts] = places, torch.stack(weights)
        return self._known[width, firsts]


def _everywhere(columns: int, width: int) -> Iterable[int]:
    return range(columns - width + 1)


def _side_by_side(columns: int, width: int) -> Iterable[int]:
    """Return the first columns of the fewest patches that cover all columns, spread evenly."""
    count = -(-columns // width)
    return [number * (columns - width) // max(1, count - 1) for number in range(count)]


def gather_patches(slices: SliceSource, recipe: InferenceSettings, seed: int, device: torch.device) -> Patches:
    """Return what can be tuned on; only the measured lines are kept, and slices are read one at a time.

    Raises
    ------
    UnsupportedDataError
        If that is nothing; the message says why.
    """
    found, filled, reasons = {}, [], ["the data are zero"]
    for z in range(slices.count):
        measured = slices.measured(z, device)
        if not bool(measured.kspace_BCTYX.any()):
            continue
        filled.append(z)
        try:
            found[z] = _taken(measured, recipe, torch.Generator().manual_seed(seed * _NEXT + z))
        except UnsupportedDataError as reason:
            reasons.append(str(reason))
    if not found:
        raise UnsupportedDataError(reasons[-1])
    return Patches(found, filled)


def _validation(measured: SliceMeasurement, generator: torch.Generator) -> Tensor:
    """Return the mask of what is for validation.

    Raises
    ------
    UnsupportedDataError
        If nothing lies outside the centre.
    """
    _, held_BTYX = hold_out_lines(measured, VALIDATION, generator)
    wanted = max(VALIDATION * float(outside_acs(measured.mask_BTYX).sum()), _FEWEST)
    holding = held_BTYX.flatten(2).any(-1)[0].nonzero()[:, 0]
    chosen = torch.zeros_like(held_BTYX)
    chosen[:, holding[:: max(1, round(float(held_BTYX.sum()) / wanted))]] = True
    return held_BTYX & chosen


def _taken(measured: SliceMeasurement, recipe: InferenceSettings, generator: torch.Generator) -> _Slice:
    """Return what is kept of a slice, its lines for validation chosen."""
    mask_BTYX = measured.mask_BTYX.bool()
    if mask_BTYX.shape[1] < 2:
        raise UnsupportedDataError("there is one frame only")
    if bool(mask_BTYX.all()):
        raise UnsupportedDataError("the scan is fully sampled: there is nothing to predict")
    lines = bool((mask_BTYX == mask_BTYX[..., :1]).all())
    mask_BTYX = mask_BTYX[..., :1] if lines else mask_BTYX
    measured = replace(measured, mask_BTYX=mask_BTYX)
    held_BTYX = _validation(measured, generator)
    kept = drop_samples(measured, held_BTYX)
    hold_out_lines(
        kept, VALIDATION, torch.Generator().manual_seed(0)
    )  # or else there is nothing left to make a loss of
    brightness = energy_weighted_rms(STARTS[recipe.start](kept.consistency(recipe.noise)))
    if float(brightness) == 0:
        raise UnsupportedDataError("the data are zero but for lines held out")
    data_CTYX, place = measured.kspace_BCTYX[0], mask_BTYX[0, ..., 0] if lines else mask_BTYX[0]
    if lines:
        data_CTYX = kspace_to_image(data_CTYX, (-1,))
    seen_BTYX = mask_BTYX & ~held_BTYX
    energy_X = (data_CTYX * seen_BTYX).abs().square().sum((0, 1, 2)).cpu()
    maps = None if measured.maps_BCYX is None else measured.maps_BCYX.cpu()
    return _Slice(
        data_CTYX[:, place].cpu(), mask_BTYX.cpu(), held_BTYX.cpu(), maps, measured.deviation,
        (recipe.amplitude / brightness).cpu(), energy_X, inverse_density_weights(mask_BTYX.cpu()),
    )  # fmt: skip

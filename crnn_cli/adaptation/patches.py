"""Training patches of a scan: measured lines of all slices, cut into columns along the readout.

Where a mask does not change along kx, data are kept with the readout in image space. There a Cartesian pattern couples
pixels along y only, so any block of columns is a scan of its own. Where single samples were measured, nothing is cut.

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
from crnn_cli.reconstruction.reconstruct import INITIAL_IMAGES
from crnn_cli.reconstruction.settings import InferenceSettings

VALIDATION = 0.05
"""Share of the lines outside the centre set aside for validation; where frames have few, a line in every few frames."""
Firsts = Callable[[int, int], Iterable[int]]
"""Function from the number of columns and the width of a patch to the first columns of patches."""
_FEWEST = 8  # lines for validation at least, where not every frame has one
_NEXT = 1_000_003  # between the seeds of neighbouring slices


@dataclass(frozen=True)
class _Slice:
    """Measured lines of a slice, on the CPU; see `SliceMeasurement`.

    samples : (C, M, X) of lines, with the readout in image space, or (C, M) of single samples.
    scale : from the data to the input of the network. energy_X : energy of the lines for training, by column.
    density_weights : see `crnn_cli.mri.sampling_density`.
    """

    samples: Tensor
    mask_BTYX: Tensor
    validation_BTYX: Tensor
    maps_BCYX: Tensor | None
    deviation: float
    scale: Tensor
    energy_X: Tensor
    density_weights: Tensor


class Patches:
    """Slices of a scan that can be tuned on, to be cut into patches; made by `gather_patches`.

    Parameters
    ----------
    slices : lines of each slice, by number.
    filled : numbers of all slices that are not empty.
    """

    def __init__(self, slices: dict[int, _Slice], filled: list[int]) -> None:
        self._slices, self._filled = slices, filled
        self._known: dict[tuple[int, Firsts], tuple[list[tuple[int, int]], Tensor]] = {}
        self.whole = any(each.samples.dim() == 2 for each in slices.values())

    @property
    def validation(self) -> dict[int, Tensor | None]:
        """Mask of the lines for validation of each slice that is not empty; None where a slice is not tuned on."""
        return {z: self._slices[z].validation_BTYX if z in self._slices else None for z in self._filled}

    @property
    def coils(self) -> int:
        """Number of coils."""
        return len(next(iter(self._slices.values())).samples)

    def scale(self, z: int) -> Tensor:
        """Factor from the data of a slice to the input of the network, (1, 1, 1, 1)."""
        return self._slices[z].scale

    def density_weights(self, z: int) -> Tensor:
        """Inverse sampling density of a slice, (1, 1, Y, X); X is 1 for whole lines."""
        return self._slices[z].density_weights

    def cut(self, z: int, x: int, width: int, device: torch.device) -> tuple[SliceMeasurement, Tensor]:
        """Cut a patch: its measurement, and the mask of the lines for validation.

        Parameters
        ----------
        z : number of the slice.
        x, width : first column and number of columns; of single samples the slice is taken whole.
        device : where the tensors lie.
        """
        lines_z = self._slices[z]
        frames, lines, columns = lines_z.mask_BTYX.shape[1:]
        if lines_z.samples.dim() == 2:
            kspace_CTYX = lines_z.samples.new_zeros(len(lines_z.samples), frames, lines, columns)
            kspace_CTYX[:, lines_z.mask_BTYX[0]] = lines_z.samples
            columns_x = slice(None)
        else:
            columns_x = slice(x, min(x + width, lines_z.samples.shape[-1]))
            part_CMX = lines_z.samples[..., columns_x]
            kspace_CTYX = part_CMX.new_zeros(len(part_CMX), frames, lines, part_CMX.shape[-1])
            kspace_CTYX[:, lines_z.mask_BTYX[0, ..., 0]] = image_to_kspace(part_CMX, (-1,))
        maps_BCYX = None if lines_z.maps_BCYX is None else lines_z.maps_BCYX[..., columns_x].to(device)
        kspace_BCTYX, mask_BTYX = kspace_CTYX[None].to(device), lines_z.mask_BTYX.to(device)
        sets = 1 if maps_BCYX is None else len(maps_BCYX)
        measurement = SliceMeasurement(kspace_BCTYX, mask_BTYX, maps_BCYX, lines_z.deviation, map_sets=sets)
        return measurement, lines_z.validation_BTYX.to(device)

    def draw(self, width: int, generator: torch.Generator) -> tuple[int, int]:
        """Draw a slice and a first column, more often where there is more energy.

        Lines for validation do not count for the energy.
        """
        places, weights = self._places(width, _everywhere)
        return places[int(torch.multinomial(weights, 1, generator=generator))]

    def tiles(self, width: int, most: int, generator: torch.Generator) -> tuple[list[tuple[int, int]], Tensor]:
        """Draw ``most`` of the patches that cover the slices side by side, more likely where there is more energy.

        Slice and first column of each, and their energies.
        """
        places, weights = self._places(width, _side_by_side)
        chosen = torch.multinomial(weights, min(most, int((weights > 0).sum())), generator=generator)
        return [places[i] for i in chosen.tolist()], weights[chosen]

    def _places(self, width: int, firsts: Firsts) -> tuple[list[tuple[int, int]], Tensor]:
        """Slice and first column of all patches of a width, and the energy of each."""
        known = self._known.get((width, firsts))
        if known is not None:
            return known
        places, weights = [], []
        for z, lines_z in self._slices.items():
            columns = 1 if lines_z.samples.dim() == 2 else len(lines_z.energy_X)
            total = torch.cat([torch.zeros(1), lines_z.energy_X.cumsum(0)])
            for x in firsts(columns, min(width, columns)):
                places.append((z, x))
                weights.append(total[-1] if columns == 1 else total[min(x + width, columns)] - total[x])
        self._known[width, firsts] = places, torch.stack(weights)
        return self._known[width, firsts]


def _everywhere(columns: int, width: int) -> Iterable[int]:
    return range(columns - width + 1)


def _side_by_side(columns: int, width: int) -> Iterable[int]:
    """First columns of the fewest patches that cover all columns, spread evenly."""
    count = -(-columns // width)
    return [number * (columns - width) // max(1, count - 1) for number in range(count)]


def gather_patches(
    slices: SliceSource, settings: InferenceSettings, seed: int, device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> Patches:  # fmt: skip
    """Read all slices, one at a time, and keep their measured lines for tuning.

    Parameters
    ----------
    slices : the scan.
    settings : of the network: initial image, scale and noise.
    seed : of the lines for validation.
    device : where slices are prepared; the lines are kept on the CPU.
    check : called before each slice; may raise to stop.

    Raises
    ------
    UnsupportedDataError
        If no slice can be tuned on; the message says why.
    """
    lines: dict[int, _Slice] = {}
    filled, reasons = list[int](), ["the data are zero"]
    for z in range(slices.count):
        check()
        measurement = slices.measure(z, device)
        if not bool(measurement.kspace_BCTYX.any()):
            continue
        filled.append(z)
        try:
            lines[z] = _measured_lines(measurement, settings, torch.Generator().manual_seed(seed * _NEXT + z))
        except UnsupportedDataError as error:
            reasons.append(str(error))
    if not lines:
        raise UnsupportedDataError(reasons[-1])
    return Patches(lines, filled)


def _validation(measurement: SliceMeasurement, generator: torch.Generator) -> Tensor:
    """Draw the mask of the lines for validation.

    Raises
    ------
    UnsupportedDataError
        If nothing lies outside the centre.
    """
    _, held_BTYX = hold_out_lines(measurement, VALIDATION, generator)
    wanted = max(VALIDATION * float(outside_acs(measurement.mask_BTYX).sum()), _FEWEST)
    holding = held_BTYX.flatten(2).any(-1)[0].nonzero()[:, 0]
    chosen = torch.zeros_like(held_BTYX)
    chosen[:, holding[:: max(1, round(float(held_BTYX.sum()) / wanted))]] = True
    return held_BTYX & chosen


def _measured_lines(measurement: SliceMeasurement, settings: InferenceSettings, generator: torch.Generator) -> _Slice:
    """Take the measured lines out of a slice, and set some aside for validation."""
    mask_BTYX = measurement.mask_BTYX.bool()
    if mask_BTYX.shape[1] < 2:
        raise UnsupportedDataError("there is one frame only")
    if bool(mask_BTYX.all()):
        raise UnsupportedDataError("the scan is fully sampled: there is nothing to predict")
    lines = bool((mask_BTYX == mask_BTYX[..., :1]).all())
    mask_BTYX = mask_BTYX[..., :1] if lines else mask_BTYX
    measurement = replace(measurement, mask_BTYX=mask_BTYX)
    held_BTYX = _validation(measurement, generator)
    seen = drop_samples(measurement, held_BTYX)
    hold_out_lines(seen, VALIDATION, torch.Generator().manual_seed(0))  # raises if no lines are left for a loss
    initial_BTYX = INITIAL_IMAGES[settings.initial_image](seen.consistency(settings.noise_ratio))
    brightness = energy_weighted_rms(initial_BTYX, measurement.map_sets)
    if float(brightness) == 0:
        raise UnsupportedDataError("the data are zero but for lines held out")
    data_CTYX, where = measurement.kspace_BCTYX[0], mask_BTYX[0, ..., 0] if lines else mask_BTYX[0]
    if lines:
        data_CTYX = kspace_to_image(data_CTYX, (-1,))
    seen_BTYX = mask_BTYX & ~held_BTYX
    energy_X = (data_CTYX * seen_BTYX).abs().square().sum((0, 1, 2)).cpu()
    maps = None if measurement.maps_BCYX is None else measurement.maps_BCYX.cpu()
    return _Slice(
        data_CTYX[:, where].cpu(), mask_BTYX.cpu(), held_BTYX.cpu(), maps, measurement.deviation,
        (settings.input_rms / brightness).cpu(), energy_X, inverse_density_weights(mask_BTYX.cpu()),
    )  # fmt: skip

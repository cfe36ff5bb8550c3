"""Acquisition to images, slice by slice, with a network that is handed in.

Legend: Z slice, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from crnn_cli.acquisition import Acquisition, Complex
from crnn_cli.errors import DeviceError, UnsupportedDataError
from crnn_cli.mri.consistency import Consistency, SingleCoilConsistency, energy_weighted_rms

STARTS: dict[str, Callable[[Consistency], Tensor]] = {
    "zero-filled": lambda operator: operator.zero_filled(),
    "view-shared": lambda operator: operator.view_shared(),
    "time-wiener": lambda operator: operator.time_wiener(),
}


class Network(Protocol):
    """What `reconstruct` asks of a network: complex images (B, T, Y, X) in, consistent complex images out."""

    def __call__(
        self,
        image_BTYX: Tensor,
        consistency: Consistency,
        iterations: int | None = None,
        progress: Callable[[], None] | None = None,
    ) -> Tensor:
        """Return the reconstructed images."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How the network is to be used; a bundle says what it was trained with.

    start : a key of `STARTS`. amplitude : `energy_weighted_rms` that the start image is scaled to.
    iterations : of the network. noise : noise variance of the data relative to the network's error; 0 is hard.
    """

    start: str
    amplitude: float
    iterations: int
    noise: float = 0.0


@dataclass(frozen=True)
class Reconstruction:
    """Complex images (Z, T, Y, X) and what they were made of.

    zero_filled_ZTYX : the images before. residual : ||m F x - y|| / ||y|| over all measured samples.
    """

    images_ZTYX: Complex
    zero_filled_ZTYX: Complex
    residual: float


def reconstruct(
    acquisition: Acquisition,
    network: Network,
    recipe: Recipe,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reconstruction:
    """Reconstruct every slice on its own: scale, network alternating with data consistency, unscale.

    Parameters
    ----------
    acquisition : single-coil.
    network : on ``device``, in evaluation mode.
    progress : called with (steps done, steps in all); a step is one iteration of one slice.

    Raises
    ------
    UnsupportedDataError
        If there are several coils, or the images come out not finite.
    """
    slices, coils, frames, lines, columns = acquisition.kspace_ZCTYX.shape
    if coils != 1:
        raise UnsupportedDataError(f"this acquisition has {coils} coils; this version reconstructs one channel only")
    images = np.zeros((slices, frames, lines, columns), np.complex64)
    zero_filled = np.zeros_like(images)
    total, done = slices * recipe.iterations, 0
    error = energy = 0.0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    progress(0, total)
    with torch.no_grad():
        for z in range(slices):
            operator = _operator(acquisition, z, recipe.noise, device)
            before = operator.zero_filled()
            zero_filled[z] = before[0].cpu().numpy()
            start = STARTS[recipe.start](operator)
            brightness = energy_weighted_rms(start)
            if float(brightness) == 0:
                done = (z + 1) * recipe.iterations
                progress(done, total)
                continue
            scale = recipe.amplitude / brightness
            image = network(start * scale, operator.scaled(scale), recipe.iterations, tick) / scale
            images[z] = image[0].cpu().numpy()
            slice_error, slice_energy = operator.misfit(image)
            error, energy = error + slice_error, energy + slice_energy
    if not np.isfinite(images).all():
        raise UnsupportedDataError("the network produced values that are not finite: the input's range is not usable")
    return Reconstruction(images, zero_filled, (error / energy) ** 0.5 if energy else 0.0)


def _operator(acquisition: Acquisition, z: int, noise: float, device: torch.device) -> SingleCoilConsistency:
    kspace_BTYX = torch.from_numpy(acquisition.kspace_ZCTYX[z]).to(device)
    mask_BTYX = torch.from_numpy(acquisition.mask_ZTYX[z])[None].to(device)
    return SingleCoilConsistency(kspace_BTYX, mask_BTYX, noise)


def choose_device(name: str) -> torch.device:
    """Return the device of a name: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``.

    Raises
    ------
    DeviceError
        If the name is unknown or the device is not there: never a silent fall-back.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise DeviceError(f"unknown device {name}: use auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"{name} was asked for, but this PyTorch sees {count} CUDA devices; use --device cpu")
    return device

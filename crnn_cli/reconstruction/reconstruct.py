"""Measured data to images, slice by slice, by a network that is handed in or by a classical method.

Legend: Z slice, B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from crnn_cli.compute.device import explain_out_of_memory, tf32_convolutions
from crnn_cli.compute.memory import free_bytes
from crnn_cli.data.acquisition import Complex
from crnn_cli.data.mapped_arrays import drop_pages, zeros
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.classical import METHODS, run_method
from crnn_cli.mri.consistency import Consistency, energy_weighted_rms
from crnn_cli.mri.total_variation import tv_start
from crnn_cli.reconstruction.measurement import SliceMeasurement, SliceSource

STARTS: dict[str, Callable[[Consistency], Tensor]] = {
    "zero-filled": lambda operator: operator.zero_filled(),
    "view-shared": lambda operator: operator.view_shared(),
    "time-wiener": lambda operator: operator.time_wiener(),
    "total-variation": tv_start,
}


class ReconstructionNetwork(Protocol):
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


@runtime_checkable
class MemoryAdaptive(Protocol):
    """A network that can do with less memory."""

    on_disk: int

    def fit(self, image_BTYX: Tensor, free: int) -> None:
        """Prepare for an image in so many bytes; MemoryError if that cannot be."""
        ...

    def less(self, image_BTYX: Tensor) -> int:
        """Prepare for it in less memory, so many frames at once; 0 if that cannot be."""
        ...

    def needs(self, image_BTYX: Tensor) -> tuple[int, int]:
        """Return the bytes that an image needs whatever is on disk, and those of each sequence that is not."""
        ...


@dataclass(frozen=True)
class InferenceSettings:
    """How the network is to be used; a bundle says what it was trained with.

    start : a key of `STARTS`. amplitude : `energy_weighted_rms` that the start image is scaled to.
    iterations : of the network.
    noise : noise variance of the data relative to the network's error; 0 keeps the data as they are. None: from the
        noise that was found in them and the error that the network expects, where it has been trained to.
    half : convolutions and states in bfloat16; data consistency stays in single precision.
    rounded : on a GPU convolutions may round what they multiply to 10 bits, TF32, and sum in single precision.
    memory : bytes that the process may hold in all, on a CPU; what does not fit goes to disk.
    """

    start: str
    amplitude: float
    iterations: int
    noise: float | None = None
    half: bool = False
    memory: int | None = None
    rounded: bool = False


class Reconstructor(Protocol):
    """A way from measured data to images. steps : how often it calls ``tick`` in a slice, at most."""

    @property
    def steps(self) -> int:
        """Return how often it calls ``tick`` in a slice, at most."""
        ...

    def __call__(self, measured: SliceMeasurement, tick: Callable[[], None]) -> Tensor:
        """Return complex images (B, T, Y, X)."""
        ...


@dataclass(frozen=True)
class NetworkReconstructor:
    """Scale, network alternating with data consistency, unscale. warn : is told what a user should know."""

    network: ReconstructionNetwork
    recipe: InferenceSettings
    warn: Callable[[str], None] = lambda text: None

    @property
    def steps(self) -> int:
        """Return the iterations: a step is one of them."""
        return self.recipe.iterations

    def __call__(self, measured: SliceMeasurement, tick: Callable[[], None]) -> Tensor:
        """Return complex images (B, T, Y, X).

        Raises
        ------
        UnsupportedDataError
            If there is one frame only.
        DeviceError
            If a GPU has too little memory, however few frames are computed at once.
        """
        if measured.mask_BTYX.shape[1] < 2:
            raise UnsupportedDataError(
                "this scan has one frame; the network needs at least 2 to recur over: use --method sense, or tv"
            )
        with explain_out_of_memory(measured.kspace_BCTYX.device):
            operator = measured.consistency(self.recipe.noise)
            start = STARTS[self.recipe.start](operator)
            brightness = energy_weighted_rms(start)
            if float(brightness) == 0:
                return start
            scale = self.recipe.amplitude / brightness
            return self._run(start * scale, operator.scaled(scale), tick) / scale

    def _run(self, start: Tensor, operator: Consistency, tick: Callable[[], None]) -> Tensor:
        """Return what the network makes; on a GPU without enough memory for it, in smaller parts."""
        place, ticks, told = start.device, 0, 0

        def once() -> None:
            nonlocal ticks, told
            ticks += 1
            if ticks > told:
                told = ticks
                tick()

        with (
            torch.autocast(place.type, torch.bfloat16, enabled=self.recipe.half),
            tf32_convolutions(self.recipe.rounded),
        ):
            free = free_bytes(place, self.recipe.memory)
            if isinstance(self.network, MemoryAdaptive) and free is not None:
                self.network.fit(start, free)
            while True:
                ticks = 0
                try:
                    return self.network(start, operator, self.recipe.iterations, once)
                except torch.cuda.OutOfMemoryError:
                    frames = self.network.less(start) if isinstance(self.network, MemoryAdaptive) else 0
                    if not frames:
                        raise
                torch.cuda.empty_cache()  # not while the exception holds on to what was calculated
                self.warn(f"the memory of {place} ran out: this slice is computed again, {frames} frames at once")


@dataclass(frozen=True)
class ClassicalReconstructor:
    """A classical method; see `crnn_cli.mri.classical`.

    name : of its table. weight : None for the default at the noise that was found in the data.
    used : the weights of the slices so far.
    """

    name: str
    weight: float | None
    iterations: int
    used: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Return the largest number of iterations; a method may end before."""
        return self.iterations

    def __call__(self, measured: SliceMeasurement, tick: Callable[[], None]) -> Tensor:
        """Return complex images (B, T, Y, X)."""
        told = 0

        def progress(done: int, total: int) -> None:
            """Tick for what was done since the last call: a method that ends early says that all is done."""
            nonlocal told
            del total
            for _ in range(told, done):
                tick()
            told = max(told, done)

        def weight(brightness: float) -> float:
            found = METHODS[self.name].default_weight(measured.deviation / brightness)
            self.used.append(found if self.weight is None else self.weight)
            return self.used[-1]

        return run_method(
            self.name, measured.encoding(), measured.kspace_BCTYX, weight, self.iterations or None, progress
        )


@dataclass(frozen=True)
class Reconstruction:
    """Complex images (Z, T, Y, X) and what they were made of.

    zero_filled_ZTYX : the images before. residual : ||A x - y|| / ||y|| over all measured samples.
    filled : the slices that were not empty, in order; the method saw these only.
    """

    images_ZTYX: Complex
    zero_filled_ZTYX: Complex
    residual: float
    filled: tuple[int, ...] = ()


def reconstruct(
    slices: SliceSource,
    method: Reconstructor,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reconstruction:
    """Reconstruct every slice on its own; only one is in memory at a time.

    The images of all slices are in memory where they are few, else in a file; see `crnn_cli.data.mapped_arrays`.

    Parameters
    ----------
    progress : called with (steps done, steps in all).

    Raises
    ------
    UnsupportedDataError
        If the images come out not finite.
    OutputError
        If images of all slices fit neither in memory nor on the disk.
    """
    images, zero_filled, filled = _Images(slices.count), _Images(slices.count), []
    total, done = slices.count * method.steps, 0
    error = energy = 0.0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    progress(0, total)
    with torch.no_grad():
        for z in range(slices.count):
            found = _reconstruct_slice(slices, z, method, device, tick)  # all of its data is gone before the next
            zero_filled.put(z, found[0])
            images.put(z, np.zeros_like(found[0]) if found[1] is None else found[1])
            filled += [] if found[1] is None else [z]
            error, energy = error + found[2], energy + found[3]
            if done < (z + 1) * method.steps:
                done = (z + 1) * method.steps
                progress(done, total)
    if not images.finite:
        raise UnsupportedDataError("the method produced values that are not finite: the input's range is not usable")
    residual = (error / energy) ** 0.5 if energy else 0.0
    return Reconstruction(images.made_ZTYX, zero_filled.made_ZTYX, residual, tuple(filled))


def _reconstruct_slice(
    slices: SliceSource, z: int, method: Reconstructor, device: torch.device, tick: Callable[[], None]
) -> tuple[Complex, Complex | None, float, float]:
    """Return zero-filled and reconstructed images (T, Y, X), ||A x - y||^2 and ||y||^2; no images of an empty slice."""
    measured = slices.measured(z, device)
    encoding = measured.encoding()
    before_TYX = _finished(slices, encoding.zero_filled(measured.kspace_BCTYX))
    if not bool(measured.kspace_BCTYX.any()):
        return before_TYX, None, 0.0, 0.0
    image_BTYX = method(measured, tick)
    return before_TYX, _finished(slices, image_BTYX), *encoding.squared_residual(image_BTYX, measured.kspace_BCTYX)


class _Images:
    """Images (Z, T, Y, X) that come slice by slice."""

    def __init__(self, count: int) -> None:
        self.count, self.finite = count, True

    def put(self, z: int, images_TYX: Complex) -> None:
        """Keep the images of slice z; the first says what size all have."""
        if z == 0:
            self.made_ZTYX: Complex = zeros((self.count, *images_TYX.shape), images_TYX.dtype)
        self.made_ZTYX[z] = images_TYX
        self.finite = self.finite and bool(np.isfinite(images_TYX).all())
        drop_pages(self.made_ZTYX)


def _finished(slices: SliceSource, image_BTYX: Tensor) -> Complex:
    images_TYX: Complex = image_BTYX[0].cpu().numpy()
    return slices.finished(images_TYX)

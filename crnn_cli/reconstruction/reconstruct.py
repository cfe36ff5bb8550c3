"""Reconstruction slice by slice, by a network or a classical method.

Legend: Z slice, B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from crnn_cli.compute.device import explain_out_of_memory, tf32_convolutions
from crnn_cli.compute.memory import free_bytes, release_freed_memory
from crnn_cli.data.acquisition import Complex
from crnn_cli.data.mapped_arrays import drop_pages, zeros
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.mri.classical import METHODS, run_method
from crnn_cli.mri.consistency import Consistency, energy_weighted_rms
from crnn_cli.mri.total_variation.admm import tv_start
from crnn_cli.mri.total_variation.causal import causal_tv
from crnn_cli.networks.live_crnn import LiveCRNN
from crnn_cli.reconstruction.frames import reconstruct_frames
from crnn_cli.reconstruction.measurement import SliceMeasurement, SliceSource, on_output_grid
from crnn_cli.reconstruction.settings import InferenceSettings

INITIAL_IMAGES: dict[str, Callable[[Consistency], Tensor]] = {
    "zero-filled": lambda operator: operator.zero_filled(),
    "view-shared": lambda operator: operator.view_shared(),
    "time-wiener": lambda operator: operator.time_wiener(),
    "total-variation": tv_start,
    "running": lambda operator: operator.running(),
    "causal-total-variation": causal_tv,
}
"""Images that a network starts from, by the name in a bundle's config.json."""
CAUSAL_IMAGES = ("running", "causal-total-variation")
"""Those that look back only."""

Assessment_co = TypeVar("Assessment_co", covariant=True)
"""What a method finds out about its images of a slice besides them; None for a plain method."""


class ReconstructionNetwork(Protocol):
    """A network that takes complex images (B, T, Y, X) and returns images consistent with the data.

    `crnn_cli.networks.crnn_mri.CRNNMRI` is one.
    """

    def __call__(
        self,
        image_BTYX: Tensor,
        consistency: Consistency,
        iterations: int | None = None,
        progress: Callable[[], None] | None = None,
    ) -> Tensor:
        """Run the unrolled iterations.

        Parameters
        ----------
        image_BTYX : complex initial images.
        consistency : data consistency with the samples, in the same scale.
        iterations : unrolled iterations; None for the network's own number.
        progress : called after each iteration.
        """
        ...


@runtime_checkable
class MemoryAdaptive(Protocol):
    """A network that can compute the same images in less memory.

    On a CPU sequences of hidden states spill to disk; on a GPU fewer frames are computed at once. A network without
    these methods is run as it is.
    """

    def plan_memory(self, image_BTYX: Tensor, free: int) -> None:
        """Prepare for an image in ``free`` bytes.

        Raises
        ------
        MemoryError
            If that cannot be, on a CPU.
        """
        ...

    def reduce_memory(self, image_BTYX: Tensor) -> int:
        """Prepare for an image in less memory than before: frames computed at once, 0 if it cannot be less."""
        ...

    def memory_required(self, image_BTYX: Tensor) -> tuple[int, int]:
        """Bytes that an image takes at least, and bytes of each sequence of states that may lie on disk."""
        ...

    def sequences_on_disk(self, image_BTYX: Tensor, free: int) -> int:
        """Fewest sequences of states that must lie on disk to fit ``free`` bytes. The network is not changed.

        Raises
        ------
        MemoryError
            If it does not fit with all of them on disk.
        """
        ...


@dataclass(frozen=True)
class MethodResult(Generic[Assessment_co]):
    """Images of one slice, and how they were made.

    Attributes
    ----------
    images_BTYX : complex64; B is 1, or the components of several sets of sensitivities.
    assessment : measures that the method took of its images, such as `SliceReliability`; None for a plain method.
    regularisation_weight : weight that a classical method used; None for a network.
    runs_TYX : images of further runs without some of the lines, on the output grid, where they are kept.
    """

    images_BTYX: Tensor
    assessment: Assessment_co
    regularisation_weight: float | None = None
    runs_TYX: tuple[Complex, ...] = ()


class Reconstructor(Protocol[Assessment_co]):
    """A method that turns the measured samples of a slice into images.

    Its ``Assessment`` is what it finds out about its images besides: None for a plain method, `SliceReliability` or
    `ResidualSums` for one wrapped for assessment (`crnn_cli.assessment`).
    """

    @property
    def steps(self) -> int:
        """Number of calls of ``on_step`` per slice, at most."""
        ...

    def __call__(self, measurement: SliceMeasurement, on_step: Callable[[], None]) -> MethodResult[Assessment_co]:
        """Reconstruct a slice.

        Parameters
        ----------
        measurement : its samples, on the device of the method.
        on_step : called after each step, at most `steps` times.
        """
        ...


@dataclass(frozen=True)
class NetworkReconstructor:
    """An unrolled network: scale the initial image, alternate network and data consistency, undo the scale.

    Attributes
    ----------
    network : the network, on its device.
    settings : how it is used.
    say : called with a text where memory ran out and a slice is computed again.
    """

    network: ReconstructionNetwork
    settings: InferenceSettings
    say: Callable[[str], None] = lambda text: None

    @property
    def steps(self) -> int:
        """Number of iterations: a step is one of them."""
        return self.settings.iterations

    def __call__(self, measurement: SliceMeasurement, on_step: Callable[[], None]) -> MethodResult[None]:
        """Reconstruct a slice.

        Raises
        ------
        UnsupportedDataError
            If there is one frame only.
        DeviceError
            If a GPU has too little memory, however few frames are computed at once.
        """
        if measurement.mask_BTYX.shape[1] < 2:
            raise UnsupportedDataError(
                "this scan has one frame; the network needs at least 2 to recur over",
                remedy=("use ", Param("method", "sense"), ", or tv"),
            )
        with explain_out_of_memory(measurement.kspace_BCTYX.device):
            if isinstance(self.network, LiveCRNN):
                return MethodResult(reconstruct_frames(self.network, self.settings, measurement, on_step), None)
            operator = measurement.consistency(self.settings.noise_ratio)
            initial_BTYX = INITIAL_IMAGES[self.settings.initial_image](operator)
            brightness = energy_weighted_rms(initial_BTYX, measurement.map_sets)
            if float(brightness) == 0:
                return MethodResult(initial_BTYX, None)
            scale = self.settings.input_rms / brightness
            return MethodResult(self._run(initial_BTYX * scale, operator.scaled(scale), on_step) / scale, None)

    def _run(self, initial_BTYX: Tensor, operator: Consistency, on_step: Callable[[], None]) -> Tensor:
        """Run the network; on a GPU that runs out of memory, again with fewer frames at once."""
        device, steps, reported = initial_BTYX.device, 0, 0

        def count_step() -> None:
            nonlocal steps, reported
            steps += 1
            if steps > reported:
                reported = steps
                on_step()

        settings = self.settings
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16), tf32_convolutions(settings.tf32):
            free = free_bytes(device, settings.memory)
            if isinstance(self.network, MemoryAdaptive) and free is not None:
                self.network.plan_memory(initial_BTYX, free)
            while True:
                steps = 0
                try:
                    return self.network(initial_BTYX, operator, settings.iterations, count_step)
                except torch.cuda.OutOfMemoryError:
                    network = self.network
                    frames = network.reduce_memory(initial_BTYX) if isinstance(network, MemoryAdaptive) else 0
                    if not frames:
                        raise
                torch.cuda.empty_cache()  # not while the exception holds on to what was calculated
                self.say(f"the memory of {device} ran out: this slice is computed again, {frames} frames at once")


@dataclass(frozen=True)
class ClassicalReconstructor:
    """A classical method; see `crnn_cli.mri.classical`.

    Attributes
    ----------
    name : key of its table `METHODS`.
    weight : regularisation weight relative to the data; None for the method's default at the estimated noise level.
    iterations : largest number of iterations; 0 for a method without.
    """

    name: str
    weight: float | None
    iterations: int

    @property
    def steps(self) -> int:
        """Largest number of iterations; a method may converge earlier."""
        return self.iterations

    def __call__(self, measurement: SliceMeasurement, on_step: Callable[[], None]) -> MethodResult[None]:
        """Reconstruct a slice; the weight that was used is in the result.

        Raises
        ------
        UnsupportedDataError
            If the method needs more frames than there are.
        """
        reported, used = 0, self.weight

        def progress(done: int, total: int) -> None:
            """Step for all iterations since the last call: a method that converges early reports the rest at once."""
            nonlocal reported
            del total
            for _ in range(reported, done):
                on_step()
            reported = max(reported, done)

        def weight(brightness: float) -> float:
            nonlocal used
            default = METHODS[self.name].default_weight(measurement.deviation / brightness)
            used = default if self.weight is None else self.weight
            return used

        images_BTYX = run_method(
            self.name, measurement.encoding(), measurement.kspace_BCTYX, weight, self.iterations or None, progress
        )
        return MethodResult(images_BTYX, None, used)


@dataclass(frozen=True)
class Reconstruction(Generic[Assessment_co]):
    """Complex images of all slices, and what is known about each.

    Attributes
    ----------
    images_ZTYX : reconstructed images on the output grid; zero where a slice is empty.
    zero_filled_ZTYX : images of the measured samples alone, A^H y.
    residual : ||A x - y|| / ||y|| over all measured samples.
    mask_ZTYX : boolean sampling mask of all slices; X is 1 where whole lines were measured.
    facts : how the samples of each slice were prepared; see `SliceMeasurement`.
    filled : numbers of the slices that are not empty, from 0. The method saw these only.
    assessments : what the method found about each of them.
    regularisation_weights : the weight used in each of them; () for a network.
    runs_ZTYX : images of each run without some of the lines, like ``images_ZTYX``; () where they are not kept.
    """

    images_ZTYX: Complex
    zero_filled_ZTYX: Complex
    residual: float
    mask_ZTYX: Mask
    facts: tuple[Mapping[str, Any], ...]
    filled: tuple[int, ...]
    assessments: tuple[Assessment_co, ...]
    regularisation_weights: tuple[float, ...]
    runs_ZTYX: tuple[Complex, ...] = ()


def reconstruct(
    slices: SliceSource,
    method: Reconstructor[Assessment_co],
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reconstruction[Assessment_co]:
    """Reconstruct every slice on its own; the k-space of one slice is in memory at a time.

    The images of all slices are in memory where they are few, else in a file (`crnn_cli.data.mapped_arrays`). A slice
    without any energy is not given to the method: its images are zero.

    Parameters
    ----------
    slices : source of the measured data.
    method : network, classical method, or one wrapped for assessment.
    device : where slices are prepared and reconstructed.
    progress : called with (steps done, steps in all).

    Raises
    ------
    UnsupportedDataError
        If the images come out not finite.
    OutputError
        If images of all slices fit neither in memory nor on the disk.
    """
    images, zero_filled = _ImageStack(slices.count), _ImageStack(slices.count)
    runs: list[_ImageStack] = []
    parts: list[_SlicePart[Assessment_co]] = []
    total, done = slices.count * method.steps, 0

    def on_step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    progress(0, total)
    with torch.no_grad():
        for z in range(slices.count):
            part, made = _reconstruct_slice(slices, z, method, device, on_step)
            zero_filled.put(z, made.before_TYX)
            images.put(z, made.after_TYX)
            runs = runs or [_ImageStack(slices.count) for _ in made.runs_TYX]
            for stack, run_TYX in zip(runs, made.runs_TYX, strict=part.result is not None):
                stack.put(z, run_TYX)
            parts.append(part)
            del made
            release_freed_memory()
            if done < (z + 1) * method.steps:
                done = (z + 1) * method.steps
                progress(done, total)
    if not all(each.finite for each in (images, *runs)):
        raise UnsupportedDataError("the method produced values that are not finite: the input's range is not usable")
    joined = _join(images.images_ZTYX, zero_filled.images_ZTYX, parts)
    return replace(joined, runs_ZTYX=tuple(each.images_ZTYX for each in runs))


@dataclass(frozen=True)
class _SliceImages:
    """Images (T, Y, X) of a slice on the output grid: of the samples alone, reconstructed, of runs without lines."""

    before_TYX: Complex
    after_TYX: Complex
    runs_TYX: tuple[Complex, ...] = ()


@dataclass(frozen=True)
class _SlicePart(Generic[Assessment_co]):
    """What stays of a slice beside its images. result : assessment and weight; None of an empty slice."""

    mask_TYX: Mask
    facts: Mapping[str, Any]
    error: float = 0.0
    energy: float = 0.0
    result: tuple[Assessment_co, float | None] | None = None


def _reconstruct_slice(
    slices: SliceSource, z: int, method: Reconstructor[Assessment_co], device: torch.device, on_step: Callable[[], None]
) -> tuple[_SlicePart[Assessment_co], _SliceImages]:
    """Reconstruct slice z: facts, and its images. Its k-space is freed on return."""
    measurement = slices.measure(z, device)
    encoding, mask_TYX = measurement.encoding(), measurement.mask_BTYX[0].bool().cpu().numpy()
    zero_filled_BTYX = measurement.visible(encoding.zero_filled(measurement.kspace_BCTYX))
    before_TYX = on_output_grid(slices.to_output_grid, zero_filled_BTYX)
    del zero_filled_BTYX
    if not bool(measurement.kspace_BCTYX.any()):
        return _SlicePart(mask_TYX, measurement.facts), _SliceImages(before_TYX, np.zeros_like(before_TYX))
    result = method(measurement, on_step)
    after_TYX = on_output_grid(slices.to_output_grid, measurement.visible(result.images_BTYX))
    error, energy = encoding.squared_residual(result.images_BTYX, measurement.kspace_BCTYX)
    kept = result.assessment, result.regularisation_weight
    made = _SliceImages(before_TYX, after_TYX, result.runs_TYX)
    return _SlicePart(mask_TYX, measurement.facts, error, energy, kept), made


def _join(
    images_ZTYX: Complex, zero_filled_ZTYX: Complex, parts: list[_SlicePart[Assessment_co]]
) -> Reconstruction[Assessment_co]:
    """Join what is known about all slices, empty ones too, with their images."""
    error, energy = sum(part.error for part in parts), sum(part.energy for part in parts)
    results = {z: part.result for z, part in enumerate(parts) if part.result is not None}
    return Reconstruction(
        images_ZTYX,
        zero_filled_ZTYX,
        (error / energy) ** 0.5 if energy else 0.0,
        _stack_masks([part.mask_TYX for part in parts]),
        tuple(part.facts for part in parts),
        tuple(results),
        tuple(assessment for assessment, _ in results.values()),
        tuple(weight for _, weight in results.values() if weight is not None),
    )


def _stack_masks(masks: list[Mask]) -> Mask:
    """Stack the masks (T, Y, X) of all slices; where some are of whole lines (X is 1), they are repeated along X."""
    longest = max(mask.shape[-1] for mask in masks)
    return np.stack([np.broadcast_to(mask, (*mask.shape[:-1], longest)) for mask in masks])


class _ImageStack:
    """Images (Z, T, Y, X) that are filled in slice by slice; zero where none are."""

    def __init__(self, count: int) -> None:
        self.count, self.finite = count, True
        self.images_ZTYX: Complex = np.zeros((count, 0, 0, 0), np.complex64)

    def put(self, z: int, images_TYX: Complex) -> None:
        """Store the images of slice z; the first that are stored set the size."""
        if not self.images_ZTYX.size:
            self.images_ZTYX = zeros((self.count, *images_TYX.shape), images_TYX.dtype)
        self.images_ZTYX[z] = images_TYX
        self.finite = self.finite and bool(np.isfinite(images_TYX).all())
        drop_pages(self.images_ZTYX)

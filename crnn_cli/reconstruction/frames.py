"""Reconstruction frame by frame by a causal network, as the frames come.

A series in a file is reconstructed by the same steps as a stream, so the images are the same to the bit.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout. A frame is a measurement with T = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from crnn_cli.compute.device import tf32_convolutions
from crnn_cli.mri.consistency import energy_weighted_rms
from crnn_cli.mri.fourier import kspace_to_image
from crnn_cli.mri.running_samples import RunningSamples
from crnn_cli.mri.total_variation.causal import CausalTV
from crnn_cli.networks.live_crnn import LiveCRNN, LiveState
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.settings import InferenceSettings


def frame_of(measurement: SliceMeasurement, number: int) -> SliceMeasurement:
    """One frame of a slice, counted from 0."""
    part = slice(number, number + 1)
    mask_BTYX = measurement.mask_BTYX
    unseen_BTYX = None if measurement.unseen_BTYX is None else measurement.unseen_BTYX[:, part]
    return replace(
        measurement, kspace_BCTYX=measurement.kspace_BCTYX[:, :, part], unseen_BTYX=unseen_BTYX,
        mask_BTYX=mask_BTYX if mask_BTYX.shape[1] == 1 else mask_BTYX[:, part],
    )  # fmt: skip


class InitialImages(Protocol):
    """Initial images of the frames of one slice, one after the other, in constant memory."""

    def next(self, frame: SliceMeasurement) -> Tensor:
        """Take in a frame: its initial image, complex (B, 1, Y, X)."""
        ...

    def copy(self) -> InitialImages:
        """Another that goes on from here."""
        ...


class RunningImage:
    """Images of one slice in which missing samples are those of the frames before; see `RunningSamples`."""

    def __init__(self, samples: RunningSamples | None = None) -> None:
        self._samples = samples

    def copy(self) -> RunningImage:
        """Another that goes on from here."""
        return RunningImage(self._samples)

    def next(self, frame: SliceMeasurement) -> Tensor:
        """Take in a frame: its running image, complex (B, 1, Y, X)."""
        data_CYX, mask_1YX = frame.kspace_BCTYX[0, :, 0], frame.mask_BTYX[:, 0].to(frame.kspace_BCTYX.real.dtype)
        if self._samples is None:
            self._samples = RunningSamples.empty(data_CYX, mask_1YX)
        self._samples = self._samples.updated(data_CYX, mask_1YX)
        coils_CYX = kspace_to_image(self._samples.filled(data_CYX, mask_1YX))
        if frame.maps_BCYX is None:
            return coils_CYX[None]
        return (coils_CYX * frame.maps_BCYX.conj()).sum(1, keepdim=True)


class CausalTVImage:
    """Total variation of the frames up to each; see `CausalTV`.

    Parameters
    ----------
    brightness : of the slice, above 0.
    """

    def __init__(self, brightness: Tensor) -> None:
        self._brightness = brightness
        self._window: tuple[SliceMeasurement, ...] = ()
        self._tv: CausalTV | None = None

    def copy(self) -> CausalTVImage:
        """Another that goes on from here."""
        twin = CausalTVImage(self._brightness)
        twin._window, twin._tv = self._window, self._tv and self._tv.copy()
        return twin

    def next(self, frame: SliceMeasurement) -> Tensor:
        """Take in a frame: its image, complex (B, 1, Y, X)."""
        self._tv = self._tv or CausalTV(frame.kspace_BCTYX.shape[1])
        self._window = (*self._window, frame)[-self._tv.frames :]
        operator = _joined(self._window).consistency().scaled(1 / self._brightness)
        return self._tv.next(operator, slice(0, len(self._window))) * self._brightness


def _joined(frames: Sequence[SliceMeasurement]) -> SliceMeasurement:
    """Join frames of one slice to one measurement, with the sensitivities of the last."""
    width = max(frame.mask_BTYX.shape[-1] for frame in frames)
    masks = [frame.mask_BTYX.expand(-1, -1, -1, width) for frame in frames]
    return replace(
        frames[-1], kspace_BCTYX=torch.cat([frame.kspace_BCTYX for frame in frames], 2),
        mask_BTYX=torch.cat(masks, 1), unseen_BTYX=None,
    )  # fmt: skip


def brightness_of(measurement: SliceMeasurement, calibration_frames: int) -> Tensor:
    """Brightness of the running images of the first frames, which the network is scaled by."""
    running, frames = RunningImage(), min(calibration_frames, measurement.kspace_BCTYX.shape[2])
    images = [running.next(frame_of(measurement, number)) for number in range(frames)]
    return energy_weighted_rms(torch.cat(images, 1), measurement.map_sets)


class FrameReconstructor:
    """Reconstructs the frames of one slice, one after the other, in the memory of one.

    Parameters
    ----------
    network : causal.
    settings : how it is used.
    brightness : see `brightness_of`; of a slice without any energy 0, and the images are zero.
    """

    def __init__(self, network: LiveCRNN, settings: InferenceSettings, brightness: Tensor) -> None:
        self._network, self._settings = network, settings
        bright = bool(float(brightness))
        self._scale = settings.input_rms / brightness if bright else torch.zeros_like(brightness)
        by_tv = bright and settings.initial_image == "causal-total-variation"
        self._initial: InitialImages = CausalTVImage(brightness) if by_tv else RunningImage()
        self._state: LiveState | None = None

    def next(self, frame: SliceMeasurement) -> Tensor:
        """Reconstruct the next frame: complex image (B, 1, Y, X)."""
        initial_B1YX = self._initial.next(frame)
        if not self._settings.iterations or not bool(self._scale.any()):
            return initial_B1YX
        self._state = self._step(frame, initial_B1YX, self._state)
        return self._state.image_B1YX / self._scale

    def from_part(self, part: SliceMeasurement) -> Callable[[], Tensor]:
        """Prepare the reconstruction of the next frame from a part of its samples, to be measured on the others.

        Call this before `next`, and what it returns whenever there is time: neither changes the stream.

        Parameters
        ----------
        part : the next frame with fewer samples.
        """
        initial, state = self._initial.copy(), self._state
        return lambda: self._step(part, initial.next(part), state).image_B1YX / self._scale

    def _step(self, frame: SliceMeasurement, initial_B1YX: Tensor, state: LiveState | None) -> LiveState:
        settings, device = self._settings, initial_B1YX.device.type
        operator = frame.consistency(settings.noise_ratio).scaled(self._scale)

        def consistent(image_B1YX: Tensor, error: Tensor) -> Tensor:
            return operator.step(image_B1YX, slice(0, 1), error)

        with (
            torch.no_grad(),
            torch.autocast(device, torch.bfloat16, enabled=settings.bfloat16),
            tf32_convolutions(settings.tf32),
        ):
            return self._network.step(initial_B1YX * self._scale, consistent, state, settings.iterations)


def reconstruct_frames(
    network: LiveCRNN, settings: InferenceSettings, measurement: SliceMeasurement, on_step: Callable[[], None]
) -> Tensor:
    """Reconstruct a slice of a file frame by frame.

    Parameters
    ----------
    network, settings : as of `FrameReconstructor`.
    measurement : of all frames.
    on_step : called ``settings.iterations`` times, evenly over the frames.

    Returns
    -------
    Complex images (B, T, Y, X).
    """
    frames, steps = measurement.kspace_BCTYX.shape[2], settings.iterations
    reconstructor = FrameReconstructor(network, settings, brightness_of(measurement, settings.calibration_frames))
    images = []
    for number in range(frames):
        images.append(reconstructor.next(frame_of(measurement, number)))
        for _ in range(steps * number // frames, steps * (number + 1) // frames):
            on_step()
    return torch.cat(images, 1)

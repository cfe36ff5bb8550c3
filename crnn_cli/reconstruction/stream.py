"""One slice of a stream: calibrated by its first frames, then reconstructed frame by frame.

Legend: C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crnn_cli.data.raw_scan import RawSlice
from crnn_cli.networks.live_crnn import LiveCRNN
from crnn_cli.reconstruction.coil_preparation import (
    CoilPreparation,
    CoilRequest,
    prepare_coils,
    renew_maps,
    require_usable,
)
from crnn_cli.reconstruction.ensemble import FrameEnsemble
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.settings import InferenceSettings


@dataclass(frozen=True)
class StreamMethod:
    """How the frames of a stream are reconstructed.

    Attributes
    ----------
    network, settings, device : of the reconstruction; ``settings.calibration_frames`` calibrate a slice.
    request : how coils are prepared.
    renew_frames : frames after which the sensitivities are estimated again, from the last
        ``settings.calibration_frames``; 0: never. They are used as many frames later, so that the images do not depend
        on how fast the estimate was.
    copies : flipped copies of each frame that are averaged.
    """

    network: LiveCRNN
    settings: InferenceSettings
    device: torch.device
    request: CoilRequest
    renew_frames: int = 0
    copies: int = 1


@dataclass(frozen=True)
class StreamedImage:
    """A frame that was reconstructed.

    Attributes
    ----------
    image_B1YX : complex image; B are the components of several sets of sensitivities.
    measurement : the samples it was made from.
    """

    image_B1YX: Tensor
    measurement: SliceMeasurement


def join_frames(frames: Iterable[RawSlice]) -> RawSlice:
    """Join frames of a slice, of one or more each, to one series; calibration lines are those of the last that has any.

    Masks of whole lines become masks of samples where another frame has one.
    """
    frames = list(frames)
    width = max(frame.mask_TYX.shape[-1] for frame in frames)
    masks = [np.broadcast_to(each.mask_TYX, (*each.mask_TYX.shape[:2], width)) for each in frames]
    calibrations = [each.calibration_CYX for each in frames if each.calibration_CYX is not None]
    return RawSlice(
        np.concatenate([each.kspace_CTYX for each in frames], 1), np.concatenate(masks),
        calibrations[-1] if calibrations else None,
    )  # fmt: skip


class StreamedSlice:
    """The frames of one slice, pushed one after the other; the first come out together, when there are enough.

    Parameters
    ----------
    method : how they are reconstructed.
    place : of the slice, for messages: ``slice 1``.
    """

    def __init__(self, method: StreamMethod, place: str) -> None:
        self._method, self._place = method, place
        self._latest: deque[RawSlice] = deque(maxlen=method.settings.calibration_frames)
        self._prepared: CoilPreparation | None = None
        self._frames: FrameEnsemble | None = None
        self._pushed = 0
        self._renewal: Future[CoilPreparation] | None = None
        self._workers: ThreadPoolExecutor | None = None

    @property
    def facts(self) -> dict[str, object]:
        """What is known of the coils; empty before the slice is calibrated."""
        return {} if self._prepared is None else self._prepared.facts

    @property
    def calibrating(self) -> bool:
        """Whether frames still wait for the calibration."""
        return self._prepared is None

    def push(self, raw: RawSlice) -> Sequence[SliceMeasurement]:
        """Take the next frame: measurements to be given to `reconstruct`, in order; none while it calibrates.

        Raises
        ------
        UnsupportedDataError
            If a sample is not finite or too large, or no sensitivities can be estimated.
        """
        require_usable(raw, self._place)
        self._latest.append(raw)
        self._pushed += 1
        if self._prepared is None:
            return self.calibrate() if self._pushed == self._method.settings.calibration_frames else ()
        self._renew()
        return (self._prepared.measure(raw, self._method.device),)

    def calibrate(self) -> Sequence[SliceMeasurement]:
        """Calibrate by the frames that there are, if it was not done: at the end of a short stream."""
        if self._prepared is not None or not self._latest:
            return ()
        method, waiting = self._method, list(self._latest)
        first = join_frames(waiting)
        self._prepared = prepare_coils(first, method.request, method.device)
        measured = self._prepared.measure(first, method.device)
        self._frames = FrameEnsemble(method.network, method.settings, measured, method.copies)
        return [self._prepared.measure(raw, method.device) for raw in waiting]

    def reconstruct(self, measurement: SliceMeasurement) -> StreamedImage:
        """Reconstruct the next frame."""
        assert self._frames is not None  # measurements come out of a calibrated slice alone
        return StreamedImage(self._frames.next(measurement), measurement)

    def reconstruct_part(self, part: SliceMeasurement) -> Callable[[], Tensor]:
        """Prepare the image of the next frame from a part of its samples; see `FrameEnsemble.from_part`."""
        assert self._frames is not None
        return self._frames.from_part(part)

    def close(self) -> None:
        """Let an estimate that is going on come to its end."""
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)

    def _renew(self) -> None:
        """Begin an estimate of the sensitivities, or use the one that is due."""
        method, every = self._method, self._method.renew_frames
        assert self._prepared is not None
        since = (self._pushed - 1) % every if every else -1
        if since == 0 and self._prepared.maps_MCYX is not None:
            self._workers = self._workers or ThreadPoolExecutor(1)
            frames = list(self._latest)
            before = self._prepared
            self._renewal = self._workers.submit(
                lambda: renew_maps(join_frames(frames), before, method.request, method.device)
            )
        if self._renewal is not None and since == min(method.settings.calibration_frames, every - 1):
            self._prepared, self._renewal = self._renewal.result(), None

"""A slice followed frame by frame: each frame is taken in, and the next ones are forecast at any time.

Memory holds the last 64 frames and the states of the network, whatever the length of the series.

Legend: K frame ahead, R frame read, S source, Y, X pixel.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from crnn_cli.forecasting.intensity import intensity_scale
from crnn_cli.forecasting.memory import FrameMemory
from crnn_cli.networks.forecaster import CineForecaster, States


class SliceStream:
    """One slice of a series.

    Parameters
    ----------
    network : in evaluation mode.
    device : where the network is.
    bfloat16 : whether features are computed in bfloat16.

    Attributes
    ----------
    memory : of its frames, in the intensities of the network.
    frames : taken in so far.
    scale : intensity that the network knows as 1; 0 before the first frame.
    """

    def __init__(self, network: CineForecaster, device: torch.device, bfloat16: bool = False) -> None:
        self._network, self._device, self._bfloat16 = network, device, bfloat16
        self._states: States | None = None
        self.memory = FrameMemory()
        self.frames, self.scale = 0, 0.0

    @torch.no_grad()
    def add(self, frame_YX: Tensor) -> None:
        """Take in a frame.

        Parameters
        ----------
        frame_YX : magnitude, finite, on the CPU; all frames of one size.
        """
        if not self.frames:
            self.scale = intensity_scale(frame_YX)
        self.memory.add(frame_YX.float() / self.scale)
        with self._precision():
            self._states = self._network.encode(self.memory.read()[None].to(self._device), self._states)
        self.frames += 1

    @torch.no_grad()
    def forecast(self, ahead: int) -> Tensor:
        """Forecast the next frames.

        Parameters
        ----------
        ahead : how many.

        Returns
        -------
        (K, Y, X), float32, on the CPU, not below 0, in the intensities of the series.

        Raises
        ------
        ValueError
            If no frame was taken in.
        """
        if self._states is None:
            raise ValueError("there is nothing to forecast from: no frame was taken in")
        states, made = self._states, []
        with self._precision():
            for k in range(1, ahead + 1):
                frame_BYX, states = self._network.forecast(self.memory.sources(k)[None].to(self._device), states)
                made.append(frame_BYX[0].float().cpu())
        return torch.stack(made).clamp_min(0) * self.scale

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16)

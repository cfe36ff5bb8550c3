"""Total variation of a series frame by frame, as the frames come: the initial image of causal networks.

Legend: B batch, T frame, Y phase encoding, X readout, W frame of the window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crnn_cli.mri.consistency import Consistency, energy_weighted_rms
from crnn_cli.mri.total_variation.admm import SPACE, GradientSolver, Steps, iterate


@dataclass(frozen=True)
class _Plan:
    """Frames that are still changed when a new one comes, and the iterations then."""

    window: int
    steps: Steps


_ONE_COIL = _Plan(8, Steps(0.01, 0.2, SPACE, 4))
_SEVERAL_COILS = _Plan(4, Steps(0.01, 0.2, SPACE, 2, inner=4))
_BRIGHTNESS_FRAMES = 8


class CausalTV:
    """Total variation of `crnn_cli.mri.total_variation.admm.tv` over a window that moves on with each frame.

    A frame begins with the image of the frame before, made consistent with its own samples. ADMM then goes on with the
    images and the dual variables that the window has; the frame before the window is held. So a frame is improved as
    often as the window is long before it is left, and the memory is that of a few frames, however many have passed.

    One coil: four iterations over eight frames. Mean PSNR of frames 6 to 30 of five cardiac cines at 8x, in dB, each
    frame as it first comes out, and processor time of a frame of 100 x 95:

        iterations       1      2      4      5     15
        PSNR         28.62  29.15  29.58  29.64  29.87
        ms               6     11     20     25     70

    Running images have 27.41 dB, total variation of all frames at once 30.93 by conjugate gradients. An exact minimum
    in each iteration (`FourierSolver`) takes 9 ms for 29.60 dB, but its errors are others: `cine-crnn-live`, which was
    trained from the images of the table, loses 0.2 dB.

    Several coils: two iterations over four frames, with four steps of conjugate gradients in place of eight. More of
    them fit noise and errors of the sensitivities. Two of these cines with 3 and 8 coils and a noise of 1/100:

        frames, iterations, steps        8, 4, 8   8, 2, 8   8, 2, 4   4, 2, 4   running
        PSNR, 3 coils                      26.44     26.72     27.12     27.12     26.32
        PSNR, 8 coils                      27.07     27.37     27.58     27.55     26.39

    Parameters
    ----------
    coils : number of coils.
    """

    def __init__(self, coils: int = 1) -> None:
        self._plan = _ONE_COIL if coils == 1 else _SEVERAL_COILS
        self._images_BWXY: Tensor | None = None
        self._dual_3BWXY: Tensor | None = None

    @property
    def frames(self) -> int:
        """Frames of the window and the one before it."""
        return self._plan.window + 1

    def copy(self) -> CausalTV:
        """Another that goes on from here."""
        twin = CausalTV()
        twin._plan, twin._images_BWXY, twin._dual_3BWXY = self._plan, self._images_BWXY, self._dual_3BWXY
        return twin

    def next(self, operator: Consistency, frames: slice) -> Tensor:
        """Take in a frame: its image, complex (B, 1, Y, X).

        Parameters
        ----------
        operator : of frames whose bright parts are about 1.
        frames : of the operator: the new one, after as many of those before it as there are, at most `frames` together.
        """
        adjoint_BWYX, new = operator.zero_filled()[:, frames], slice(frames.stop - 1, frames.stop)
        if self._images_BWXY is None or self._dual_3BWXY is None:
            images_BWXY = operator.step(torch.zeros_like(adjoint_BWYX), new).mT
            dual_3BWXY = images_BWXY.new_zeros(3, *images_BWXY.shape)
        else:
            begun_B1XY = operator.step(self._images_BWXY[:, -1:].mT.contiguous(), new).mT
            window = self._plan.window
            images_BWXY = torch.cat([self._images_BWXY[:, -window:], begun_B1XY], 1)
            dual_3BWXY = torch.cat([self._dual_3BWXY[:, :, -window:], begun_B1XY.new_zeros(3, *begun_B1XY.shape)], 2)
        self._dual_3BWXY = dual_3BWXY
        steps = replace(self._plan.steps, map_sets=operator.map_sets)
        system = GradientSolver(
            lambda image_BWYX: operator.normal(image_BWYX, frames), steps, held=images_BWXY.shape[1] > self._plan.window
        )
        self._images_BWXY = iterate(
            images_BWXY.contiguous(), dual_3BWXY, adjoint_BWYX.mT.contiguous(), system, steps
        )  # fmt: skip
        return self._images_BWXY[:, -1:].mT.contiguous()


def causal_tv(operator: Consistency) -> Tensor:
    """Images of a whole series as `CausalTV` gives them one after the other, (B, T, Y, X).

    They are scaled by the brightness of the first running images, as those of a stream.
    """
    running = operator.running()
    brightness = energy_weighted_rms(running[:, :_BRIGHTNESS_FRAMES], operator.map_sets)
    scale = brightness.clamp_min(torch.finfo(brightness.dtype).tiny)
    scaled, series, images = operator.scaled(1 / scale), CausalTV(operator.coils), []
    for stop in range(1, running.shape[1] + 1):
        images.append(series.next(scaled, slice(max(0, stop - series.frames), stop)))
    return torch.cat(images, 1) * scale

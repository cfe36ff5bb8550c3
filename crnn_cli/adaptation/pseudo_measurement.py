"""Pseudo-measurements: current reconstructions, re-sampled with the scan's masks rolled in time, as training pairs.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.reconstruction.measurement import SliceMeasurement

PSEUDO_SHARE = 0.5
"""Share of the steps of a fine-tuning that take the pseudo-supervised loss."""
_WIDTH, _TIMES = 7, 3  # box filter of the phase, in pixels, and how often it is applied


def resimulate(measurement: SliceMeasurement, image_BTYX: Tensor, generator: torch.Generator) -> SliceMeasurement:
    """Simulate a scan of given images by the same coils and noise, each frame sampled with the lines of another.

    The masks are rolled by a random number of frames, and reversed in time in half of the cases, so that the pattern
    over time keeps its structure. Rolled only, no frame keeps its own lines; reversed, two at most do.
    """
    frames = image_BTYX.shape[1]
    shift, backwards = torch.randint(1, max(2, frames), (1,), generator=generator), torch.rand(1, generator=generator)
    mask_BTYX = measurement.mask_BTYX.roll(int(shift), 1)
    if float(backwards) < 0.5:
        mask_BTYX = mask_BTYX.flip(1)
    kspace_BCTYX = image_to_kspace(measurement.encoding().coil_images(image_BTYX))
    if measurement.deviation:
        noise = torch.randn(kspace_BCTYX.shape, dtype=kspace_BCTYX.dtype, generator=generator)
        kspace_BCTYX = kspace_BCTYX + measurement.deviation * noise.to(kspace_BCTYX.device)
    return replace(measurement, kspace_BCTYX=kspace_BCTYX * mask_BTYX[:, None], mask_BTYX=mask_BTYX)


def flip_keep_phase(image_BTYX: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Flip the content of images along some axes, but not their slow phase.

    That phase comes from the field and the coils, and is shared by the other slices of a scan; the content is not.
    """
    phase_1YX = _slow_phase(image_BTYX.mean(1))
    return ((image_BTYX * phase_1YX.conj()).flip(axes) * phase_1YX).contiguous()


def _slow_phase(image_BYX: Tensor) -> Tensor:
    """Phase factor of smoothed images: magnitude 1, or 0 where they are 0."""
    parts_BCYX = torch.view_as_real(image_BYX).movedim(-1, 1)
    for _ in range(_TIMES):
        parts_BCYX = avg_pool2d(pad(parts_BCYX, [_WIDTH // 2] * 4, mode="replicate"), _WIDTH, 1)
    return torch.view_as_complex(parts_BCYX.movedim(1, -1).contiguous()).sgn()

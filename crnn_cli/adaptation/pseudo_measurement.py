"""A scan of images that are known: what would have been measured had they been the truth, sampled as a real one was.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.reconstruction.measurement import SliceMeasurement

REHEARSED = 0.5
"""The share of the steps of a tuning that go by such a scan."""
_WIDTH, _TIMES = 7, 3  # pixels of a mean, and how often it is taken: what then is left of the phase is slow


def resimulate(measured: SliceMeasurement, image_BTYX: Tensor, generator: torch.Generator) -> SliceMeasurement:
    """Return a scan of complex images, by the same coils, with the same noise, each frame with the lines of another.

    Lines move on by a random number of frames, the last ones' to the first, and run backwards half of the time: the
    pattern over time stays what it is, whatever it is. Forwards no frame keeps its own lines, backwards two at most do.
    """
    frames = image_BTYX.shape[1]
    on, backwards = torch.randint(1, max(2, frames), (1,), generator=generator), torch.rand(1, generator=generator)
    mask_BTYX = measured.mask_BTYX.roll(int(on), 1)
    if float(backwards) < 0.5:
        mask_BTYX = mask_BTYX.flip(1)
    kspace_BCTYX = image_to_kspace(measured.encoding().coil_images(image_BTYX))
    if measured.deviation:
        noise = torch.randn(kspace_BCTYX.shape, dtype=kspace_BCTYX.dtype, generator=generator)
        kspace_BCTYX = kspace_BCTYX + measured.deviation * noise.to(kspace_BCTYX.device)
    return replace(measured, kspace_BCTYX=kspace_BCTYX * mask_BTYX[:, None], mask_BTYX=mask_BTYX)


def flip_keep_phase(image_BTYX: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return images whose content is flipped along some axes, while the slow phase stays where it is.

    That phase is of field and coils, which other slices of a scan have too, and the content is not.
    """
    phase_1YX = _slow_phase(image_BTYX.mean(1))
    return ((image_BTYX * phase_1YX.conj()).flip(axes) * phase_1YX).contiguous()


def _slow_phase(image_BYX: Tensor) -> Tensor:
    """Return the phase of smoothed images, of magnitude 1, or 0 where they are 0."""
    parts_BCYX = torch.view_as_real(image_BYX).movedim(-1, 1)
    for _ in range(_TIMES):
        parts_BCYX = avg_pool2d(pad(parts_BCYX, [_WIDTH // 2] * 4, mode="replicate"), _WIDTH, 1)
    return torch.view_as_complex(parts_BCYX.movedim(1, -1).contiguous()).sgn()

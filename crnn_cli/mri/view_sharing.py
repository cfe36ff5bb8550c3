"""Frames that lend each other samples: the first picture of a dynamic scan, with one coil or several.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from torch import Tensor

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace


def view_shared(encoding: Encoding, data_BCTYX: Tensor) -> Tensor:
    """Return S^H of the coils' images with missing samples from other frames, near ones counting most, (B, T, Y, X).

    Each coil as in `SingleCoilConsistency.view_shared`; what no frame measured is zero.
    """
    batch, coils, frames = data_BCTYX.shape[:3]
    kspace = data_BCTYX if len(encoding.axes) == 2 else image_to_kspace(data_BCTYX, (-1,))
    mask = encoding.mask_BTYX.expand(batch, frames, -1, -1).repeat_interleave(coils, 0)
    shared = SingleCoilConsistency(kspace.flatten(0, 1), mask).view_shared()
    return encoding.combined(shared.unflatten(0, (batch, coils)))

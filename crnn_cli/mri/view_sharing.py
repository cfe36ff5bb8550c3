"""Frames that lend each other samples: the first picture of a dynamic scan, with one coil or several.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace


def share_views(encoding: Encoding, data_BCTYX: Tensor) -> Tensor:
    """Return S^H of the coils' images with missing samples from other frames, near ones counting most, (B, T, Y, X).

    Each coil as in `SingleCoilConsistency.view_shared`; what no frame measured is zero.
    """
    batch, coils, frames = data_BCTYX.shape[:3]
    mask_BTYX = encoding.mask_BTYX.expand(batch, frames, -1, -1)
    total_BTYX = torch.zeros_like(data_BCTYX[:, 0])
    for coil in range(coils):
        data_BTYX = data_BCTYX[:, coil]
        kspace_BTYX = data_BTYX if len(encoding.axes) == 2 else image_to_kspace(data_BTYX, (-1,))
        shared_BTYX = SingleCoilConsistency(kspace_BTYX, mask_BTYX).view_shared()
        total_BTYX += (
            shared_BTYX if encoding.maps_BCYX is None else shared_BTYX * encoding.maps_BCYX[:, coil, None].conj()
        )
    return total_BTYX

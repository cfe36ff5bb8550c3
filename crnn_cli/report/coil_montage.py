"""Coil sensitivities as a picture, coil by coil, or as an array."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import PIL.Image

from crnn_cli.data.acquisition import Complex
from crnn_cli.io.atomic_write import Output
from crnn_cli.io.kspace.npy_output import array_output
from crnn_cli.report.montage import captioned, encoded, grey, resized, tile_size

_LEAST_SIDE = 128  # pixels of a coil's tile, at least


def maps_output(maps_ZCYX: Complex, target: Path, caption: str = "") -> Output:
    """Prepare sensitivities for writing: as they are (.npy), or magnitude and phase of the middle slice (.png).

    Parameters
    ----------
    maps_ZCYX : complex, magnitude up to 1; with several sets (slice, set, coil, y, x), which follow each other in the
        picture.
    caption : of the picture; a description where it is empty.
    """
    if target.suffix.lower() == ".npy":
        return array_output(maps_ZCYX, target)
    maps_CYX = maps_ZCYX[len(maps_ZCYX) // 2].reshape(-1, *maps_ZCYX.shape[-2:])
    coils = len(maps_CYX)
    enlarged = max(1, math.ceil(_LEAST_SIDE / max(maps_CYX.shape[1:])))
    size = tile_size(maps_CYX.shape[1:], (1.0, 1.0), enlarged)
    magnitude = [resized(grey(np.abs(coil).astype(np.float32), 1.0), size) for coil in maps_CYX]
    phase = [resized(grey((np.angle(coil) / (2 * np.pi) + 0.5).astype(np.float32), 1.0), size) for coil in maps_CYX]
    across = math.ceil(math.sqrt(2 * coils))
    tiles = [np.concatenate(pair) for pair in zip(magnitude, phase, strict=True)]
    blank = np.zeros_like(tiles[0])
    rows = [tiles[first : first + across] for first in range(0, coils, across)]
    rows[-1] += [blank] * (across - len(rows[-1])) if len(rows) > 1 else []
    picture = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    title = caption or "sensitivities, coil by coil: magnitude (0 to 1) above phase (-pi to pi)"
    return Output(target, encoded([PIL.Image.fromarray(captioned(picture, title))], target, None))

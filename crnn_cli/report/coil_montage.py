"""Coil sensitivities as a picture, coil by coil, or as an array.

Phase has no ends: its colours run in a circle, and neither +pi and -pi nor red and green must be told apart.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.io.atomic_write import Output
from crnn_cli.io.kspace.npy_output import array_output
from crnn_cli.report.lettering import captioned, text_width, titled_row
from crnn_cli.report.montage import encoded, resized, tile_size

_LEAST_MAGNITUDE = 0.02  # below it a phase says nothing
_BAR = (10, 120)
_TURN = 2 * np.pi
_PHASES = (0, np.pi / 2, np.pi, 3 * np.pi / 2)
_COLOURS = ((235, 235, 235), (235, 140, 30), (95, 75, 100), (40, 130, 235))
Colour = NDArray[np.uint8]


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
    size = tile_size(maps_CYX.shape[1:], (1.0, 1.0))
    tiles = [_coil_tile(coil_YX, size) for coil_YX in maps_CYX]
    across = math.ceil(math.sqrt(2 * len(tiles)))
    rows = [_row(tiles[first : first + across], first, across) for first in range(0, len(tiles), across)]
    picture = np.concatenate([_phase_bar(rows[0].shape[1]), *rows])
    title = caption or f"sensitivities of slice {len(maps_ZCYX) // 2 + 1} of {len(maps_ZCYX)}, coil by coil: magnitude "
    title += "" if caption else "(black 0, white 1) above phase; black where a coil sees next to nothing"
    whole = np.stack([captioned(picture[..., channel], title) for channel in range(3)], axis=-1)
    return Output(target, encoded([PIL.Image.fromarray(whole)], target, None))


def phase_colours(phase: NDArray[np.floating]) -> Colour:
    """Colours (..., 3) of phases in rad: light at 0, orange at pi/2, dark at pi and -pi, blue at -pi/2."""
    channels = [np.interp(phase, _PHASES, [colour[n] for colour in _COLOURS], period=_TURN) for n in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _coil_tile(coil_YX: Complex, size: tuple[int, int]) -> Colour:
    """Magnitude of a coil above its phase, black where it hardly sees anything."""
    magnitude = np.abs(coil_YX)
    grey = (255 * np.clip(magnitude, 0, 1)).round().astype(np.uint8)
    phase = phase_colours(np.angle(coil_YX))
    phase[magnitude < _LEAST_MAGNITUDE] = 0
    above = np.repeat(resized(grey, size)[..., None], 3, axis=-1)
    below = [resized(phase[..., channel], size, PIL.Image.Resampling.NEAREST) for channel in range(3)]
    return np.concatenate([above, np.stack(below, axis=-1)])


def _row(tiles: list[Colour], first: int, across: int) -> Colour:
    """Tiles side by side, numbered from 1 on, with black ones up to ``across`` where other rows are as long."""
    blank = [np.zeros_like(tiles[0])] * (across - len(tiles) if first else 0)
    titles = [f"coil {first + number}" for number in range(1, len(tiles) + 1)] + [""] * len(blank)
    return np.stack([titled_row([t[..., n] for t in (*tiles, *blank)], titles) for n in range(3)], axis=-1)


def _phase_bar(width: int) -> Colour:
    """Line with the colours of the phase from -pi to pi."""
    bar = phase_colours(np.broadcast_to(np.linspace(-np.pi, np.pi, _BAR[1]), _BAR))
    before, after = "phase: -pi", "pi"
    left = math.ceil(text_width(before)) + 6
    line = np.stack([captioned(np.zeros((0, width), np.uint8), before)] * 3, axis=-1)
    end = (
        captioned(np.zeros((0, max(0, width - left - _BAR[1])), np.uint8), after)
        if width > left + _BAR[1] + 24
        else None
    )
    room = line[2 : 2 + _BAR[0], left : left + _BAR[1]]
    room[:] = bar[:, : room.shape[1]]
    if end is not None:
        line[:, left + _BAR[1] :] = end[..., None]
    return line

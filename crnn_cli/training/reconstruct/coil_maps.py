"""Random coil sensitivities, and the inexact estimates of them that a network is given in training.

Legend: C coil, N virtual coil, Y phase encoding, X readout, W wave. Lengths are in units of the field of view along Y.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crnn_cli.mri.coils import compression_matrix, mix_coils, normalise_maps
from crnn_cli.training.reconstruct.scenes import SceneRandom

_VIRTUAL = 0.4  # share of maps that are of virtual coils
_ALIKE = 0.15  # share of maps that are nearly the same in all coils: little is gained by them
_WAVES = 8


def random_maps(coils: int, lines: int, columns: int, rng: SceneRandom) -> Tensor:
    """Draw smooth random sensitivities with sum_c |s_c|^2 = 1.

    A coil is a loop of radius a. At a distance r from its centre it sees (1 + r^2 / a^2)^(-3/2), as on the axis of a
    loop, times a smooth random modulation and phase. The coils lie on an arc around the field of view, or above it. The
    patch is a cut of the readout, anywhere in a field about as wide as it is long. Some maps are of virtual coils: the
    strongest combinations of up to three times as many.

    Parameters
    ----------
    coils, lines, columns : C, Y and X.
    rng : random numbers.

    Returns
    -------
    (C, Y, X), complex64.
    """
    virtual = rng.chance(_VIRTUAL)
    maps_CYX = normalise_maps(_loops(coils * rng.integer(1, 3) if virtual else coils, lines, columns, rng))
    if virtual:
        matrix_NC, _ = compression_matrix(maps_CYX[:, None], coils)
        maps_CYX = normalise_maps(mix_coils(maps_CYX[:, None], matrix_NC)[:, 0])
    return maps_CYX


def perturb_maps(maps_CYX: Tensor, error: float, rng: SceneRandom) -> Tensor:
    """Add a smooth random error to sensitivities, again with sum_c |s_c|^2 = 1.

    s' = (s + e) / |s + e| with sum_c conj(s_c) e_c = 0: a factor that all coils share belongs to the image and is no
    error.

    Parameters
    ----------
    maps_CYX : sensitivities.
    error : root mean square of |e| over the pixels.
    rng : random numbers.
    """
    coils, lines, columns = maps_CYX.shape
    parts = _smooth(2 * coils, _places(lines, columns), rng.log_uniform(0.03, 0.3), rng)
    error_CYX = torch.complex(parts[:coils], parts[coils:])
    error_CYX = error_CYX - maps_CYX * (maps_CYX.conj() * error_CYX).sum(0)
    size = error_CYX.abs().square().sum(0).mean().sqrt().clamp_min(1e-9)
    return normalise_maps(maps_CYX + error / size * error_CYX)


def _loops(coils: int, lines: int, columns: int, rng: SceneRandom) -> Tensor:
    """Sensitivities of loops around or above the field, (C, Y, X) complex."""
    wide = max(columns / lines, rng.uniform(0.6, 1.4))
    y, x = _places(lines, columns)
    x = x + rng.uniform(-0.5, 0.5) * (wide - columns / lines)
    alike = rng.chance(_ALIKE)
    radius = rng.uniform(1.5, 3.0) if alike else rng.log_uniform(0.12, 1.5)
    strength = 0.1 if alike else 1.0
    fields = _smooth(2 * coils, (y, x), rng.uniform(0.2, 0.8), rng)
    change = torch.exp(strength * rng.uniform(0, 0.4) * fields[:coils])
    phase = strength * rng.uniform(0, 1.5) * fields[coils:]
    first, arc, out = rng.uniform(0, 2 * math.pi), 2 * math.pi * rng.uniform(0.3, 1.0), rng.uniform(0.3, 0.9)
    maps = []
    for coil in range(coils):
        angle = first + arc * (coil + rng.uniform(-0.3, 0.3)) / coils
        away = out * rng.uniform(0.7, 1.3)
        above, size = rng.uniform(0, 0.5), radius * rng.log_uniform(0.7, 1.4)
        square = (y[:, None] - away * math.sin(angle)) ** 2 + (x - away * wide * math.cos(angle)) ** 2 + above**2
        seen = rng.log_uniform(0.6, 1.6) * change[coil] * (1 + square / size**2) ** -1.5
        maps.append(torch.polar(seen, phase[coil] + rng.uniform(-math.pi, math.pi)))
    return torch.stack(maps)


def _places(lines: int, columns: int) -> tuple[Tensor, Tensor]:
    return (torch.arange(lines) - lines // 2) / lines, (torch.arange(columns) - columns // 2) / lines


def _smooth(count: int, places: tuple[Tensor, Tensor], length: float, rng: SceneRandom) -> Tensor:
    """Random fields (count, Y, X) of about unit variance, each the sum of a few plane waves.

    Their correlation is a Gaussian of standard deviation ``length``.
    """
    turns_WC2 = rng.normal(_WAVES, count, 2) / length
    phase_WC = torch.rand(_WAVES, count, generator=rng.generator) * 2 * math.pi
    along = torch.polar(torch.ones(()), turns_WC2[..., :1] * places[0] + phase_WC[..., None])
    across = torch.polar(torch.ones(()), turns_WC2[..., 1:] * places[1])
    fields: Tensor = (2 / _WAVES) ** 0.5 * torch.einsum("wcy,wcx->cyx", along, across).real
    return fields

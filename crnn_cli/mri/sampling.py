"""Sampling patterns: which k-space lines each frame of a dynamic Cartesian scan measures.

Axes: masks are ``(T, Y)`` boolean; Y is the phase-encoding (undersampled) axis, its centre at floor(Y / 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from crnn_cli.errors import UsageError

CENTRE_LINES = 8


def default_centre_lines(measured_lines: int) -> int:
    """Return the number of centre lines of a frame: 8, but at most two thirds of the lines measured.

    The published demo always takes 8. With 8 lines per frame that would leave none to vary over time.
    """
    return min(CENTRE_LINES, max(1, 2 * measured_lines // 3))


def variable_density(
    frames: int, lines: int, acceleration: float, generator: torch.Generator, centre_lines: int | None = None
) -> Tensor:
    """Draw lines per frame from a Gaussian density with a floor, as the CRNN-MRI demo does.

    pdf(i) = exp(-(0.5 / (N / 10)^2) (i - N / 2)^2) + 1 / (2 R) over N lines; floor(N / R) lines per
    frame including the centre lines, the rest drawn without replacement.

    Returns
    -------
    (frames, lines) boolean.

    References
    ----------
    Qin et al., IEEE TMI 38(1), 2019; Jung et al., Phys Med Biol 52, 2007.
    """
    measured, centre = _budget(lines, acceleration, centre_lines)
    index = torch.arange(lines, dtype=torch.float64)
    density = torch.exp(-(0.5 / (lines / 10) ** 2) * (index - lines / 2) ** 2) + 0.5 / acceleration
    first = lines // 2 - centre // 2
    density[first : first + centre] = 0
    mask = torch.zeros(frames, lines, dtype=torch.bool)
    mask[:, first : first + centre] = True
    if measured > centre:
        rows = density.expand(frames, lines)
        drawn = torch.multinomial(rows, measured - centre, replacement=False, generator=generator)
        mask.scatter_(1, drawn, True)
    return mask


def sheared_grid(
    frames: int, lines: int, acceleration: float, generator: torch.Generator, centre_lines: int | None = None
) -> Tensor:
    """Measure every s-th line, the grid moved along from frame to frame, and the centre lines.

    The step s is the smallest integer with which grid and centre lines together stay within
    floor(N / R) lines per frame. The shift over s successive frames is a permutation of 0 ... s - 1 that
    jumps by the integer nearest to s / golden ratio coprime with s (k-t BLAST, TSENSE: a sheared grid).

    Returns
    -------
    (frames, lines) boolean.

    References
    ----------
    Tsao et al., MRM 50, 2003 (k-t BLAST); Kellman et al., MRM 45, 2001 (TSENSE).
    """
    measured, centre = _budget(lines, acceleration, centre_lines)
    first = lines // 2 - centre // 2
    mask = torch.zeros(frames, lines, dtype=torch.bool)
    mask[:, first : first + centre] = True
    if measured == centre:
        return mask
    step = _grid_step(~mask[0], measured - centre)
    jump = min((j for j in range(1, step + 1) if math.gcd(j, step) == 1), key=lambda j: abs(j - step * 0.618))
    start = int(torch.randint(step, (1,), generator=generator))
    for frame in range(frames):
        mask[frame, (start + frame * jump) % step :: step] = True
    return mask


def _grid_step(outside: Tensor, most: int) -> int:
    """Return the smallest step of which no shift puts more than ``most`` grid lines outside the centre."""
    step = max(1, int(outside.sum()) // most)
    while max(int(outside[shift::step].sum()) for shift in range(step)) > most:
        step += 1
    return step


Pattern = Callable[[int, int, float, torch.Generator, int | None], Tensor]
PATTERNS: dict[str, Pattern] = {"variable-density": variable_density, "sheared-grid": sheared_grid}


def draw_pattern(
    name: str, frames: int, lines: int, acceleration: float, generator: torch.Generator, centre_lines: int | None = None
) -> Tensor:
    """Return a mask (frames, lines) of the named pattern.

    Raises
    ------
    UsageError
        If the name is unknown or the numbers do not fit.
    """
    if name not in PATTERNS:
        raise UsageError(f"unknown pattern {name}: use {' or '.join(PATTERNS)}")
    return PATTERNS[name](frames, lines, acceleration, generator, centre_lines)


def true_acceleration(mask: Tensor) -> float:
    """Return k-space samples over measured samples of a boolean mask: what R really is, centre lines included."""
    return mask.numel() / max(1, int(mask.sum()))


def _budget(lines: int, acceleration: float, centre_lines: int | None) -> tuple[int, int]:
    """Return (lines measured per frame, centre lines among them)."""
    if not 1 <= acceleration <= lines:
        raise UsageError(f"acceleration {acceleration:g} does not fit {lines} lines: choose a value from 1 to {lines}")
    measured = int(lines / acceleration)
    centre = default_centre_lines(measured) if centre_lines is None else centre_lines
    if not 0 <= centre <= measured:
        raise UsageError(
            f"{centre} centre lines do not fit: at {acceleration:g}x a frame of {lines} lines measures {measured}"
        )
    return measured, centre

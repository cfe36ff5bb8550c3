"""Sampling patterns of dynamic Cartesian scans, for simulation and training: variable density and sheared grid.

Masks are (T, Y) boolean: T frame, Y phase encoding (the undersampled axis), its centre at floor(Y / 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from crnn_cli.errors import UsageError

CENTRE_LINES = 8
"""Default number of fully sampled central lines, as in the CRNN-MRI demo."""


def default_centre_lines(measured_lines: int) -> int:
    """Default number of central lines of a frame: 8, but at most two thirds of the lines measured.

    The published demo always takes 8, which at 8 lines per frame would leave none to vary over time.

    >>> default_centre_lines(24), default_centre_lines(6)
    (8, 4)
    """
    return min(CENTRE_LINES, max(1, 2 * measured_lines // 3))


def variable_density(
    frames: int, lines: int, acceleration: float, generator: torch.Generator, centre_lines: int | None = None
) -> Tensor:
    """Draw random lines for each frame from a Gaussian density with a floor, as the CRNN-MRI demo does.

    Each frame has floor(N / R) of N lines: the central ones, and the rest drawn without replacement from

        pdf(i) ~ exp(-(0.5 / (N / 10)^2) (i - N / 2)^2) + 1 / (2 R).

    Parameters
    ----------
    acceleration : R, central lines included.
    generator : of the lines; the same state gives the same mask.
    centre_lines : None for `default_centre_lines`.

    Returns
    -------
    (frames, lines) boolean.

    Raises
    ------
    UsageError
        If acceleration or central lines do not fit the number of lines.

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
    """Build a sheared grid (k-t BLAST, TSENSE): every s-th line, shifted from frame to frame, and central lines.

    The step s is the smallest integer for which grid and central lines together stay within floor(N / R) lines per
    frame. Over s successive frames the shift is a permutation of 0 ... s - 1 that jumps by the integer coprime with s
    that is nearest to s / golden ratio.

    Parameters
    ----------
    acceleration : R, central lines included.
    generator : of the shift of the first frame.
    centre_lines : None for `default_centre_lines`.

    Returns
    -------
    (frames, lines) boolean.

    Raises
    ------
    UsageError
        If acceleration or central lines do not fit the number of lines.

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
    """Smallest step at which no shift puts more than ``most`` grid lines outside the centre."""
    step = max(1, int(outside.sum()) // most)
    while max(int(outside[shift::step].sum()) for shift in range(step)) > most:
        step += 1
    return step


Pattern = Callable[[int, int, float, torch.Generator, int | None], Tensor]
"""Function of (frames, lines, acceleration, generator, centre lines) that returns a mask (frames, lines)."""
PATTERNS: dict[str, Pattern] = {"variable-density": variable_density, "sheared-grid": sheared_grid}
"""Sampling patterns by name."""


def draw_pattern(
    name: str, frames: int, lines: int, acceleration: float, generator: torch.Generator, centre_lines: int | None = None
) -> Tensor:
    """Draw a mask (frames, lines) of the pattern called ``name``, a key of `PATTERNS`.

    Raises
    ------
    UsageError
        If the name is unknown or the numbers do not fit.

    Examples
    --------
    >>> mask_TY = draw_pattern("variable-density", 5, 64, 4, torch.Generator().manual_seed(0))
    >>> mask_TY.sum(1).tolist(), true_acceleration(mask_TY)
    ([16, 16, 16, 16, 16], 4.0)
    """
    if name not in PATTERNS:
        raise UsageError(f"unknown pattern {name}: use {' or '.join(PATTERNS)}")
    return PATTERNS[name](frames, lines, acceleration, generator, centre_lines)


def true_acceleration(mask: Tensor) -> float:
    """Acceleration of a boolean mask: all samples over measured samples, central lines included.

    >>> true_acceleration(torch.tensor([[True, False, True, False]]))
    2.0
    """
    return mask.numel() / max(1, int(mask.sum()))


def _budget(lines: int, acceleration: float, centre_lines: int | None) -> tuple[int, int]:
    """Lines measured per frame, and the central lines among them."""
    if not 1 <= acceleration <= lines:
        raise UsageError(f"acceleration {acceleration:g} does not fit {lines} lines: choose a value from 1 to {lines}")
    measured = int(lines / acceleration)
    centre = default_centre_lines(measured) if centre_lines is None else centre_lines
    if not 0 <= centre <= measured:
        raise UsageError(
            f"{centre} centre lines do not fit: at {acceleration:g}x a frame of {lines} lines measures {measured}"
        )
    return measured, centre

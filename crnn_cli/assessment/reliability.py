"""How far to trust a reconstruction: what it says of samples that it saw, of samples that it did not, and of no sample.

Legend: Z slice, B batch of one, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crnn_cli.assessment.held_out import HoldOutReconstructor, ResidualSums, outside_acs, residual_sums
from crnn_cli.assessment.uncertainty import LEFT_OUT, JackknifeSpread, Map, noise_floor, require_lines
from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.encoding import energy_by_frame
from crnn_cli.mri.null_space import noise_energy, null_space_component
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import Reconstructor

SHARE = 0.1
"""Of the lines outside the centre, held out in each fold."""
FOLDS = 2
"""At most; each is a reconstruction more."""
SMALL = 4_000_000
"""Pixels of all frames and slices up to which one fold is run without being asked for: about a minute on two cores."""
DEVIATIONS = 3.0
"""A frame stands out whose error, on a log scale, is so many robust deviations above the median of its slice."""
_FEWEST_FRAMES = 5
_UNIT = 0.1
_ROUNDING = 1e-4  # a residual at the samples below this is one of data kept as they were

DEFINITION = (
    "share of the image's energy that the samples do not determine; one coil: outside the mask in k-space; several: "
    "w (A^H A + w)^-1 x, w = 0.01"
)


@dataclass(frozen=True)
class SliceReliability:
    """What was found of a slice.

    seen : at all samples. held : at those held out, None where none were, which `reason` explains.
    noise : energy of one sample of all coils together, None where it cannot be estimated.
    free_T, whole_T : energy of the undetermined part and of the image. free_YX : root mean square of that part over
    time, as the images are written. spread_TYX : the standard deviation of the magnitude but for its scale, where
    it was asked for; floor : what the noise alone would give. See `crnn_cli.assessment.uncertainty`.
    """

    seen: ResidualSums
    held: ResidualSums | None
    reason: str
    noise: float | None
    free_T: Tensor
    whole_T: Tensor
    free_YX: Map
    spread_TYX: Map | None = None
    floor: float = 0.0


class AssessedReconstructor:
    """A method whose images are judged on the way, slice by slice; see `crnn_cli.reconstruction.reconstruct.Reconstructor`.

    In each fold a tenth of the lines outside the centre is left out, and predicted by another run of the method; no
    line is judged twice. For a map of the uncertainty it is a quarter, of a frame none again before all were, and the
    same runs serve for both. Sensitivities are those of the whole data: they come from the centre.

    Parameters
    ----------
    folds : 0 to `FOLDS`; for a map, the runs, 1 or more. finished : see `crnn_cli.reconstruction.measurement.SliceSource`.
    unseen : of each slice that is not empty, what alone may be held out, (B, T, Y, X), as the method was tuned on the
        rest; None for anything. () for anything in all slices.
    mapped : a map of the uncertainty is asked for. Then lines that are not unseen are left out as well, but not judged.
    """

    def __init__(
        self, method: Reconstructor, folds: int, finished: Callable[[Complex], Complex],
        unseen: Sequence[Tensor | None] = (), mapped: bool = False,
    ) -> None:  # fmt: skip
        self.method, self.folds, self.finished, self.unseen, self.mapped = method, folds, finished, unseen, mapped
        self.share = LEFT_OUT if mapped else SHARE
        self.slices: list[SliceReliability] = []
        self._judged = HoldOutReconstructor(method, self.share)

    @property
    def steps(self) -> int:
        """Return the steps of the method, once and in each fold."""
        return self.method.steps * (1 + self.folds)

    def __call__(self, measured: SliceMeasurement, tick: Callable[[], None]) -> Tensor:
        """Return complex images (B, T, Y, X), from all data.

        Raises
        ------
        UnsupportedDataError
            If a map is asked for and no lines can be left out.
        """
        if self.mapped:
            require_lines(measured)
        image_BTYX = self.method(measured, tick)
        free_BTYX = null_space_component(measured.encoding(), image_BTYX)
        shown_TYX = self.finished(free_BTYX[0].cpu().numpy())
        spread = JackknifeSpread(measured, image_BTYX, self.finished) if self.mapped else None
        held, reason = self._held(measured, tick, spread)
        self.slices.append(
            SliceReliability(
                residual_sums(measured, image_BTYX), held, reason, noise_energy(measured.kspace_BCTYX, measured.mask_BTYX),
                energy_by_frame(free_BTYX), energy_by_frame(image_BTYX),
                np.sqrt((np.abs(shown_TYX) ** 2).mean(0)).astype(np.float32),
                None if spread is None else spread.root_mean_square(), noise_floor(measured),
            )
        )  # fmt: skip
        return image_BTYX

    def _held(
        self, measured: SliceMeasurement, tick: Callable[[], None], spread: JackknifeSpread | None
    ) -> tuple[ResidualSums | None, str]:
        """Return what the folds found, and why there is nothing where there is not."""
        if not self.folds:
            return None, "not asked for"
        if bool(measured.mask_BTYX.all()):
            return None, "fully sampled: nothing had to be predicted"
        total, spared_BTYX = None, torch.zeros_like(measured.mask_BTYX, dtype=torch.bool)
        unseen_BTYX = self.unseen[len(self.slices)] if self.unseen else None
        if unseen_BTYX is not None:
            unseen_BTYX = unseen_BTYX.to(spared_BTYX.device)
            if spread is None:
                spared_BTYX = measured.mask_BTYX.bool() & ~unseen_BTYX
        for _ in range(self.folds):
            try:
                kept, held_BTYX = self._judged.hold_out(measured, spared_BTYX)
            except UnsupportedDataError as none_left:
                return total, "" if total else str(none_left)
            counted_BTYX = held_BTYX if unseen_BTYX is None else held_BTYX & unseen_BTYX
            image_BTYX = self._judged.predict(measured, kept, counted_BTYX, tick)
            last = self._judged.tallies[-1]
            total, spared_BTYX = last if total is None else total + last, spared_BTYX | held_BTYX
            if spread is not None:
                spread.add(image_BTYX, held_BTYX, None if unseen_BTYX is None else counted_BTYX)
                left_BTYX = outside_acs(measured.mask_BTYX.bool()) & ~spared_BTYX
                spared_BTYX = spared_BTYX & left_BTYX.any(-1, keepdim=True).any(-2, keepdim=True)
        return total, ""


def reliability_summary(
    slices: Sequence[SliceReliability], places: Sequence[int], folds: int, share: float = SHARE
) -> dict[str, Any]:  # fmt: skip
    """Return what a report says: residuals, the share that is undetermined, frames that stand out.

    Residuals of all frames and per frame are those of all slices together. Numbers have six digits; None is what
    cannot be said. Frames are counted from 0, slices from 1.

    Parameters
    ----------
    places : which slice each is, counted from 0. share : of the lines outside the centre, held out in each fold.
    """
    held = [one for one in slices if one.held is not None]
    reasons = sorted({one.reason for one in slices if one.reason})
    found: dict[str, Any] = {
        "residual": _residual([(one.seen, one.noise) for one in slices]),
        "held_out": {"folds": folds if held else 0, "share": share, "reason": "; ".join(reasons) or None},
        "undetermined": _undetermined(slices),
        "stand_out": [frame for one, z in zip(slices, places, strict=True) for frame in _standing_out(one, z)],
    }
    if held:
        found["held_out"] |= _residual([(one.held, one.noise) for one in held if one.held is not None])
    return found


def _residual(tallies: Sequence[tuple[ResidualSums, float | None]]) -> dict[str, Any]:
    """Return residuals, and those that noise alone would give, overall and per frame."""
    if not tallies:
        return {"overall": None, "per_frame": [], "samples": 0, "noise_floor": None, "noise_floor_per_frame": []}
    total = reduce(add, (one for one, _ in tallies))
    noise_T = torch.stack([_noise(one, noise) for one, noise in tallies]).sum(0)
    alone = ResidualSums(noise_T, total.energy_T, total.samples_T)
    return {
        "overall": _digits(total.residual),
        "per_frame": [_digits(value) for value in total.residual_by_frame.tolist()],
        "samples": int(total.samples_T.sum()),
        "noise_floor": _digits(alone.residual),
        "noise_floor_per_frame": [_digits(value) for value in alone.residual_by_frame.tolist()],
    }


def _noise(counted: ResidualSums, noise: float | None) -> Tensor:
    """Return the noise energy at the samples counted, frame by frame; NaN where it is not known."""
    return counted.samples_T * (math.nan if noise is None else noise)


def _undetermined(slices: Sequence[SliceReliability]) -> dict[str, Any]:
    if not slices:
        return {"overall": None, "per_frame": [], "definition": DEFINITION}
    free_T, whole_T = reduce(add, (one.free_T for one in slices)), reduce(add, (one.whole_T for one in slices))
    shares = [_digits(float(share)) for share in free_T / whole_T]
    return {"overall": _digits(float(free_T.sum() / whole_T.sum())), "per_frame": shares, "definition": DEFINITION}


def _standing_out(one: SliceReliability, z: int) -> list[dict[str, Any]]:
    """Return the frames of a slice whose error is far above what the others make one expect, of either kind.

    A frame whose samples were disturbed is found where its error is large against its own energy. Noise in one frame
    alone raises both, and may pass.
    """
    found = []
    for kind, counted in (("held_out", one.held), ("residual", one.seen)):
        if counted is None or (kind == "residual" and counted.residual < _ROUNDING):
            continue
        ratios_T = ratio_to_expected(counted, one.noise)
        for frame, deviation in enumerate(robust_deviations(ratios_T.log())):
            if deviation > DEVIATIONS:
                value, ratio = float(counted.residual_by_frame[frame]), float(ratios_T[frame])
                row = {"slice": z + 1, "frame": frame, "measure": kind, "value": _digits(value)}
                found.append(row | {"times_expected": _digits(ratio), "deviations": _digits(deviation)})
    return found


def ratio_to_expected(counted: ResidualSums, noise: float | None) -> Tensor:
    """Return the error of each frame over what is to be expected at its samples.

    Far from the centre lines hold little but noise, and no method predicts noise: there residuals are large in the
    best of frames. Expected is the noise, and of the energy above it the share that is missed over all frames.
    """
    noise_T = counted.samples_T * (noise or 0.0)
    signal_T = (counted.energy_T - noise_T).clamp_min(0)
    missed = ((counted.error_T - noise_T).sum() / signal_T.sum()).clamp_min(0)
    expected_T = noise_T + missed * signal_T
    return torch.where(expected_T > 0, counted.error_T / expected_T, torch.nan).sqrt()


def robust_deviations(values_T: Tensor) -> list[float]:
    """Return how far each value is from the median, in units of 1.4826 times the median absolute deviation.

    The unit is at least 0.1: of logarithms, 10 %. All zero where fewer than five values are known.
    """
    known = values_T[values_T.isfinite()]
    if len(known) < _FEWEST_FRAMES:
        return [0.0] * len(values_T)
    middle = known.quantile(0.5)
    unit = max(1.4826 * float((known - middle).abs().quantile(0.5)), _UNIT)
    return [0.0 if math.isnan(value) else (value - float(middle)) / unit for value in values_T.tolist()]


def _digits(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None

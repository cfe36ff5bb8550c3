"""Reliability measures of a reconstruction: data residual, held-out residual, null-space energy, outlier frames.

Legend: Z slice, B batch of one, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crnn_cli.assessment.held_out import HoldOutReconstructor, ResidualSums, outside_acs, residual_sums
from crnn_cli.assessment.missed_energy import MissedEnergy, proves_less_noise
from crnn_cli.assessment.readout_band import choose_band
from crnn_cli.assessment.uncertainty import LEFT_OUT, JackknifeSpread, Map, noise_floor, require_lines
from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.encoding import energy_by_frame
from crnn_cli.mri.null_space import noise_energy, null_space_component
from crnn_cli.reconstruction.measurement import SliceMeasurement, on_output_grid
from crnn_cli.reconstruction.reconstruct import MethodResult, Reconstructor

SHARE = 0.1
"""Share of the lines outside the centre held out in each fold."""
FOLDS = 2
"""Largest number of folds; each costs a further reconstruction, or a part of one in a band of columns."""
SMALL = 4_000_000
"""Pixels of all frames and slices up to which one fold runs by default: about a minute on two cores."""
DEVIATIONS = 3.0
"""A frame is an outlier if the logarithm of its error is this many robust deviations above the median of its slice."""
_FEWEST_FRAMES = 5
_UNIT = 0.1
_ROUNDING = 1e-4  # a residual at the samples below this comes from hard data consistency

DEFINITION = (
    "share of the image's energy that the samples do not determine; one coil: outside the mask in k-space; several: "
    "w (A^H A + w)^-1 x, w = 0.01"
)


@dataclass(frozen=True)
class SliceReliability:
    """Reliability measures of one slice.

    Attributes
    ----------
    residual_all : sums at all measured samples.
    residual_held_out : sums at the samples held out; None where there are none.
    reason : why there are none; else empty.
    noise_energy : energy of the noise in one sample of all coils together; None where it cannot be estimated.
    null_energy_T, energy_T : energy of the null-space component and of the images, by frame.
    null_rms_YX : root mean square over time of the null-space component, on the output grid.
    spread_TYX : standard deviation of the magnitude before calibration; None where no map was asked for.
    noise_floor : standard deviation that the noise alone gives; see `crnn_cli.assessment.uncertainty`.
    missed_energy : expected energy of the errors at samples that were not measured; see `MissedEnergy`. None where
        nothing was held out.
    image_noise : energy of the noise that the samples bring into the images.
    columns : share of the readout columns in which the samples held out were predicted.
    """

    residual_all: ResidualSums
    residual_held_out: ResidualSums | None
    reason: str
    noise_energy: float | None
    null_energy_T: Tensor
    energy_T: Tensor
    null_rms_YX: Map
    spread_TYX: Map | None = None
    noise_floor: float = 0.0
    missed_energy: float | None = None
    image_noise: float = 0.0
    columns: float = 1.0

    @property
    def credible_noise(self) -> float | None:
        """The noise energy of a sample; None where it is not known, or held-out samples show that there is less."""
        held, noise = self.residual_held_out, self.noise_energy
        if held is None or noise is None:
            return noise
        return None if proves_less_noise(float(held.error_T.sum()), float(held.samples_T.sum()) * noise) else noise


@dataclass(frozen=True)
class _HeldOut:
    """What the folds gave: sums at the samples held out, or None and the reason; expected energy of the errors.

    columns : share of the readout columns that were predicted.
    """

    sums: ResidualSums | None
    reason: str
    missed_energy: float | None = None
    columns: float = 1.0


class AssessedReconstructor:
    """A method whose images are assessed slice by slice; a `Reconstructor` that returns `SliceReliability`.

    In each fold a tenth of the lines outside the centre is held out, and predicted by a further run of the method; no
    line is held out twice. For a map of the uncertainty it is a quarter, every line of a frame once before any twice,
    and the same runs serve both purposes. Coil sensitivities stay those of all data: they come from the centre.

    A banded method predicts the lines in a band of the readout columns, and the errors elsewhere are taken from those
    of a linear estimate; see `crnn_cli.assessment.readout_band`. It is for methods that are as good in a narrow field
    of view, such as networks. For a map all columns are needed.

    Of a scan that the method was tuned to (``unseen_BTYX`` of its measurements), only lines that it was never tuned on
    count. For a map other lines are left out as well, but do not count as held out.

    Parameters
    ----------
    method : the method to be assessed.
    folds : 0 to `FOLDS`; for a map the number of runs, 1 or more.
    to_output_grid : as of `crnn_cli.reconstruction.measurement.SliceSource`.
    mapped : make a map of the uncertainty.
    keep_runs : hand the images of the runs out as well; for a map.
    banded : predict the lines held out in a band of columns where that is possible.
    """

    def __init__(
        self, method: Reconstructor[None], folds: int, to_output_grid: Callable[[Complex], Complex],
        mapped: bool = False, keep_runs: bool = False, banded: bool = False,
    ) -> None:  # fmt: skip
        self.method, self.folds, self.to_output_grid, self.mapped = method, folds, to_output_grid, mapped
        self.keep_runs, self.banded = keep_runs, banded and not (mapped or keep_runs)
        self.share = LEFT_OUT if mapped else SHARE
        self._hold_out = HoldOutReconstructor(method, self.share)

    @property
    def steps(self) -> int:
        """Steps of the method, once and in each fold."""
        return self.method.steps * (1 + self.folds)

    def __call__(self, measurement: SliceMeasurement, on_step: Callable[[], None]) -> MethodResult[SliceReliability]:
        """Reconstruct a slice from all data, then assess it.

        Raises
        ------
        UnsupportedDataError
            If a map is asked for and no lines can be left out.
        """
        if self.mapped:
            require_lines(measurement)
        result = self.method(measurement, on_step)
        image_BTYX = result.images_BTYX
        null_BTYX = measurement.visible(null_space_component(measurement.encoding(), image_BTYX))
        null_TYX = on_output_grid(self.to_output_grid, null_BTYX)
        spread = JackknifeSpread(measurement, image_BTYX, self.to_output_grid) if self.mapped else None
        runs_TYX: list[Complex] = []
        held_out = self._predict_held_out(measurement, on_step, spread, runs_TYX)
        reliability = SliceReliability(
            residual_sums(measurement, image_BTYX),
            held_out.sums,
            held_out.reason,
            noise_energy(measurement.kspace_BCTYX, measurement.mask_BTYX, measurement.deviation),
            energy_by_frame(null_BTYX),
            energy_by_frame(measurement.visible(image_BTYX)),
            np.sqrt((np.abs(null_TYX) ** 2).mean(0)).astype(np.float32),
            None if spread is None else spread.standard_deviation(),
            noise_floor(measurement),
            held_out.missed_energy,
            2 * noise_floor(measurement) ** 2 * image_BTYX[0].numel(),
            held_out.columns,
        )
        return MethodResult(image_BTYX, reliability, result.regularisation_weight, tuple(runs_TYX))

    def _predict_held_out(
        self, measurement: SliceMeasurement, on_step: Callable[[], None], spread: JackknifeSpread | None,
        runs_TYX: list[Complex],
    ) -> _HeldOut:  # fmt: skip
        """Run all folds; their images are added to those of the runs, if kept."""
        if not self.folds:
            return _HeldOut(None, "not asked for")
        if bool(measurement.mask_BTYX.all()):
            return _HeldOut(None, "fully sampled: nothing had to be predicted")
        missed = MissedEnergy(measurement)
        total, columns, spared_BTYX = None, 1.0, torch.zeros_like(measurement.mask_BTYX, dtype=torch.bool)
        unseen_BTYX = measurement.unseen_BTYX
        if unseen_BTYX is not None:
            unseen_BTYX = unseen_BTYX.to(spared_BTYX.device)
            if spread is None:
                spared_BTYX = measurement.mask_BTYX.bool() & ~unseen_BTYX
        for _ in range(self.folds):
            try:
                shown, held_BTYX = self._hold_out.hold_out(measurement, spared_BTYX)
            except UnsupportedDataError as none_left:
                if total is None:
                    return _HeldOut(None, str(none_left))
                break
            counted_BTYX = held_BTYX if unseen_BTYX is None else held_BTYX & unseen_BTYX
            fold, columns = self._predict_fold(measurement, shown, counted_BTYX, missed, on_step)
            total = fold.assessment if total is None else total + fold.assessment
            spared_BTYX = spared_BTYX | held_BTYX
            if self.keep_runs:
                runs_TYX.append(on_output_grid(self.to_output_grid, measurement.visible(fold.images_BTYX)))
            if spread is not None:
                spread.update(fold.images_BTYX, held_BTYX, None if unseen_BTYX is None else counted_BTYX)
                left_BTYX = outside_acs(measurement.mask_BTYX.bool()) & ~spared_BTYX
                spared_BTYX = spared_BTYX & left_BTYX.any(-1, keepdim=True).any(-2, keepdim=True)
        energy = missed.expected_of_all_lines()
        return _HeldOut(total, "", energy if math.isfinite(energy) else None, columns)

    def _predict_fold(
        self, measurement: SliceMeasurement, shown: SliceMeasurement, counted_BTYX: Tensor, missed: MissedEnergy,
        on_step: Callable[[], None],
    ) -> tuple[MethodResult[ResidualSums], float]:  # fmt: skip
        """Predict the samples that count, in a band of columns where that will do; also the share of the columns.

        The energy missed is added to ``missed``. The images may be those of a band; the sums are of all columns.
        """
        band = choose_band(measurement, shown, counted_BTYX) if self.banded else None
        if band is None:
            fold = self._hold_out.predict(measurement, shown, counted_BTYX, on_step)
            missed.add(fold.images_BTYX, counted_BTYX)
            return fold, 1.0
        part = band.cut(measurement)
        fold = self._hold_out.predict(part, band.cut(shown), counted_BTYX, on_step)
        within = MissedEnergy(part)
        within.add(fold.images_BTYX, counted_BTYX)
        extension = band.extension(part, fold.images_BTYX, counted_BTYX)
        missed.add_band(within, extension, band.width)
        return replace(fold, assessment=extension.sums(fold.assessment, band.energy_T)), band.share


def reliability_summary(
    slices: Sequence[SliceReliability], numbers: Sequence[int], folds: int, share: float = SHARE
) -> dict[str, Any]:
    """Summarise slices for the report (its key ``reliability``).

    Residuals, overall and per frame, are those of all slices together. Numbers have six digits; None is what cannot
    be said. Frames are counted from 0, slices from 1.

    Parameters
    ----------
    slices : the slices that are not empty.
    numbers : the number of each, counted from 0.
    folds : folds that were asked for.
    share : of the lines outside the centre, held out in each fold.
    """
    held = [(each.residual_held_out, each.noise_energy) for each in slices if each.residual_held_out is not None]
    reasons = sorted({each.reason for each in slices if each.reason})
    outliers = [frame for each, z in zip(slices, numbers, strict=True) for frame in _outlier_frames(each, z)]
    columns = float(np.mean([each.columns for each in slices])) if held else 0.0
    held_out: dict[str, Any] = {"folds": folds if held else 0, "share": share, "reason": "; ".join(reasons) or None}
    held_out |= {"columns": round(columns, 4)} if held else {}
    at_samples = _residual_facts([(each.residual_all, each.noise_energy) for each in slices])
    predicted = _residual_facts(held) if held else {}
    unreliable = _below_noise(predicted)
    if unreliable:
        at_samples, predicted = at_samples | _no_floor(at_samples), predicted | _no_floor(predicted)
    return {
        "residual": at_samples,
        "held_out": held_out | predicted,
        "noise_estimate": "too high" if unreliable else None,
        "null_space_energy_fraction": _null_space_facts(slices),
        "outlier_frames": outliers,
    }


def _residual_facts(sums: Sequence[tuple[ResidualSums, float | None]]) -> dict[str, Any]:
    """Residuals, and those that noise alone would give, overall and per frame."""
    if not sums:
        return {"overall": None, "per_frame": [], "samples": 0, "noise_floor": None, "noise_floor_per_frame": []}
    total = reduce(add, (each for each, _ in sums))
    noise_T = torch.stack([_noise_energy_at(each, noise) for each, noise in sums]).sum(0)
    noise_alone = ResidualSums(noise_T, total.energy_T, total.samples_T)
    return {
        "overall": _digits(total.residual),
        "per_frame": [_digits(value) for value in total.residual_by_frame.tolist()],
        "samples": int(total.samples_T.sum()),
        "noise_floor": _digits(noise_alone.residual),
        "noise_floor_per_frame": [_digits(value) for value in noise_alone.residual_by_frame.tolist()],
    }


def _below_noise(predicted: dict[str, Any]) -> bool:
    """Whether samples that a method was not shown are predicted better than their noise allows: it is less, then."""
    value, floor = predicted.get("overall"), predicted.get("noise_floor")
    return value is not None and floor is not None and proves_less_noise(value**2, floor**2)


def _no_floor(facts: dict[str, Any]) -> dict[str, Any]:
    return {"noise_floor": None, "noise_floor_per_frame": [None] * len(facts["noise_floor_per_frame"])}


def _noise_energy_at(sums: ResidualSums, noise: float | None) -> Tensor:
    """Noise energy at the samples counted, frame by frame; NaN where it is not known."""
    return sums.samples_T * (math.nan if noise is None else noise)


def _null_space_facts(slices: Sequence[SliceReliability]) -> dict[str, Any]:
    if not slices:
        return {"overall": None, "per_frame": [], "definition": DEFINITION}
    null_T, energy_T = reduce(add, (s.null_energy_T for s in slices)), reduce(add, (s.energy_T for s in slices))
    shares = [_digits(float(share)) for share in null_T / energy_T]
    return {"overall": _digits(float(null_T.sum() / energy_T.sum())), "per_frame": shares, "definition": DEFINITION}


def _outlier_frames(reliability: SliceReliability, z: int) -> list[dict[str, Any]]:
    """Frames of a slice whose error, of either kind, is far above that of the others, each against its expectation.

    A frame with disturbed samples is found because its error is large against its own energy. Noise in one frame alone
    raises both, and may pass. A frame whose error is below its noise never stands out.
    """
    frames = []
    for measure, sums in (("held_out", reliability.residual_held_out), ("residual", reliability.residual_all)):
        if sums is None or (measure == "residual" and sums.residual < _ROUNDING):
            continue
        noise = reliability.credible_noise
        ratios_T = ratio_to_expected(sums, noise)
        for frame, deviation in enumerate(robust_deviations(ratios_T.log())):
            above_noise = float(sums.error_T[frame]) > float(sums.samples_T[frame]) * (noise or 0.0)
            if deviation > DEVIATIONS and above_noise:
                value, ratio = float(sums.residual_by_frame[frame]), float(ratios_T[frame])
                row = {"slice": z + 1, "frame": frame, "measure": measure, "value": _digits(value)}
                frames.append(row | {"ratio_to_expected": _digits(ratio), "deviations": _digits(deviation)})
    return frames


def ratio_to_expected(sums: ResidualSums, noise: float | None) -> Tensor:
    """Error of each frame over the error expected at its samples, (T,).

    Far from the centre, lines hold little but noise, which no method predicts: residuals there are large even in good
    frames. The expected error is the noise, plus the energy above it times the share that is missed over all frames.
    """
    noise_T = sums.samples_T * (noise or 0.0)
    signal_T = (sums.energy_T - noise_T).clamp_min(0)
    missed = ((sums.error_T - noise_T).sum() / signal_T.sum()).clamp_min(0)
    expected_T = noise_T + missed * signal_T
    return torch.where(expected_T > 0, sums.error_T / expected_T, torch.nan).sqrt()


def robust_deviations(values_T: Tensor) -> list[float]:
    """Distance of each value from the median, in units of 1.4826 times the median absolute deviation.

    The unit is at least 0.1 (10 % where values are logarithms). All are zero where fewer than five values are known.

    >>> [round(value, 6) for value in robust_deviations(torch.tensor([0.0, 0, 0, 0, 0.5], dtype=torch.float64))]
    [0.0, 0.0, 0.0, 0.0, 5.0]
    """
    known = values_T[values_T.isfinite()]
    if len(known) < _FEWEST_FRAMES:
        return [0.0] * len(values_T)
    middle = known.quantile(0.5)
    unit = max(1.4826 * float((known - middle).abs().quantile(0.5)), _UNIT)
    return [0.0 if math.isnan(value) else (value - float(middle)) / unit for value in values_T.tolist()]


def _digits(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None

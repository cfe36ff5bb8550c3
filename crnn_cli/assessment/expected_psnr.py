"""PSNR and NMSE that images are expected to have, from what is known without their truth.

What the samples held out show to be missed, by distance from the centre of k-space, is carried over to all that was not
measured (`MissedEnergy`). A law that was fitted on cases with a truth turns this energy into the error of the
magnitude, and says how far off it was there (`crnn_cli.bundles.psnr_law`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crnn_cli.assessment.reliability import SliceReliability
from crnn_cli.bundles.psnr_law import LEVEL, PSNRLaw

WIDER = 2.0
"""Factor of the interval outside the cases that the law was fitted on."""


@dataclass(frozen=True)
class ErrorBudget:
    """What a reconstruction tells of its errors.

    Attributes
    ----------
    missed : expected energy of the errors at the samples that were not measured.
    noise : energy of the noise that the samples bring into the images.
    energy : of the images.
    acceleration : all lines over measured lines.
    """

    missed: float
    noise: float
    energy: float
    acceleration: float

    def missed_db(self, noise_share: float) -> float:
        """Missed energy, with a share of the noise, over the energy of the images, in dB."""
        return 10 * math.log10((self.missed + noise_share * self.noise) / self.energy)


def error_budget(slices: Sequence[SliceReliability], acceleration: float) -> ErrorBudget | None:
    """Budget of all slices in which lines were held out; None where there are none, or nothing was missed.

    Parameters
    ----------
    slices : those that are not empty.
    acceleration : all lines over measured lines.
    """
    told = [(each, each.missed_energy) for each in slices if each.missed_energy is not None]
    missed, energy = sum(value for _, value in told), sum(float(each.energy_T.sum()) for each, _ in told)
    noise = sum(each.image_noise for each, _ in told)
    if not missed or not energy:
        return None
    return ErrorBudget(missed, noise, energy, acceleration)


@dataclass(frozen=True)
class ExpectedQuality:
    """Expected PSNR of images, in dB, with the interval that holds `LEVEL` of all cases.

    Attributes
    ----------
    psnr, low, high : expected, and from where to where.
    contrast : peak over mean energy of the images, in dB: PSNR = contrast - NMSE.
    outside : in what the scan differs from the cases that the law was fitted on, in words; the interval is wider then.
    """

    psnr: float
    low: float
    high: float
    contrast: float
    outside: tuple[str, ...] = ()

    @property
    def counted(self) -> float:
        """PSNR that a threshold is compared with: the expected one, or its least outside what the law was fitted on."""
        return self.low if self.outside else self.psnr

    def summary(self) -> dict[str, Any]:
        """Facts for the report; PSNR to a tenth of a dB, NMSE with three digits."""
        nmse = [float(f"{10 ** ((self.contrast - psnr) / 10):.3g}") for psnr in (self.psnr, self.high, self.low)]
        psnr, low, high, counted = (round(value, 1) for value in (self.psnr, self.low, self.high, self.counted))
        return {
            "psnr_db": psnr, "low_db": low, "high_db": high, "counted_db": counted,
            "nmse": nmse[0], "low_nmse": nmse[1], "high_nmse": nmse[2],
            "level": LEVEL, "outside": list(self.outside), "reason": None,
        }  # fmt: skip


def not_expected(reason: str) -> dict[str, Any]:
    """Facts for the report where no PSNR can be expected, with the reason."""
    numbers = ("psnr_db", "low_db", "high_db", "counted_db", "nmse", "low_nmse", "high_nmse")
    return {**dict.fromkeys(numbers), "level": LEVEL, "outside": [], "reason": reason}


def expected_quality(law: PSNRLaw, budget: ErrorBudget, contrast: float) -> ExpectedQuality:
    """Apply a law to a budget.

    Parameters
    ----------
    law : of the model that made the images.
    budget : of the scan.
    contrast : 10 log10(peak^2 / mean square) of the magnitude of the images; the peak stands for that of the truth.
    """
    missed = budget.missed_db(law.noise_share)
    outside = []
    if not law.accelerations[0] <= budget.acceleration <= law.accelerations[1]:
        outside.append(
            f"acceleration {budget.acceleration:.3g}, not {law.accelerations[0]:g} to {law.accelerations[1]:g}"
        )
    if not law.missed_range[0] <= missed <= law.missed_range[1]:
        seen = f"{law.missed_range[0]:g} to {law.missed_range[1]:g}"
        outside.append(f"energy missed at {missed:.3g} dB of the images, not {seen}")
    low, high = (value * (WIDER if outside else 1.0) for value in law.interval)
    psnr = contrast - (law.intercept + missed)
    return ExpectedQuality(psnr, psnr + low, psnr + high, contrast, tuple(outside))

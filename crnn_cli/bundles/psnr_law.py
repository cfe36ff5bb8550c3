"""What config.json of a reconstruction model says of its errors: scale of the uncertainty, law of the expected PSNR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crnn_cli.bundles.checks import Kinds, check_types, is_number, shortened
from crnn_cli.errors import UnreadableError

LEVEL = 0.9
"""Share of the cases whose PSNR the interval holds."""
_LARGEST = 1e6
_NUMBERS: Kinds = dict.fromkeys(("intercept", "noise_share"), (int, float))
_RANGES = ("interval", "accelerations", "missed_range")


@dataclass(frozen=True)
class PSNRLaw:
    """The error of a model's images from what is known without their truth, fitted on cases with one.

    NMSE in dB = intercept + m, with the energy m in dB that the images are expected to miss, relative to their own; see
    `crnn_cli.assessment.expected_psnr`.

    Attributes
    ----------
    intercept : in dB. It is mostly below 0, as the magnitude has about half of the error of complex images.
    noise_share : of the energy of the noise in the samples, counts as missed.
    interval : dB from the expected PSNR to its least and largest, of 90 % of the cases; the first is below 0.
    accelerations, missed_range : least and largest acceleration and m (dB) of the cases that it was fitted on.
    cases : how many these were.
    """

    intercept: float
    noise_share: float
    interval: tuple[float, float]
    accelerations: tuple[float, float]
    missed_range: tuple[float, float]
    cases: int


def read_psnr_law(file: str, config: dict[str, Any]) -> PSNRLaw | None:
    """Law of the expected PSNR in a config.json; None where it has none.

    Raises
    ------
    UnreadableError
        If a key is missing, unknown, of the wrong type or out of range.
    """
    given, where = config.get("expected_psnr"), f"{file} (expected_psnr)"
    if given is None:
        return None
    if not isinstance(given, dict):
        raise UnreadableError(f"{where} is {shortened(given)}; it must be an object")
    check_types(where, given, {**_NUMBERS, **dict.fromkeys(_RANGES, list), "cases": int})
    for key in _NUMBERS:
        if not is_number(given[key]) or abs(given[key]) > _LARGEST:
            raise UnreadableError(f"{where}: {key} is {shortened(given[key])}; it must be a number within 1e6")
    if given["noise_share"] < 0 or given["cases"] < 1:
        raise UnreadableError(f"{where}: noise_share must be at least 0, cases at least 1")
    interval, accelerations, missed_range = (_range(where, key, given[key]) for key in _RANGES)
    if not interval[0] < 0 < interval[1]:
        raise UnreadableError(f"{where}: interval is {shortened(given['interval'])}; 0 must lie within")
    numbers = {key: float(given[key]) for key in _NUMBERS}
    return PSNRLaw(
        **numbers, interval=interval, accelerations=accelerations, missed_range=missed_range, cases=given["cases"]
    )


def _range(where: str, key: str, given: list[Any]) -> tuple[float, float]:
    numbers = [float(v) for v in given if is_number(v) and abs(v) <= _LARGEST]
    if len(given) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise UnreadableError(f"{where}: {key} is {shortened(given)}; it must be [least, largest]")
    return numbers[0], numbers[1]


def read_uncertainty_scale(file: str, config: dict[str, Any]) -> float | None:
    """Scale of the uncertainty in a config.json; None where it has none.

    Raises
    ------
    UnreadableError
        If it is no positive number below 1e6, or has other keys beside it.
    """
    given = config.get("uncertainty")
    if given is None:
        return None
    where = f"{file} (uncertainty)"
    if not isinstance(given, dict):
        raise UnreadableError(f"{where} is {shortened(given)}; it must be an object with a scale")
    check_types(where, given, {"scale": (int, float)})
    if not 0 < given["scale"] < 1e6:
        raise UnreadableError(f"{where}: scale is no positive number below 1e6")
    return float(given["scale"])

"""Function of the heart as tables: for people, and a row of a CSV file for each case."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.io.atomic_write import Output
from crnn_cli.report.label_table import csv_text

if TYPE_CHECKING:
    from crnn_cli.cardiac.function import CardiacFunction
    from crnn_cli.cardiac.quantities import Quantity

TITLES = {
    "edv": "end-diastolic volume", "esv": "end-systolic volume", "stroke_volume": "stroke volume",
    "ejection_fraction": "ejection fraction", "mass_ed": "mass, end diastole", "mass_es": "mass, end systole",
    "heart_rate": "heart rate", "cardiac_output": "cardiac output", "peak_ejection_rate": "peak ejection rate",
    "peak_filling_rate": "peak filling rate",
}  # fmt: skip
"""Words for the quantities; ``_index`` behind a name stands for the value by body surface."""
PHASES = {"ed": "end diastole", "es": "end systole"}
"""Words for the phases."""
COLUMNS = ("", "left", "right")
"""Headings of `ventricle_rows`."""
_UNITS = {"%": "percent", "/min": "per_min", "l/min": "l_per_min", "ml/s": "ml_per_s", "ml/m2": "ml_per_m2",
          "g/m2": "g_per_m2", "l/min/m2": "l_per_min_per_m2"}  # fmt: skip


_FORMULAS = {"mosteller": "Mosteller", "dubois": "Du Bois and Du Bois"}
_ORIGINS = {"found": "found", "given": "given", "labelled": "the only ones with labels"}


def ventricle_rows(function: CardiacFunction) -> list[list[str]]:
    """Volumes, ejection fraction and mass of both ventricles; a hyphen where a number is refused or not known."""
    quantities = function.quantities()
    left, right = quantities.get("left", {}), quantities.get("right", {})
    return [[_title(name), *(_text(side.get(name)) for side in (left, right))] for name in left | right]


def heart_rows(function: CardiacFunction) -> list[list[str]]:
    """Phases, body surface, what the intervals are, and flow."""
    phases, quantities = function.phases, function.quantities()
    rows = [["end diastole, end systole", f"frames {phases.ed + 1} and {phases.es + 1} ({_ORIGINS[phases.origin]})"]]
    if phases.only:
        given = "given" if phases.origin == "given" else "assumed"
        rows = [[PHASES[phases.only], f"the only frame ({given})"]]
    surface, formula = function.subject.body_surface, function.subject.formula
    if surface is not None:
        rows.append(["body surface", f"{surface:.2f} m2 ({_FORMULAS.get(formula, formula)})"])
    if function.intervals is not None:
        rows.append(["intervals", function.intervals.text()])
    return rows + [
        [_title(name), _text(each, 2)] for name, each in quantities["heart"].items() if each.value is not None
    ]


def refusal_rows(function: CardiacFunction) -> list[list[str]]:
    """What is refused, and why: each reason once."""
    rows = [[f"no {', '.join(names)}", reason] for reason, names in refused_numbers(function).items()]
    if isinstance(function.wall, str):
        rows.append(["no wall thickness", function.wall])
    return rows


def refused_numbers(function: CardiacFunction) -> dict[str, list[str]]:
    """Words for the numbers that are refused, by the reason; those by body surface are not named again."""
    return refusals_of(function.as_json())


def refusals_of(report: dict[str, Any], but_for: Collection[str] = ()) -> dict[str, list[str]]:
    """`refused_numbers` by the report of `crnn function`, but for some names."""
    reasons: dict[str, list[str]] = {}
    for side, values in report["quantities"].items():
        for name, each in values.items():
            if each["value"] is None and not name.endswith("_index") and name not in but_for:
                words = _title(name) if side == "heart" else f"{side} {_title(name)}"
                reasons.setdefault(each["reason"], []).append(words)
    return reasons


def record_of(report: dict[str, Any]) -> dict[str, str | int | float | None]:
    """Row of a table by the report of `crnn function`: frames from 1, and every quantity with its unit in the name.

    Refused numbers are empty. A number with an interval has its ends behind it, ``_low`` and ``_high``, and the half
    widths of its parts, ``_labels`` and ``_reconstruction``, where there are others than that of the labels.
    """
    record: dict[str, str | int | float | None] = {key: report[key] for key in ("end_diastole", "end_systole")}
    for side, values in report["quantities"].items():
        for name, each in values.items():
            prefix, unit = "" if side == "heart" else f"{side}_", _UNITS.get(each["unit"], each["unit"])
            record[f"{prefix}{name}_{unit}"] = each["value"]
            for end in ("low", "high"):
                if each.get(end) is not None:
                    record[f"{prefix}{name}_{unit}_{end}"] = each[end]
            parts = each.get("parts", {})
            for part in parts if {*parts} - {"labels"} else ():
                record[f"{prefix}{name}_{unit}_{part}"] = parts[part]
    return record


def function_csv(case: str, function: CardiacFunction, target: Path) -> Output:
    """Prepare the CSV file, a heading and one row, for writing."""
    return Output(target, csv_text([{"case": case} | record_of(function.as_json())]).encode())


def _title(name: str) -> str:
    return f"{TITLES[name.removesuffix('_index')]}, indexed" if name.endswith("_index") else TITLES[name]


def _text(quantity: Quantity | None, digits: int | None = None) -> str:
    if quantity is None:
        return "-"
    few = quantity.value is not None and abs(quantity.value) < 10
    return quantity.text((1 if few else 0) if digits is None else (digits if few else 0))

"""Function of the heart as tables: for people, and a row of a CSV file for each case."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.io.atomic_write import Output

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
COLUMNS = ("", "left", "right")
"""Headings of `ventricle_rows`."""
_UNITS = {"%": "percent", "/min": "per_min", "l/min": "l_per_min", "ml/s": "ml_per_s", "ml/m2": "ml_per_m2",
          "g/m2": "g_per_m2", "l/min/m2": "l_per_min_per_m2"}  # fmt: skip


def ventricle_rows(function: CardiacFunction) -> list[list[str]]:
    """Volumes, ejection fraction and mass of both ventricles; a hyphen where a number is refused or not known."""
    quantities = function.quantities()
    left, right = quantities.get("left", {}), quantities.get("right", {})
    return [[_title(name), *(_text(side.get(name)) for side in (left, right))] for name in left | right]


def heart_rows(function: CardiacFunction) -> list[list[str]]:
    """Phases and flow."""
    phases, quantities = function.phases, function.quantities()
    rows = [["end diastole, end systole", f"frames {phases.ed + 1} and {phases.es + 1} ({phases.origin})"]]
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
    reasons: dict[str, list[str]] = {}
    for side, values in function.quantities().items():
        for name, each in values.items():
            if each.value is None and not name.endswith("_index"):
                words = _title(name) if side == "heart" else f"{side} {_title(name)}"
                reasons.setdefault(each.reason, []).append(words)
    return reasons


def function_record(case: str, function: CardiacFunction) -> dict[str, str | int | float | None]:
    """Row of the CSV file: case, frames from 1, and every quantity with its unit in the name; empty where refused."""
    record: dict[str, str | int | float | None] = {
        "case": case, "end_diastole": function.phases.ed + 1, "end_systole": function.phases.es + 1,
    }  # fmt: skip
    for side, values in function.quantities().items():
        for name, each in values.items():
            prefix = "" if side == "heart" else f"{side}_"
            value = None if each.value is None else float(f"{each.value:.6g}")
            record[f"{prefix}{name}_{_UNITS.get(each.unit, each.unit)}"] = value
    return record


def function_csv(case: str, function: CardiacFunction, target: Path) -> Output:
    """Prepare the CSV file, a heading and one row, for writing."""
    buffer = io.StringIO(newline="")
    record: dict[str, Any] = function_record(case, function)
    writer = csv.DictWriter(buffer, list(record), lineterminator="\n")
    writer.writeheader()
    writer.writerow(record)
    return Output(target, buffer.getvalue().encode())


def _title(name: str) -> str:
    return f"{TITLES[name.removesuffix('_index')]}, indexed" if name.endswith("_index") else TITLES[name]


def _text(quantity: Quantity | None, digits: int | None = None) -> str:
    if quantity is None:
        return "-"
    few = quantity.value is not None and abs(quantity.value) < 10
    return quantity.text((1 if few else 0) if digits is None else (digits if few else 0))

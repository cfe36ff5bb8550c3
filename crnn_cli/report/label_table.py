"""Statistics of labels as a file, CSV or JSON: one row for each label and frame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from crnn_cli.errors import UsageError
from crnn_cli.io.atomic_write import Output
from crnn_cli.labels.statistics import LabelStatistics
from crnn_cli.notices import one_line

SUFFIXES = (".csv", ".json")
_FORMULAS = ("=", "+", "-", "@")
_ABSENT = (None, None, None)


def require_statistics_name(target: Path) -> None:
    """Raise UsageError unless the name ends in .csv or .json."""
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot write {target}: statistics are a .csv (table) or a .json (list of the same rows)")


def statistics_record(row: LabelStatistics) -> dict[str, int | float | str | None]:
    """Row of the table by column name; the unit is in the name.

    The centroid's x, y, z are patient axes (RAS+), the extent's are array axes.
    """
    centroid, extent = row.centroid or _ABSENT, row.extent or _ABSENT
    return {
        "label": row.value,
        "name": row.name,
        "frame": row.frame,
        "time_s": row.time,
        "voxels": row.voxels,
        "volume_ml": row.volume,
        "mean_intensity": row.mean,
        "sd_intensity": row.deviation,
        **{f"centroid_{axis}_mm": value for axis, value in zip("xyz", centroid, strict=True)},
        **{f"extent_{axis}_mm": value for axis, value in zip("xyz", extent, strict=True)},
    }


def statistics_output(rows: Sequence[LabelStatistics], target: Path) -> Output:
    """Prepare the table for writing in UTF-8, by the suffix of the name.

    Unknown values are empty cells in CSV and null in JSON. Numbers keep all their digits.

    Raises
    ------
    UsageError
        If the name ends neither in .csv nor in .json.
    """
    require_statistics_name(target)
    records = [statistics_record(row) for row in rows]
    text = csv_text(records) if target.suffix.lower() == ".csv" else _json(records)
    return Output(target, text.encode())


def csv_text(records: Sequence[Mapping[str, int | float | str | None]]) -> str:
    """Rows as CSV with a heading: the columns of all of them, empty where a row has none."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(
        buffer, list(dict.fromkeys(column for record in records for column in record)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({key: _no_formula(value) for key, value in record.items()} for record in records)
    return buffer.getvalue()


def _no_formula(value: int | float | str | None) -> int | float | str | None:
    """Text that a spreadsheet takes as text, and a row as one line: names come from bundles and files.

    >>> _no_formula("=HYPERLINK(1)"), _no_formula("left ventricle"), _no_formula(-1.5)
    ("'=HYPERLINK(1)", 'left ventricle', -1.5)
    """
    if not isinstance(value, str):
        return value
    value = one_line(value)
    return f"'{value}" if value.lstrip().startswith(_FORMULAS) else value


def _json(records: Sequence[dict[str, int | float | str | None]]) -> str:
    return json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

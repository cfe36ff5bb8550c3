"""Tables of a comparison with a reference: measures of images, of label maps, and coverage of an uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_LABEL_COLUMNS = ("label", "Dice", "Jaccard", "HD95 (mm)", "mean (mm)", "volume (ml)", "diff. (ml)", "diff. (%)")
_LABEL_DIGITS = {"dice": ".4f", "jaccard": ".4f", "hd95_mm": ".2f", "mean_surface_distance_mm": ".2f"}


@dataclass(frozen=True)
class TableContent:
    """A table to be printed.

    Attributes
    ----------
    title : above the table.
    columns : headings.
    rows : cells, one for each column.
    prose : headings of the columns that hold sentences, which may be broken into lines.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    prose: tuple[str, ...] = ()


def evaluation_tables(report: dict[str, Any], title: str, per_frame: bool) -> list[TableContent]:
    """Tables of a report of `crnn evaluate`; they count slices and frames from 1.

    Parameters
    ----------
    report : see `crnn_cli.workflows.evaluate.evaluate.Evaluation`.
    title : names of both images.
    per_frame : add a table of every frame.
    """
    if report["compared"] == "labels":
        return _label_tables(report, title, per_frame)
    tables = [_image_table(report, title)]
    if per_frame:
        cells = [[str(f["slice"] + 1), str(f["frame"] + 1), *_image_cells(f)] for f in report["frames"]]
        tables.append(TableContent("per frame", ["slice", "frame", "PSNR (dB)", "SSIM", "NMSE", "HFEN"], cells))
    if "uncertainty" in report:
        tables.append(_coverage_table(report["uncertainty"]))
    return tables


def _image_table(report: dict[str, Any], title: str) -> TableContent:
    psnr, ssim, nmse, hfen = _image_cells(report)
    rows = [
        ["PSNR", psnr if report["identical"] else f"{psnr} dB", f"data range {report['data_range']:.6g}"],
        ["SSIM", ssim, "1 is identical"],
        ["NMSE", nmse, "0 is identical"],
        ["HFEN", hfen, "0 is identical"],
    ]
    if report["scale"] is not None:
        rows.append(["scale", f"{report['scale']:.6g}", "the image was multiplied by this first"])
    return TableContent(title, ["measure", "value", ""], rows, ("",))


def _image_cells(entry: dict[str, Any]) -> Iterable[str]:
    yield "identical" if entry["identical"] else f"{entry['psnr_db']:.2f}"
    for name, digits in (("ssim", ".4f"), ("nmse", ".4g"), ("hfen", ".4g")):
        yield _number(entry[name], digits)


def _coverage_table(facts: dict[str, Any]) -> TableContent:
    from crnn_cli.mri.coverage import WIDTHS

    columns = ["frames", *(f"within {width:g} sd" for width in WIDTHS)]
    parts = [("all", facts), *((f"{part['first'] + 1} to {part['last'] + 1}", part) for part in facts["frames"])]
    parts.append(("if normal", facts["normal"]))
    rows = [[name, *(f"{100 * part[f'within_{width:g}']:.1f} %" for width in WIDTHS)] for name, part in parts]
    body = f"{100 * facts['body_share']:.1f} % of the pixels"
    return TableContent(f"reference within the uncertainty of {facts['file']}; body: {body}", columns, rows)


def _label_tables(report: dict[str, Any], title: str, per_frame: bool) -> list[TableContent]:
    count = len(report["frames"])
    together = f", {count} frames together" if count > 1 else ""
    rows = [_label_cells(entry, count) for entry in report["labels"]]
    if report["labels"]:
        rows.append(["mean", *_averaged(report["mean"]), "", "", ""])
    tables = [TableContent(f"labels of {title}{together}", _LABEL_COLUMNS, rows)]
    if per_frame:
        cells = [[str(f["frame"] + 1), *_label_cells(entry, 1)] for f in report["frames"] for entry in f["labels"]]
        tables.append(TableContent("per frame", ["frame", *_LABEL_COLUMNS], cells))
    return tables


def _label_cells(entry: dict[str, Any], frames: int) -> list[str]:
    title = str(entry["value"]) if entry["name"] is None else f"{entry['value']} {entry['name']}"
    if entry["dice"] is None:
        return [title, "absent in both", *[""] * 6]
    dice, jaccard, *distances = _averaged(entry)
    if 0 < entry["frames_with_distances"] < frames:
        distances = [f"{distance} ({entry['frames_with_distances']}/{frames})" for distance in distances]
    volume, difference = f"{entry['volume_ml']:.4g}", f"{entry['volume_difference_ml']:+.4g}"
    percent = _number(entry["volume_difference_percent"], "+.1f")
    return [title, dice, jaccard, *distances, volume, difference, percent]


def _averaged(entry: dict[str, Any]) -> list[str]:
    return [_number(entry[name], digits) for name, digits in _LABEL_DIGITS.items()]


def _number(value: float | None, digits: str) -> str:
    return "undefined" if value is None else format(value, digits)

"""The page of a reconstruction: its table, its pictures, residuals frame by frame, where it came from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.report.provenance import ensemble_label
from crnn_cli.report.rows import (
    MEASURES,
    adaptation_rows,
    decisive_residual,
    reliability_rows,
    uncertainty_rows,
    with_floor,
)

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.report.html import Part, Picture, Table


def reconstruction_page(
    target: Path, report: dict[str, Any], pictures: Sequence[Picture], notes: Sequence[str] = ()
) -> Output:
    """Return the page of a report, to be written.

    Parameters
    ----------
    notes : what the reader has to know beside it.
    """
    from crnn_cli.report.html import Notes, page_output

    simulated = ["This is a SIMULATED scan."] if "SIMULATED" in report["origin"] else []
    parts: list[Part] = [Notes(["Not for diagnostic use.", *simulated, *notes]), _trust(report)]
    parts += [*_plots(report), *pictures, _provenance(report)]
    name = Path(report.get("output") or "standard output").name
    return page_output(target, f"crnn reconstruct: {name}", parts)


def _trust(report: dict[str, Any]) -> Table:
    from crnn_cli.report.html import Table

    axis = "both axes" if report["undersampled_axes"] == 2 else report["undersampled_axis"]
    method = report["method"].get("title") or report["method"]["name"]
    held = report.get("trust", {}).get("residual")
    seen = f"{report['residual']:.2g}" if held is None else with_floor(held, ".2g")
    rows = [
        ["data", report["origin"]],
        ["acceleration", f"{report['acceleration']:.2f}x along {axis}", report.get("pattern", "")],
        ["method", method + ensemble_label(report), report.get("model", {}).get("name", "")],
        *adaptation_rows(report),
        ["residual at the samples", seen, "error where the method was shown the data: how far it follows them"],
        *reliability_rows(report),
        *uncertainty_rows(report),
    ]
    for name, found in report.get("quality_against_truth", {}).items():
        decibel = "infinite" if found["identical"] else f"{found['psnr_db']:.2f} dB"
        rows.append([f"{name} against truth", f"PSNR {decibel}, SSIM {found['ssim']:.4f}"])
    width = max(len(row) for row in rows)
    return Table("How far to trust it", [[*row, *[""] * (width - len(row))] for row in rows])


def _plots(report: dict[str, Any]) -> list[Part]:
    from crnn_cli.report.html import Plot

    found = report.get("trust")
    if found is None:
        return []
    where, _ = decisive_residual(report)
    of, free = found[where], found["undetermined"]
    marked = [one["frame"] for one in found["stand_out"] if one["measure"] == where]
    said = f"Residual at {MEASURES[where]}, frame by frame; dashed: what noise alone would give."
    plots = [Plot(said, of["per_frame"], of["noise_floor_per_frame"], marked)]
    plots.append(Plot("Share of the energy that the data do not determine, frame by frame.", free["per_frame"]))
    return [plot for plot in plots if any(value is not None for value in plot.values)]


def _provenance(report: dict[str, Any]) -> Table:
    from crnn_cli.report.html import Table

    source, model = report["input"], report.get("model")
    rows = [
        ["made by", report["tool"]],
        ["command", shlex.join(report["command"])],
        ["input", str(source["file"])],
        ["sha256 of the input", str(source["sha256"])],
    ]
    if model is not None:
        rows += [["model", f"{model['name']} ({model['licence']})"], ["sha256 of the weights", model["sha256"]]]
    for name in ("mask", "phase", "maps"):
        if name in source:
            rows += [[name, str(source[name])], [f"sha256 of the {name}", str(source[f"{name}_sha256"])]]
    rows.append(["time", f"{report['seconds']:.1f} s on {report['device']}"])
    rows.append(["versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())])
    return Table("Where it comes from", rows)

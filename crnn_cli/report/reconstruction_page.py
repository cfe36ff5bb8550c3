"""HTML page of a reconstruction: reliability table, pictures, residuals frame by frame, provenance."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.report.provenance import ensemble_label, input_facts
from crnn_cli.report.rows import (
    acceleration_text,
    adaptation_rows,
    expected_rows,
    grid_row,
    quality_rows,
    reliability_rows,
    uncertainty_rows,
    with_floor,
)
from crnn_cli.report.verdict import MEASURES, decisive_residual, verdict_text

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.report.page.html import Part, Picture, Table
    from crnn_cli.report.page.plot import Plot
    from crnn_cli.report.page.viewer import Viewer


def reconstruction_page(
    target: Path, report: dict[str, Any], images: Image, pictures: Sequence[Picture], notes: Sequence[str] = ()
) -> Output:
    """Prepare the page of a reconstruction for writing.

    Parameters
    ----------
    target : the HTML file.
    report : of format 2; ``output`` may be absent where the images went to standard output.
    images : that were reconstructed.
    pictures : between the table and the provenance.
    notes : further remarks at the top, such as that the input has changed.
    """
    from crnn_cli.report.page.html import Notes, page_output

    lines = ["Not for diagnostic use.", *(["This is a SIMULATED scan."] if report["simulated"] else [])]
    lines += [] if report.get("passed") is not False else [f"{verdict_text(report)}."]
    lines += [f"{doubt['text']} ({doubt['code']})" for doubt in report.get("doubts", ())]
    parts: list[Part] = [Notes([*lines, *notes]), _viewer(images, report), reliability_table(report), *pictures]
    parts += [assumptions_table(report["facts"])] if report.get("facts") else []
    parts.append(provenance_table(report))
    name = Path(report.get("output") or "standard output").name
    return page_output(target, f"crnn reconstruct: {name}", parts)


def _viewer(images: Image, report: dict[str, Any]) -> Viewer:
    """All slices and frames, and the residual frame by frame beside them."""
    from crnn_cli.report.page.image_slices import image_slices
    from crnn_cli.report.page.viewer import Viewer

    source = input_facts(report)
    slices = image_slices(images, source.get("slice", 1))
    caption = f"Display: {slices.directions}."
    return Viewer(slices, caption, plots=residual_plots(report), total=source.get("slices", images.shape[2]))


def reliability_table(report: dict[str, Any]) -> Table:
    """How far to trust a reconstruction, by the report of it."""
    from crnn_cli.report.page.html import Table

    method = report["method"].get("title") or report["method"]["name"]
    verdict = verdict_text(report)
    rows = [
        *expected_rows(report),
        *([["verdict", verdict]] if verdict else []),
        ["data", report["origin"]],
        *([grid_row(report)] if "images" in report else []),
        ["acceleration", acceleration_text(report), report.get("pattern", "")],
        ["method", method + ensemble_label(report), report.get("model", {}).get("name", "")],
        *adaptation_rows(report),
        ["residual at the samples", with_floor(report["reliability"]["residual"], ".2g"), "error where the method was "
         "shown the data: how far it follows them"],
        *reliability_rows(report),
        *uncertainty_rows(report),
        *quality_rows(report),
    ]  # fmt: skip
    width = max(len(row) for row in rows)
    return Table("Reliability", [[*row, *[""] * (width - len(row))] for row in rows])


def residual_plots(report: dict[str, Any]) -> list[Plot]:
    """Residual and null-space energy frame by frame; none where no lines were held out."""
    from crnn_cli.report.page.plot import Plot

    reliability = report["reliability"]
    if "held_out" not in reliability:
        return []
    measure, _ = decisive_residual(report)
    residual, null_space = reliability[measure], reliability["null_space_energy_fraction"]
    marked = [frame["frame"] for frame in reliability["outlier_frames"] if frame["measure"] == measure]
    floor = residual["noise_floor_per_frame"]
    dashed = "; dashed: what noise alone would give" if any(value is not None for value in floor) else ""
    title = f"Residual at {MEASURES[measure]}, frame by frame{dashed}{'; marked: outlier frames' if marked else ''}."
    plots = [Plot(title, residual["per_frame"], floor, marked)]
    plots.append(Plot("Share of the energy that the data do not determine, frame by frame.", null_space["per_frame"]))
    return [plot for plot in plots if any(value is not None for value in plot.values)]


def assumptions_table(facts: Sequence[dict[str, str]]) -> Table:
    """What was assumed or done, by the facts of a report."""
    from crnn_cli.report.page.html import Table

    return Table("Assumed or done", [[fact["code"], fact["text"]] for fact in facts])


def provenance_table(report: dict[str, Any]) -> Table:
    """Tool, command, files and versions, by any report."""
    from crnn_cli.report.page.html import Table

    source, model = report["input"], report.get("model")
    rows = [
        ["made by", report["tool"]],
        *([["date", report["date"]]] if "date" in report else []),
        ["command", shlex.join(report["command"])],
        ["input", str(source["file"])],
        ["sha256 of the input", str(source["sha256"])],
    ]
    if model is not None:
        rows += [["model", f"{model['name']} ({model['licence']})"], ["sha256 of the weights", model["sha256"]]]
    for name in ("mask", "phase", "maps"):
        if name in source:
            rows += [[name, str(source[name])], [f"sha256 of the {name}", str(source[f"{name}_sha256"])]]
    if "image_file" in source:
        rows += [["images", str(source["image_file"])], ["sha256 of the images", str(source["image_sha256"])]]
    rows += [["time", f"{report['seconds']:.1f} s on {report['device']}"]] if "seconds" in report else []
    rows.append(["versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())])
    return Table("Provenance", rows)

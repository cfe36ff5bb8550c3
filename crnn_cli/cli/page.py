"""The page of a reconstruction: its table, its pictures, residuals frame by frame, where it came from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.cli import adapt, trust, uncertainty
from crnn_cli.cli.methods import copies_said

if TYPE_CHECKING:
    from crnn_cli.cli.reconstruct_job import Made
    from crnn_cli.cli.reconstruct_output import Shown
    from crnn_cli.io.files import Output
    from crnn_cli.io.page import Part, Picture, Table
    from crnn_cli.uncertainty import Map

GAINS = (50, 20, 10, 5, 2, 1)


def page_of(target: Path, report: dict[str, Any], pictures: Sequence[Picture], notes: Sequence[str] = ()) -> Output:
    """Return the page of a report, to be written.

    Parameters
    ----------
    notes : what the reader has to know beside it.
    """
    from crnn_cli.io.page import Notes, page_output

    simulated = ["This is a SIMULATED scan."] if "SIMULATED" in report["origin"] else []
    parts: list[Part] = [Notes(["Not for diagnostic use.", *simulated, *notes]), _trust(report)]
    parts += [*_plots(report), *pictures, _provenance(report)]
    name = Path(report.get("output") or "standard output").name
    return page_output(target, f"crnn reconstruct: {name}", parts)


def pictures_of(made: Made, shown: Shown) -> list[Picture]:
    """Return the middle slice before and after, and maps: what its data do not determine, how uncertain it is."""
    import numpy as np

    from crnn_cli.io.page import Picture
    from crnn_cli.io.preview import Panel, still

    after, before, slices = shown.after, shown.before, made.slices
    panels = [*shown.panels, Panel("difference of both", np.abs(after.frames_TYX - before.frames_TYX))]
    pictures = [Picture(still(panels, shown.spacing, shown.caption), "Frames, and one column of pixels over time.")]
    if slices:
        maps_ZYX = np.zeros((len(made.result.images_ZTYX), *slices[0].free_YX.shape), np.float32)
        for z, one in zip(made.result.filled, slices, strict=True):
            maps_ZYX[z] = one.free_YX
        said = "Where the image rests on the method alone: root mean square over time of the part that the data do not "
        pictures.append(_beside(made, shown, maps_ZYX, "not determined", f"{said}determine"))
    if made.deviation_ZTYX is not None:
        maps_ZYX = np.sqrt(np.square(made.deviation_ZTYX).mean(1))
        said = "How uncertain the magnitude is: root mean square over time of the standard deviation"
        pictures.append(_beside(made, shown, maps_ZYX, "standard deviation", said))
    return pictures


def _beside(made: Made, shown: Shown, map_ZYX: Map, label: str, said: str) -> Picture:
    """Return the mean over time of the slice shown, and a map beside it, brightened."""
    import numpy as np

    from crnn_cli.cli.uncertainty import image_of
    from crnn_cli.geometry import displayed_slice
    from crnn_cli.io.page import Picture
    from crnn_cli.io.preview import Panel, still, white_of

    drawn = displayed_slice(image_of(map_ZYX[:, None], made.data), shown.z).astype(np.float32)
    mean = Panel("mean over time", shown.after.frames_TYX.mean(0, keepdims=True))
    gain = next((g for g in GAINS if g * np.percentile(drawn, 99.7) <= white_of(mean)), 1)
    both = still([mean, Panel(f"{label} x {gain}", drawn, gain)], shown.spacing, shown.caption, beside=True)
    return Picture(both, f"{said}, {gain} times as bright as the image beside it.")


def _trust(report: dict[str, Any]) -> Table:
    from crnn_cli.io.page import Table

    axis = "both axes" if report["undersampled_axes"] == 2 else report["undersampled_axis"]
    method = report["method"].get("title") or report["method"]["name"]
    held = report.get("trust", {}).get("residual")
    seen = f"{report['residual']:.2g}" if held is None else trust.with_floor(held, ".2g")
    rows = [
        ["data", report["origin"]],
        ["acceleration", f"{report['acceleration']:.2f}x along {axis}", report.get("pattern", "")],
        ["method", method + copies_said(report), report.get("model", {}).get("name", "")],
        *adapt.row(report),
        ["residual at the samples", seen, "error where the method was shown the data: how far it follows them"],
        *trust.rows(report),
        *uncertainty.rows(report),
    ]
    for name, found in report.get("quality_against_truth", {}).items():
        decibel = "infinite" if found["identical"] else f"{found['psnr_db']:.2f} dB"
        rows.append([f"{name} against truth", f"PSNR {decibel}, SSIM {found['ssim']:.4f}"])
    width = max(len(row) for row in rows)
    return Table("How far to trust it", [[*row, *[""] * (width - len(row))] for row in rows])


def _plots(report: dict[str, Any]) -> list[Part]:
    from crnn_cli.io.page import Plot

    found = report.get("trust")
    if found is None:
        return []
    where, _ = trust.judged(report)
    of, free = found[where], found["undetermined"]
    marked = [one["frame"] for one in found["stand_out"] if one["measure"] == where]
    said = f"Residual at {trust.MEASURES[where]}, frame by frame; dashed: what noise alone would give."
    plots = [Plot(said, of["per_frame"], of["noise_floor_per_frame"], marked)]
    plots.append(Plot("Share of the energy that the data do not determine, frame by frame.", free["per_frame"]))
    return [plot for plot in plots if any(value is not None for value in plot.values)]


def _provenance(report: dict[str, Any]) -> Table:
    from crnn_cli.io.page import Table

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

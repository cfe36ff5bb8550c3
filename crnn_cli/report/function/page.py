"""HTML page of the function of a heart: images with outlines, curves, numbers, what is refused, a review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.cardiac.chambers import LEFT, MYOCARDIUM, RIGHT
from crnn_cli.report.function.bulls_eye import draw_bulls_eye
from crnn_cli.report.function.table import COLUMNS, PHASES, heart_rows, refusal_rows, ventricle_rows
from crnn_cli.report.page.html import Drawing, Notes, Table, page_output
from crnn_cli.report.page.plot import Line, Plot
from crnn_cli.report.page.review import ReviewForm
from crnn_cli.report.page.viewer import Outline, Viewer
from crnn_cli.report.reconstruction_page import assumptions_table, provenance_table

if TYPE_CHECKING:
    from crnn_cli.cardiac.chambers import Chambers
    from crnn_cli.cardiac.function import CardiacFunction
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.report.label_montage import LabelledSlices
    from crnn_cli.report.page.html import Part

_COLOURS = {RIGHT: "#56b4e9", MYOCARDIUM: "#f0e442", LEFT: "#ff8a3d"}
"""Colours of outlines, the last on top; those of curves are of the same hue (``page.css``)."""
_KINDS = {LEFT: "left", RIGHT: "right"}


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes
    ----------
    case : name of the case.
    report : of format 2, with ``input``.
    chambers : what the values of the labels are.
    slices : images and labels, as they are displayed.
    has_images : whether there are images; else they are black.
    reconstruction : how reliable the images are, where they are reconstructed.
    """

    case: str
    function: CardiacFunction
    report: dict[str, Any]
    chambers: Chambers
    slices: LabelledSlices
    has_images: bool
    reconstruction: Sequence[Part] = ()


def function_page(target: Path, content: PageContent) -> Output:
    """Prepare the page of a heart for writing."""
    function, report = content.function, content.report
    doubts = [f"{doubt['text']} ({doubt['code']})" for doubt in report.get("doubts", ())]
    parts: list[Part] = [Notes(["Not for diagnostic use.", *doubts]), _viewer(content)]
    parts.append(Table("Ventricles", ventricle_rows(function), COLUMNS))
    parts.append(Table("Heart", [*heart_rows(function), *_quality(report)]))
    refused = refusal_rows(function)
    parts += [Table("Refused", refused)] if refused else []
    if not isinstance(function.wall, str):
        caption = "Wall thickness in end diastole (mm) and thickening (%) in the 16 segments of the AHA."
        parts.append(Drawing(draw_bulls_eye(function.wall, caption), caption))
    parts.append(_slice_table(function))
    parts += content.reconstruction
    model = (report.get("model") or {}).get("sha256")
    parts.append(ReviewForm(content.case, report["input"]["sha256"], model))
    parts += [assumptions_table(report["facts"])] if report.get("facts") else []
    parts.append(provenance_table(report))
    return page_output(target, f"crnn function: {content.case}", parts)


def _viewer(content: PageContent) -> Viewer:
    function, named = content.function, content.chambers.named()
    outlines = [Outline(named[name], name, colour) for name, colour in _COLOURS.items() if name in named]
    shown = [(frame, PHASES[phase]) for phase, frame in function.phases.frames().items()]
    several = len(content.slices.image_TSYX) > 1
    caption = f"Display: {content.slices.directions}."
    plots = [_volume_plot(function)] if several else []
    return Viewer(content.slices, caption, outlines, shown, plots, content.has_images)


def _volume_plot(function: CardiacFunction) -> Plot:
    curves = function.curves()
    lines = [Line(name, _KINDS[name], curves[name]) for name in function.ventricles]
    known = _known(function)
    caption = "Volume in ml, frame by frame." if known else "Volume, frame by frame; the size of a voxel is not known."
    upright = [(function.phases.ed, "ED"), (function.phases.es, "ES")]
    return Plot(caption, lines=lines, upright=upright, scaled=known, height=270)


def _known(function: CardiacFunction) -> bool:
    """Whether a volume of a ventricle is known in ml."""
    return any(volume.value is not None for each in function.ventricles.values() for volume in (each.edv, each.esv))


def _quality(report: dict[str, Any]) -> list[list[str]]:
    """How good labels made on the way probably are."""
    quality = report.get("quality")
    if not quality:
        return []
    lowest = quality["lowest"]
    text = f"{lowest['predicted_dice']:.2f}: {lowest['label']}, frame {lowest['frame'] + 1}"
    return [["lowest predicted Dice of the labels", text]]


def _slice_table(function: CardiacFunction) -> Table:
    """Which slices count: ml of each ventricle in end diastole and end systole; empty where a structure is not."""
    names = [name for name in (LEFT, RIGHT) if name in function.ventricles]
    known = _known(function)
    phases = function.phases.frames()
    columns = ["slice", *(f"{name.split()[0]} {phase.upper()}" for name in names for phase in phases)]
    rows = []
    for z in range(function.volumes[names[0]].discs_ST.shape[0]):
        discs = [float(function.volumes[name].discs_ST[z, frame]) for name in names for frame in phases.values()]
        rows.append([str(z + 1), *("" if not disc else f"{disc:.1f}" if known else "yes" for disc in discs)])
    return Table(f"Slices that count{', ml' if known else ''}", rows, columns)

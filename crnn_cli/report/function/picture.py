"""Picture of the function of a heart: volumes over the cycle, and the wall in the 16 segments (bull's eye).

Colours are those of Okabe and Ito, which the colour-blind tell apart; thickness is written into each segment as well.
"""

from __future__ import annotations

import textwrap
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.cardiac.chambers import LEFT, RIGHT
from crnn_cli.io.atomic_write import Output
from crnn_cli.report.canvas import FAINT, Canvas
from crnn_cli.report.function.bulls_eye import DIRECTIONS, bulls_eye
from crnn_cli.report.page.plot import ticks

if TYPE_CHECKING:
    from crnn_cli.cardiac.function import CardiacFunction
    from crnn_cli.cardiac.wall import Wall

_SIZE = (960, 400)
_BOX = (64, 60, 560, 340)  # left, top, right, bottom of the axes
_EYE = (770, 210, 136)  # centre and radius of the bull's eye
_COLOURS = {LEFT: (213, 94, 0), RIGHT: (0, 114, 178)}
_THIN, _THICK = (250, 243, 225), (204, 121, 67)


def function_picture(function: CardiacFunction, target: Path, title: str) -> Output:
    """Draw curves and wall as a PNG picture.

    Parameters
    ----------
    title : first line; "not for diagnostic use" follows it.
    """
    canvas = Canvas(_SIZE)
    canvas.text((12, 8), f"{title}, not for diagnostic use", 13)
    _draw_curves(canvas, function)
    _draw_wall(canvas, function.wall)
    return Output(target, canvas.png())


def _draw_curves(canvas: Canvas, function: CardiacFunction) -> None:
    """Volume of both cavities over the frames; end diastole and end systole as upright lines."""
    curves = {name: curve for name, curve in function.curves().items() if name in function.ventricles}
    frames = len(next(iter(curves.values())))
    left, top, right, bottom = _BOX
    step, most = ticks(max(volume or 0.0 for curve in curves.values() for volume in curve))
    volumes = [volume for each in function.ventricles.values() for volume in (each.edv, each.esv)]
    sizes = any(volume.value is not None for volume in volumes)

    def place(frame: float, volume: float) -> tuple[float, float]:
        return left + (right - left) * frame / max(1, frames - 1), bottom - (bottom - top) * volume / most

    for k in range(round(most / step) + 1):
        _, y = place(0, k * step)
        canvas.line([(left, y), (right, y)], FAINT)
        if sizes:
            canvas.text((left - 8, y), f"{k * step:g}", 11, "rm")
    canvas.text((12, top - 20), "volume (ml)" if sizes else "volume (size unknown)", 11, "lm")
    for phase, frame in function.phases.frames().items():
        x, _ = place(frame, 0)
        canvas.line([(x, top), (x, bottom)], (150, 150, 150))
        canvas.text((x + 4, top + 4), phase.upper(), 11, "la")
    for number, (name, curve_T) in enumerate(curves.items()):
        points = [None if volume is None else place(frame, volume) for frame, volume in enumerate(curve_T)]
        for one, next_one in pairwise(points):
            if one is not None and next_one is not None:
                canvas.line([one, next_one], _COLOURS[name], 2)
        for point in points:
            if point is not None:
                canvas.dot(point, 2.5, _COLOURS[name])
        fraction = function.ventricles[name].ejection_fraction
        words = f"{name}{'' if fraction.value is None else f', ejection fraction {fraction.text()}'}"
        canvas.text((left + 250 * number, bottom + 30), words, 12, ink=_COLOURS[name])
    _label_frames(canvas, function, frames, place(0, 0)[1])


def _label_frames(canvas: Canvas, function: CardiacFunction, frames: int, y: float) -> None:
    left, _, right, _ = _BOX
    for frame in sorted({round(k * (frames - 1) / 4) for k in range(5)}):
        x = left + (right - left) * frame / max(1, frames - 1)
        time = "" if function.frame_time is None else f" ({1000 * frame * function.frame_time:.0f} ms)"
        canvas.text((x, y + 6), f"{frame + 1}{time}", 11, "ma")
    canvas.text((right + 10, y - 6), "frame", 11)


def _draw_wall(canvas: Canvas, wall: Wall | str) -> None:
    """Bull's eye: basal segments outside, apical ones inside, anterior on top, the septum on the left."""
    x, y, radius = _EYE
    if isinstance(wall, str):
        for number, text in enumerate(["no wall thickness:", *textwrap.wrap(wall, 38)]):
            canvas.text((x, y - 30 + 18 * number), text, 12, "ma")
        return
    canvas.text((x, _BOX[1] - 18), "wall, end diastole (mm) and thickening (%)", 12, "mm")
    for each in bulls_eye(wall):
        fill = tuple(round(a + each.share * (b - a)) for a, b in zip(_THIN, _THICK, strict=True))
        canvas.area([(x + radius * dx, y + radius * dy) for dx, dy in each.ring], (fill[0], fill[1], fill[2]))
        at = (x + radius * each.middle[0], y + radius * each.middle[1])
        canvas.text((at[0], at[1] - 1), each.thickness, 13, "mb")
        canvas.text((at[0], at[1] + 1), each.thickening, 10, "mt")
    for words, dx, dy in DIRECTIONS:
        anchor = {(0, -1): "mb", (0, 1): "mt", (-1, 0): "rm", (1, 0): "lm"}[dx, dy]
        canvas.text((x + dx * (radius + 6), y + dy * (radius + 6)), words, 11, anchor)

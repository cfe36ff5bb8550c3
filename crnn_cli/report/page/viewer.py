"""Viewer of a page: slices and frames to look through, outlines of labels, a line of pixels over time.

Slices are JPEG, all frames of one side by side, so that a stack of cine fits into a page that can be sent; labels are
kept to the voxel. Both are in the page itself, and ``viewer.js`` beside this file draws them.

Legend: T frame, S slice, Y row and X column of a slice as displayed.
"""

from __future__ import annotations

import base64
import io
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from crnn_cli.report.crop import moving_region, region_around
from crnn_cli.report.montage import grey
from crnn_cli.report.page.plot import Plot, draw_plot
from crnn_cli.report.page.text import escaped

if TYPE_CHECKING:
    from crnn_cli.report.label_montage import LabelledSlices

Bytes = NDArray[np.uint8]

BUDGET = 3_500_000
"""Characters that all images of a page may take; the labels of a heart take a tenth of it at most."""
_QUALITIES = (92, 85, 75, 60, 45)
_BLOCK = 8  # pixels of a block of JPEG; tiles begin with one, so that neighbours do not mix
_WHITE = 99.7  # percentile of what is shown


@dataclass(frozen=True)
class Outline:
    """A label whose outline is drawn: its value, its name, and its colour as CSS writes it."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class Viewer:
    """Images of a page, with labels perhaps.

    Attributes
    ----------
    slices : images and labels, turned as they are displayed.
    caption : under the images.
    outlines : labels that are drawn, the last on top; none where there are no labels.
    phases : frames, from 0, that are shown beside each other, each with its name.
    plots : of as many frames; they mark the frame shown, and a click on them shows another.
    has_images : whether there are images; else the outlines lie on black.
    total : slices of the scan, of which these are some; 0: these are all.
    """

    slices: LabelledSlices
    caption: str
    outlines: Sequence[Outline] = ()
    phases: Sequence[tuple[int, str]] = ()
    plots: Sequence[Plot] = ()
    has_images: bool = True
    total: int = 0


def draw_viewer(part: Viewer) -> str:
    """Draw a viewer as HTML: what ``viewer.js`` needs, and places for what it draws."""
    part = replace(part, slices=_by_number(part.slices))
    content, shown = _content(part)
    frames, slices = len(part.slices.image_TSYX), len(part.slices.numbers)
    toggles = "".join(
        f'<label><input type="checkbox" data-label="{each.value}" checked="checked"/>'
        f'<i class="swatch" style="background:{each.colour}"></i>{escaped(each.name)}</label>'
        for each in part.outlines
    )
    phases = "".join(
        f'<figure><canvas data-frame="{frame}"></canvas><figcaption>{escaped(name)}, frame {frame + 1}</figcaption>'
        "</figure>"
        for frame, name in part.phases
    )
    plots = "".join(
        f"<figure>{draw_plot(each)}<figcaption>{escaped(each.caption)}</figcaption></figure>" for each in part.plots
    )
    profile = (
        '<figure class="profile"><canvas tabindex="0" role="img" aria-label="line over time"></canvas><figcaption>'
        "</figcaption></figure>"
    )
    return (
        f'<section class="viewer"><h2>Images</h2><noscript><p class="note">{_NO_SCRIPT}</p></noscript>'
        '<div class="columns"><div class="left-column">'
        '<figure class="main"><canvas tabindex="0" role="img" aria-label="image"></canvas>'
        '<figcaption aria-live="polite"></figcaption></figure>'
        f'<div class="controls">{_slider("slice", slices)}{_slider("frame", frames)}'
        f"{_BUTTON if frames > 1 else ''}{toggles}{_choice('line', 'line over time') if frames > 1 else ''}"
        f"{_choice('whole', 'whole slice') if content['region'] else ''}</div></div>"
        f'<div class="right-column">{profile if frames > 1 else ""}{plots}</div></div>'
        f'<div class="phases">{phases}</div>'
        f'<p class="why">{escaped(f"{part.caption} {shown}")}</p><details><summary>Mouse, touch and keys</summary>'
        f'<p class="why">{_keys(part)}</p></details>'
        f'<script type="application/json">{data_text(content)}</script></section>'
    )


_NO_SCRIPT = "This browser runs no scripts: images cannot be looked through. Numbers and tables are complete."
_BUTTON = '<button type="button" class="play">play</button>'


def _keys(part: Viewer) -> str:
    """How to use the viewer."""
    outlines = "O for all outlines, 1 to 9 for one, " if part.outlines else ""
    phases = "D and S for the two phases, " if len(part.phases) > 1 else ""
    return (
        "On the image: the wheel goes through the slices, with Shift through the frames; drag sideways to go through "
        "the frames; drag the line or its ends. On touch screens swipe sideways, and use the sliders. Keys: left and "
        f"right for frames, {outlines}{phases}W for the whole slice; once the image has been clicked also up and down "
        "for slices, and space to play. On the picture of the line: arrows move it, with Shift they turn it."
    )


def data_text(content: dict[str, Any]) -> str:
    r"""Values for a script, as JSON that is text in HTML and in XML.

    >>> data_text({"name": "</script>&"})
    '{"name":"\\u003c/script\\u003e\\u0026"}'
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _slider(name: str, count: int) -> str:
    hidden = ' hidden="hidden"' if count < 2 else ""
    return f'<label{hidden}>{name} <input type="range" class="{name}" min="1" max="{count}" value="1"/></label>'


def _choice(name: str, text: str) -> str:
    checked = ' checked="checked"' if name == "line" else ""
    return f'<label><input type="checkbox" class="{name}"{checked}/>{text}</label>'


def _by_number(slices: LabelledSlices) -> LabelledSlices:
    """Slices in the order of their numbers: those that viewers count, from 1 as stored."""
    order = np.argsort(slices.numbers)
    return replace(
        slices, image_TSYX=slices.image_TSYX[:, order], labels_TSYX=slices.labels_TSYX[:, order],
        numbers=[slices.numbers[index] for index in order],
    )  # fmt: skip


def _content(part: Viewer) -> tuple[dict[str, Any], str]:
    """What the script needs; and in words what was done to the images."""
    slices = part.slices
    labels_TSYX = _only(slices.labels_TSYX, part.outlines)
    images, quality, step = _compressed(_levels(slices)) if part.has_images else ([], 0, 1)
    row, column = slices.spacing
    frames, _, height, width = slices.image_TSYX.shape
    region = _region(slices, labels_TSYX)
    content = {
        "height": height, "width": width, "frames": frames, "across": _across(frames), "step": step,
        "tile": [_blocks(-(-size // step)) for size in (height, width)], "spacing": [row, column],
        "frame_time": slices.frame_time, "numbers": list(slices.numbers), "total": part.total or len(slices.numbers),
        "images": images,
        "labels": [_packed(labels_TSYX[:, z]) for z in range(len(slices.numbers))] if part.outlines else [],
        "outlines": [{"value": each.value, "name": each.name, "colour": each.colour} for each in part.outlines],
        "phases": [{"frame": frame, "name": name} for frame, name in part.phases], "region": region,
        "start": _start(labels_TSYX, part), "line": _line(labels_TSYX, region, height, width),
    }  # fmt: skip
    if not part.has_images:
        return content, "No images were given: the outlines lie on black."
    smaller = f", every {step}nd pixel" if step == 2 else f", every {step}th pixel" if step > 2 else ""
    origin = "labels as stored" if part.outlines else "images as written"
    return content, f"Images are compressed (JPEG, quality {quality}{smaller}); numbers are from the {origin}."


def _only(labels_TSYX: Bytes, outlines: Sequence[Outline]) -> Bytes:
    """Labels that are drawn; all else is background."""
    if not outlines:
        return labels_TSYX
    known = np.zeros(256, np.uint8)
    values = [each.value for each in outlines]
    known[values] = values
    chosen: Bytes = known[labels_TSYX]
    return chosen


def _levels(slices: LabelledSlices) -> Bytes:
    """Grey levels of the images; those that are bytes are levels already."""
    if slices.image_TSYX.dtype == np.uint8:
        return slices.image_TSYX.astype(np.uint8, copy=False)
    image_TSYX = np.asarray(slices.image_TSYX, np.float32)
    return grey(image_TSYX, float(np.percentile(image_TSYX, _WHITE)) or 1.0)


def _compressed(grey_TSYX: Bytes) -> tuple[list[str], int, int]:
    """Images within the budget, their quality, and which pixels were kept: every first, second, fourth ..."""
    step = 1
    images, quality = _encoded(grey_TSYX)
    while sum(map(len, images)) > BUDGET and min(grey_TSYX.shape[2:]) > step:
        step *= 2
        images, quality = _encoded(grey_TSYX[..., ::step, ::step])
    return images, quality, step


def _encoded(grey_TSYX: Bytes) -> tuple[list[str], int]:
    """All frames of each slice as one JPEG in base64, in the best quality that the budget has room for; the quality.

    In the lowest one they may be larger than the budget.
    """
    frames, slices, height, width = grey_TSYX.shape
    across = _across(frames)
    padding = ((0, -frames % across), (0, 0), (0, -height % _BLOCK), (0, -width % _BLOCK))
    tiles = np.pad(grey_TSYX, padding, "edge")
    rows, tall, wide = len(tiles) // across, *tiles.shape[2:]
    texts: list[str] = []
    for quality in _QUALITIES:
        texts = []
        for z in range(slices):
            sheet = tiles[:, z].reshape(rows, across, tall, wide).swapaxes(1, 2).reshape(rows * tall, across * wide)
            file = io.BytesIO()
            PIL.Image.fromarray(sheet).save(file, "JPEG", quality=quality, optimize=True)
            texts.append(base64.b64encode(file.getvalue()).decode())
        if sum(map(len, texts)) <= BUDGET:
            break
    return texts, quality


def _across(frames: int) -> int:
    """Tiles in a row of the picture of a slice, so that it is about square."""
    return math.ceil(math.sqrt(frames))


def _blocks(size: int) -> int:
    return size + -size % _BLOCK


def _packed(labels_TYX: Bytes) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(labels_TYX).tobytes(), 9)).decode()


def _region(slices: LabelledSlices, labels_TSYX: Bytes) -> list[int] | None:
    """Top, bottom, left and right of the part that is shown at first; None for the whole slice."""
    middle = slices.image_TSYX.shape[1] // 2
    if labels_TSYX.any():
        region = region_around(np.asarray(labels_TSYX.any(axis=(0, 1))), slices.spacing)
    else:
        region = moving_region(slices.image_TSYX[:, middle], slices.spacing)
    if region is None:
        return None
    ends = [part.indices(size) for part, size in zip(region, slices.image_TSYX.shape[2:], strict=True)]
    return [ends[0][0], ends[0][1], ends[1][0], ends[1][1]]


def _start(labels_TSYX: Bytes, part: Viewer) -> dict[str, int]:
    """Slice and frame that are shown first: the middle one of those with labels, and the first phase."""
    labelled = np.flatnonzero(labels_TSYX.any(axis=(0, 2, 3)))
    middle = int(labelled[len(labelled) // 2]) if len(labelled) else labels_TSYX.shape[1] // 2
    return {"slice": middle, "frame": part.phases[0][0] if part.phases else 0}


def _line(labels_TSYX: Bytes, region: list[int] | None, height: int, width: int) -> list[float]:
    """Column and row of both ends of the line at first: across the labels, else across the middle of what is shown."""
    top, bottom, left, right = region or [0, height, 0, width]
    rows, _ = np.nonzero(labels_TSYX.any(axis=(0, 1)))
    y = float(rows.mean()) if len(rows) else (top + bottom) / 2
    return [left + 0.1 * (right - left), y, left + 0.9 * (right - left), y]

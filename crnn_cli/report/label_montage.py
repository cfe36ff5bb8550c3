"""Pictures of a label map: slices with the outline of each label in its colour, a legend and a caption.

Legend: T frame, S slice, Y row and X column of a slice as displayed. A layer of paint holds, for each pixel, the value
of the label whose colour covers the grey picture there, 0 where none does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from crnn_cli.data.geometry import NO_DIRECTIONS, SliceOrder, knows_orientation
from crnn_cli.data.image import Image
from crnn_cli.io.atomic_write import Output
from crnn_cli.labels.names import Label
from crnn_cli.labels.statistics import LabelStatistics
from crnn_cli.report.crop import WHOLE, region_around
from crnn_cli.report.lettering import STRIP_HEIGHT, Grey, captioned, fitting, text_width, titled_row, wrapped
from crnn_cli.report.montage import encoded, frame_line, grey, is_still, require_preview_name, resized, tile_size

_MOST_SLICES, _FEW = 12, 2  # a few slices are shown twice as large
_WINDOW = (1, 99.5)  # percentiles of what is shown that become black and white
_LANDSCAPE = 4 / 3
_LEAST_WIDTH = 300
_SWATCH = 9
Paint = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledSlices:
    """Slices and their labels, turned as they are displayed.

    Attributes
    ----------
    image_TSYX : real, finite; T is 1 for a volume.
    labels_TSYX : uint8.
    numbers : the number of each slice in its title.
    spacing : row and column spacing in mm.
    frame_time : s; None where unknown.
    directions : of the display, such as ``left R, top A``, or that none is known.
    marks : a word behind the number of each slice, such as ``drawn``; empty for none.
    """

    image_TSYX: NDArray[np.floating]
    labels_TSYX: NDArray[np.uint8]
    numbers: Sequence[int]
    spacing: tuple[float, float]
    frame_time: float | None = None
    directions: str = ""
    marks: Sequence[str] = ()


def labelled_slices(image: Image, labels: NDArray[np.uint8], order: SliceOrder) -> LabelledSlices:
    """Cut a volume or series and its labels into slices, turned for display.

    Parameters
    ----------
    image, labels : (x, y, z) or (x, y, z, t), of one shape.
    order : of the slices.
    """

    def displayed(array: Any) -> Any:
        frames = array[..., None] if array.ndim == 3 else array
        return np.stack([order.to_display(order.to_slices(frames[..., t])) for t in range(frames.shape[3])])

    numbers = order.numbers(image.shape[order.axes[0]])
    spacing, directions = (
        order.display_spacing(),
        order.display_directions() if knows_orientation(image) else NO_DIRECTIONS,
    )
    return LabelledSlices(displayed(image.array), displayed(labels), numbers, spacing, image.frame_time, directions)


def outlines_output(
    slices: LabelledSlices,
    labels: Sequence[Label],
    statistics: Sequence[LabelStatistics],
    target: Path,
    caption: str = "",
) -> Output:
    """Draw a PNG of the middle frame, or a GIF of all frames, by the suffix of the name.

    Up to 12 slices are shown: all if there are no more; else those with labels, evenly spread; else all, evenly spread.
    They are cropped to the labelled region where that is a small part of the slice, and the caption says so. Outlines
    are one pixel wide and lie within their label; the line between two labels is drawn once, for the one that it takes
    more of the way around. A label of a few voxels can fall between the pixels of a slice that is wider than its tile.

    Parameters
    ----------
    labels : their outlines are drawn and they are listed in the legend; other values are not shown.
    statistics : of each label in each frame of ``slices``, for the volumes in the legend.
    caption : first line on top of every picture; directions, cropping and "not for diagnostic use" follow it.

    Raises
    ------
    UsageError
        If the name ends neither in .png nor in .gif.
    """
    require_preview_name(target)
    count = slices.image_TSYX.shape[0]
    frames = [count // 2] if is_still(target) else list(range(count))
    known = np.zeros(256, np.uint8)
    known[[label.value for label in labels]] = [label.value for label in labels]
    labels_TSYX = known[slices.labels_TSYX[frames]]
    chosen, region = _chosen(labels_TSYX), region_around(np.asarray(labels_TSYX.any(axis=(0, 1))), slices.spacing)
    rows, columns = region or WHOLE
    montages = _montages(
        slices.image_TSYX[np.ix_(frames, chosen)][..., rows, columns],
        labels_TSYX[:, chosen, rows, columns],
        [_title(slices, index) for index in chosen],
        slices.spacing,
    )
    width = montages[0][0].shape[1]
    always = [slices.directions, "cropped to the labels" if region else "", "not for diagnostic use"]
    lines = [*wrapped(caption, width - 4), *wrapped("; ".join(part for part in always if part), width - 4)]
    volumes = {(row.value, row.frame): _millilitres(row.volume) for row in statistics}
    pitch = _pitch(labels, list(volumes.values()))
    pictures = []
    for frame, montage in zip(frames, montages, strict=True):
        legend = _legend(labels, [volumes[label.value, frame] for label in labels], pitch, width)
        middle = ", the middle one" if is_still(target) else ""
        texts = lines if count == 1 else [*lines, frame_line(frame, count, slices.frame_time) + middle]
        picture, paint = (np.vstack(layers) for layers in zip(legend, montage, strict=True))
        pictures.append(_captioned(texts, picture, paint))
    coloured = _true_colour if is_still(target) else _palette
    colours = {label.value: label.colour for label in labels}
    return Output(target, encoded([coloured(*picture, colours) for picture in pictures], target, slices.frame_time))


def _chosen(labels_TSYX: NDArray[np.uint8]) -> list[int]:
    """Slices to show, in their order."""
    count = labels_TSYX.shape[1]
    labelled = np.flatnonzero(labels_TSYX.any(axis=(0, 2, 3)))
    candidates = np.arange(count) if count <= _MOST_SLICES or not labelled.size else labelled
    spread = np.linspace(0, len(candidates) - 1, min(_MOST_SLICES, len(candidates))).round().astype(int)
    return [int(index) for index in candidates[spread]]


def _title(slices: LabelledSlices, index: int) -> str:
    """Title of a slice: its number, and its mark."""
    mark = slices.marks[index] if slices.marks else ""
    return f"slice {slices.numbers[index]}" + (f", {mark}" if mark else "")


def _montages(
    image_TSYX: NDArray[np.floating],
    labels_TSYX: NDArray[np.uint8],
    titles: Sequence[str],
    spacing: tuple[float, float],
) -> list[tuple[Grey, Paint]]:
    """Grey picture and outlines of each frame, in one grey scale."""
    black, white = np.percentile(image_TSYX, _WINDOW)
    grey_TSYX = grey(image_TSYX - black, float(white - black) or 1.0)
    size = tile_size(grey_TSYX.shape[2:], spacing, 1 if len(titles) > _FEW else 2)
    across = min(len(titles), max(1, round(math.sqrt(_LANDSCAPE * len(titles) * size[0] / size[1]))))
    owns = _owners(labels_TSYX)
    return [
        (
            _tiled([resized(tile, size) for tile in grey_SYX], titles, across),
            _tiled([_outline(tile, size, owns) for tile in labels_SYX], [""] * len(titles), across),
        )
        for grey_SYX, labels_SYX in zip(grey_TSYX, labels_TSYX, strict=True)
    ]


def _owners(labels_TSYX: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Table (256, 256): whether the line between the labels a and b is drawn in a.

    It is drawn in the label of whose boundary it is the larger share: a label within another keeps its colour. A label
    owns its line with the background.
    """
    pairs = np.zeros(256 * 256, np.int64)
    for one, other in (
        (labels_TSYX[..., 1:, :], labels_TSYX[..., :-1, :]),
        (labels_TSYX[..., 1:], labels_TSYX[..., :-1]),
    ):
        pairs += np.bincount((one.astype(np.int64) * 256 + other).ravel(), minlength=256 * 256)
    contacts = pairs.reshape(256, 256)
    contacts = contacts + contacts.T
    np.fill_diagonal(contacts, 0)
    share = contacts / np.maximum(1, contacts.sum(axis=1, keepdims=True))
    values = np.arange(256)
    owns: NDArray[np.bool_] = (share > share.T) | ((share == share.T) & (values[:, None] > values))
    owns[1:, 0], owns[0] = True, False
    return owns


def _outline(tile: NDArray[np.uint8], size: tuple[int, int], owns: NDArray[np.bool_]) -> Paint:
    """Pixels of each label above, below, left or right of which is a value whose common line it owns; see `_owners`.

    Beyond the border is background.
    """
    labels = resized(tile, size, PIL.Image.Resampling.NEAREST)
    around = np.pad(labels, 1)
    edge = np.zeros(labels.shape, bool)
    for neighbours in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
        edge |= owns[labels, neighbours]
    return np.where(edge, labels, 0).astype(np.uint8)


def _tiled(tiles: Sequence[Grey], titles: Sequence[str], across: int) -> Grey:
    """Set tiles in rows of ``across``, black where there is none, at least as wide as a legend needs."""
    missing = -len(tiles) % across
    tiles, titles = [*tiles, *[np.zeros_like(tiles[0])] * missing], [*titles, *[""] * missing]
    rows = [titled_row(tiles[n : n + across], titles[n : n + across]) for n in range(0, len(tiles), across)]
    picture = np.vstack(rows)
    return np.pad(picture, ((0, 0), (0, max(0, _LEAST_WIDTH - picture.shape[1]))))


def _millilitres(volume: float | None) -> str:
    """Volume in words; nothing where the size of a voxel is not known."""
    if volume is None:
        return ""
    return f"{volume:.1f} ml" if volume >= 1 else f"{volume:.2g} ml"


def _pitch(labels: Sequence[Label], volumes: Sequence[str]) -> int:
    """Width of an entry of the legend, the same in every frame."""
    name = max((text_width(label.name) for label in labels), default=0)
    volume = max((text_width(volume) for volume in volumes), default=0)
    return math.ceil(name + volume) + _SWATCH + 24


def _legend(labels: Sequence[Label], volumes: Sequence[str], pitch: int, width: int) -> tuple[Grey, Paint]:
    """Legend: swatch, name and volume of each label, in as many columns as fit; long names are cut."""
    across = max(1, width // pitch)
    shape = (-(-len(labels) // across) * STRIP_HEIGHT, width)
    picture, paint = PIL.Image.new("L", shape[::-1]), np.zeros(shape, np.uint8)
    draw = PIL.ImageDraw.Draw(picture)
    for index, (label, volume) in enumerate(zip(labels, volumes, strict=True)):
        top, left = index // across * STRIP_HEIGHT + 3, index % across * pitch + 3
        paint[top : top + _SWATCH, left : left + _SWATCH] = label.value
        room = min(pitch, width) - _SWATCH - 16 - text_width(volume)
        draw.text((left + _SWATCH + 5, top - 2), f"{fitting(label.name, room)}  {volume}", fill=255)
    return np.asarray(picture), paint


def _captioned(lines: Sequence[str], picture: Grey, paint: Paint) -> tuple[Grey, Paint]:
    for line in reversed(lines):
        picture = captioned(picture, line)
    return picture, np.pad(paint, ((picture.shape[0] - paint.shape[0], 0), (0, 0)))


def _true_colour(picture: Grey, paint: Paint, colours: dict[int, tuple[int, int, int]]) -> PIL.Image.Image:
    table = np.zeros((256, 3), np.uint8)
    for value, colour in colours.items():
        table[value] = colour
    return PIL.Image.fromarray(np.where(paint[..., None] > 0, table[paint], picture[..., None]))


def _palette(picture: Grey, paint: Paint, colours: dict[int, tuple[int, int, int]]) -> PIL.Image.Image:
    """Picture with a palette: the labels' colours exactly, and as many greys as they leave of 256."""
    greys = 256 - len(colours)
    entry = np.zeros(256, np.uint8)
    for number, value in enumerate(colours):
        entry[value] = greys + number
    levels = np.linspace(0, 255, greys).round().astype(np.uint8)
    index = np.where(paint > 0, entry[paint], (picture * ((greys - 1) / 255)).round()).astype(np.uint8)
    picture_of_indices = PIL.Image.fromarray(index)
    colour_values = (value for colour in colours.values() for value in colour)
    picture_of_indices.putpalette([*np.repeat(levels, 3).tolist(), *colour_values])
    return picture_of_indices

"""Which slices are drawn: those with labels, those said to be empty or fixed, and those changed since the last result.

Slices are counted from 1 along the axis of the array as stored, as of ``slices``.

Legend: T frame, S slice (in anatomical order), X, Y, Z as stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.labels.plausibility import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crnn_cli.data.geometry import SliceOrder
    from crnn_cli.data.image import Image
    from crnn_cli.labels.overlap import LabelMap
    from crnn_cli.segmentation.drawn.stack import Known
    from crnn_cli.workflows.segment.drawn.record import EarlierResult
    from crnn_cli.workflows.segment.drawn.request import DrawnRequest
    from crnn_cli.workflows.segment.drawn.source import DrawnLabels

_WHOLE = 0.5
"""Share of the slices of a frame from which on slices in a row are a drawn frame, in a series."""


@dataclass(frozen=True)
class DrawnSlices:
    """The slices that are drawn, and what is drawn in them.

    Attributes
    ----------
    order : of the slices.
    values_TSYX : label values, 0 in slices that are not drawn.
    known_TS : which slices are drawn; a drawn slice may be empty.
    numbers : of the slices, from 1 along the array axis.
    """

    order: SliceOrder
    values_TSYX: LabelMap
    known_TS: Known
    numbers: list[int]

    @property
    def values(self) -> list[int]:
        """Label values that are drawn, ascending."""
        return [int(value) for value in np.unique(self.values_TSYX) if value]


def choose_axis(
    drawn: DrawnLabels, image: Image, plane: str | None, whole_map: bool, earlier: EarlierResult | None = None
) -> SliceOrder:
    """Find the plane that was drawn in.

    Parameters
    ----------
    plane : that was asked for; None: found from the labels, else as the image is sliced.
    whole_map : the labels are a whole label map, which does not tell how it was drawn.
    earlier : the result that the labels were corrected from.

    Raises
    ------
    UnsupportedDataError
        If slices of two planes were drawn, the plane asked for is another one, or nothing tells which it is.
    """
    from crnn_cli.data.geometry import shortest_axis, slice_order, thickest_axis
    from crnn_cli.segmentation.drawn.plane import axis_unknown, drawn_axis, require_one_plane

    mask_XYZ = np.asarray((drawn.values_XYZT[..., list(drawn.frames)] > 0).any(axis=-1))
    if not whole_map:
        require_one_plane(mask_XYZ, drawn.name)
    if plane is not None:
        order = slice_order(image, plane)
        _require_asked(order, mask_XYZ, drawn.name, whole_map, earlier)
        return order
    found = earlier.axis if earlier is not None else None
    if found is None and not whole_map:
        found = drawn_axis(mask_XYZ, drawn.name)
    for find in (thickest_axis, shortest_axis):
        found = find(image) if found is None else found
    if found is None:
        raise axis_unknown(drawn.name)
    return slice_order(image, found)


def _require_asked(
    order: SliceOrder, mask_XYZ: NDArray[np.bool_], name: str, whole_map: bool, earlier: EarlierResult | None
) -> None:
    """Refuse a plane that was asked for where another one was drawn in, or the earlier result is of another one."""
    from crnn_cli.segmentation.drawn.plane import require_plane

    axis = order.axes[0]
    if earlier is not None and earlier.axis != axis:
        raise UnsupportedDataError(
            f"{name} was made in slices across the axis {'xyz'[earlier.axis]} of the array, as its report says, and ",
            Param("slices"), f" asks for slices across {'xyz'[axis]}",
            remedy=("leave ", Param("slices"), " out, or name the slices that are right with ", Param("fixed", "3,7")),
        )  # fmt: skip
    doubt = None if whole_map else require_plane(mask_XYZ, axis, name)
    if doubt is not None:
        notices.tell(doubt)


def find_drawn(
    drawn: DrawnLabels, order: SliceOrder, request: DrawnRequest, earlier: EarlierResult | None
) -> DrawnSlices:
    """Decide which slices are drawn.

    Parameters
    ----------
    earlier : the result that the labels were corrected from; None where there is none.

    Raises
    ------
    UsageError
        If a slice is named that there is not, or one that is said to be empty holds labels.
    UnsupportedDataError
        If no slice is drawn, or all are.
    """
    values_TSYX = np.stack([order.to_slices(drawn.values_XYZT[..., t]) for t in range(drawn.values_XYZT.shape[3])])
    count = values_TSYX.shape[1]
    numbers = order.numbers(count)
    occupied_TS = np.asarray(values_TSYX.any(axis=(2, 3)))
    here_T = np.isin(np.arange(len(values_TSYX)), drawn.frames)
    _require_slices(request, count)
    fixed, empty = (np.isin(numbers, sorted(given or ())) for given in (request.fixed, request.empty))
    _require_empty(np.asarray(occupied_TS[here_T].any(axis=0)) & empty, numbers)
    if request.fixed is not None:
        known_TS = here_T[:, None] & (fixed | empty)
    elif earlier is not None:
        known_TS = earlier.drawn_or_changed(drawn.values_XYZT, order) | (here_T[:, None] & empty)
    else:
        known_TS = here_T[:, None] & (occupied_TS | empty)
        known_TS = _with_whole_frames(known_TS)
        _note_gaps(known_TS, numbers)
    found = DrawnSlices(order, np.where(known_TS[..., None, None], values_TSYX, 0).astype(np.uint16), known_TS, numbers)
    _require_work(found, drawn)
    return found


def _require_slices(request: DrawnRequest, count: int) -> None:
    for name, given in (("empty", request.empty), ("fixed", request.fixed)):
        if given and max(given) > count:
            raise UsageError(Param(name), f": there is no slice {max(given)}; the stack has {count}")


def _require_empty(wrong_S: Known, numbers: list[int]) -> None:
    if wrong_S.any():
        listed = ", ".join(str(number) for number in sorted(np.array(numbers)[wrong_S]))
        raise UsageError(
            Param("empty"), f": slice {listed} holds labels", remedy=("name slices that were left empty on purpose",)
        )


def _with_whole_frames(known_TS: Known) -> Known:
    """Of a series, frames that are drawn in at least half of their slices, in a row: their other slices are empty."""
    if len(known_TS) == 1:
        return known_TS
    whole_TS, frames = known_TS.copy(), []
    for t, known_S in enumerate(known_TS):
        drawn = np.flatnonzero(known_S)
        if len(drawn) >= _WHOLE * len(known_S) and (np.diff(drawn) == 1).all() and not known_S.all():
            whole_TS[t] = True
            frames.append(t)
    if frames:
        text = f"{counted('frame', frames)}: at least half of the slices are drawn, without a gap, so the other slices"
        notices.note("frame-taken-as-whole", f"{text} are taken for empty: nothing is added to them")
    return whole_TS


def _note_gaps(known_TS: Known, numbers: list[int]) -> None:
    """Say where slices are empty between drawn ones, in a stack that is drawn nearly throughout."""
    gaps: dict[int, list[int]] = {}
    for t, known_S in enumerate(known_TS):
        alone = [s for s in range(1, len(known_S) - 1) if known_S[s - 1] and known_S[s + 1] and not known_S[s]]
        if alone and 3 * len(alone) < int(known_S.sum()):
            for s in alone:
                gaps.setdefault(numbers[s] - 1, []).append(t)
    if gaps:
        frames = sorted({t for found in gaps.values() for t in found})
        where = "" if len(known_TS) == 1 else f" ({counted('frame', frames)})"
        told = f"{counted('slice', sorted(gaps))}: empty between drawn ones{where}, and labelled from them"
        notices.warn("empty-slice-between-drawn", told)


def _require_work(found: DrawnSlices, drawn: DrawnLabels) -> None:
    """Refuse where nothing is drawn, or nothing is left to label; say what one slice is good for."""
    if not found.values:
        raise UnsupportedDataError(
            f"no slice of {drawn.name} that counts as drawn holds a label",
            remedy=("draw the structure in two or three slices, or name others with ", Param("fixed")),
        )
    if found.known_TS.all():
        raise UnsupportedDataError(
            f"every slice of {drawn.name} is drawn: nothing is left to label",
            remedy=(
                "name the slices that are right with ",
                Param("fixed", "3,7,12"),
                ", or use the labels as they are",
            ),
        )
    lost = sorted({int(v) for v in np.unique(drawn.values_XYZT) if v} - {*found.values})
    if lost:
        notices.warn(
            "label-not-drawn",
            f"label {', '.join(map(str, lost))} of {drawn.name} is in no slice that counts as drawn: it is left out",
        )
    full = found.values_TSYX.any(axis=(2, 3))
    if int(full.any(axis=0).sum()) == 1 and len(found.known_TS) == 1:
        notices.warn(
            "one-drawn-slice",
            "one slice is drawn: labels get worse with every slice away from it, and do not end by themselves; draw "
            "the first and the last slice of the structure too, or say which are empty",
        )


def on_image_grid(values_TSYX: NDArray[np.generic], order: SliceOrder, image: Image) -> NDArray[np.generic]:
    """An array (T, S, Y, X) with the axes of the image: (x, y, z) or (x, y, z, t)."""
    frames = [order.from_slices(values_SYX) for values_SYX in values_TSYX]
    return np.stack(frames, axis=-1) if image.array.ndim == 4 else frames[0]


def with_values(slices: DrawnSlices, values_TSYX: LabelMap) -> DrawnSlices:
    """Copy with other values, of the same slices."""
    return replace(slices, values_TSYX=values_TSYX)

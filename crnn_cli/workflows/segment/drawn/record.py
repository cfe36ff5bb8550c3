"""Record of the slices of a result, by which a corrected label map tells what was changed in it.

The report beside a label map holds, for each frame and slice, the first 16 digits of the sha256 of its labels, and
whether it was drawn. A slice of the map whose labels have another hash was corrected since; it counts as drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli import notices
from crnn_cli.errors import UnreadableError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.data.geometry import SliceOrder
    from crnn_cli.labels.overlap import LabelMap
    from crnn_cli.segmentation.drawn.stack import Known

_DIGITS = 16


@dataclass(frozen=True)
class EarlierResult:
    """What the report of an earlier result says of its slices; both lists by frame, then by slice as stored.

    Attributes
    ----------
    axis : array axis across the slices.
    drawn : whether a slice was drawn.
    hashes : of the labels of each slice.
    """

    axis: int
    drawn: list[list[bool]]
    hashes: list[list[str]]

    def drawn_or_changed(self, values_XYZT: LabelMap, order: SliceOrder) -> Known:
        """Which slices were drawn then, or have been changed since: (T, S) in anatomical order."""
        now = slice_hashes(values_XYZT, self.axis)
        changed = np.array(
            [[a != b for a, b in zip(*pair, strict=True)] for pair in zip(now, self.hashes, strict=True)]
        )
        known_TS: Known = np.array(self.drawn, bool) | changed
        listed = sorted({int(s) + 1 for s in np.flatnonzero(changed.any(axis=0))})
        text = f"slices changed since the last result: {', '.join(map(str, listed)) or 'none'}"
        notices.note("corrected-slices", f"{text}; they count as drawn, as do those that were drawn before")
        return known_TS[:, ::-1] if order.flips[0] else known_TS


def slice_hashes(values_XYZT: LabelMap, axis: int) -> list[list[str]]:
    """Hashes of the labels of each frame and slice, in the order of the array."""
    frames = np.moveaxis(values_XYZT, (3, axis), (0, 1)).astype("<u2")
    return [
        [hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()[:_DIGITS] for labels in slices]
        for slices in frames
    ]


def earlier_result(path: Path | None, shape: tuple[int, ...]) -> EarlierResult | None:
    """The result whose report lies beside a label map; None where there is none, or it is of another shape.

    Parameters
    ----------
    shape : (x, y, z, t) of the image.
    """
    from crnn_cli.report.sidecar import DAMAGE, read_sidecar, sidecar_path

    if path is None or path == STREAM or not sidecar_path(path).is_file():
        return None
    try:
        found = _of_report(read_sidecar(sidecar_path(path)))
    except (UnreadableError, *DAMAGE):
        return None
    right = all(
        len(each) == shape[3] and {*map(len, each)} == {shape[found.axis]} for each in (found.drawn, found.hashes)
    )
    return found if right else None


def _of_report(report: dict[str, Any]) -> EarlierResult:
    """What a report says; an error of `crnn_cli.report.sidecar.DAMAGE` where it says none."""
    record = report["drawn"]["record"]
    return EarlierResult(
        "xyz".index(report["slices"]["array_axis"]),
        [[bool(each) for each in frame] for frame in record["drawn"]],
        [[str(each) for each in frame] for frame in record["sha256"]],
    )

"""Report of labels from drawn slices: how far a slice is from a drawn one, how good it probably is, next.

Slices are counted from 1 along the array axis, frames from 0, as in all reports.

Legend: T frame, S slice (in anatomical order), K structure.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli.report.provenance import model_facts, tool_facts
from crnn_cli.segmentation.drawn.next_slice import distance_to_drawn, expected_wrong, next_to_draw
from crnn_cli.workflows.segment.drawn.record import slice_hashes
from crnn_cli.workflows.segment.drawn.result import DrawnResult, slices_asked_for

if TYPE_CHECKING:
    from crnn_cli.labels.statistics import LabelStatistics
    from crnn_cli.segmentation.drawn.stack import Certainty


def drawn_report(result: DrawnResult) -> dict[str, Any]:
    """Report of a label map that was made from drawn slices; see docs/reference/report-json.md."""
    volume, order, bundle = result.volume, result.slices.order, result.engine.bundle
    count = volume.image.shape[order.axes[0]]
    rows: dict[int, list[LabelStatistics]] = {label.value: [] for label in result.labels}
    for row in result.statistics:
        rows[row.value].append(row)
    model = {"model": None} if bundle is None else model_facts(bundle)
    return tool_facts() | model | {
        "slices": {
            "plane": order.plane, "array_axis": "xyz"[order.axes[0]], "spacing_mm": order.spacing[0],
            "in_stack": count, "first": volume.span.start + 1, "last": volume.span.stop,
        },
        "frames": volume.image.frames,
        "labels": [
            dataclasses.asdict(label) | {
                "voxels": [row.voxels for row in rows[label.value]],
                "volume_ml": [None if row.volume is None else round(row.volume, 4) for row in rows[label.value]],
                "predicted_dice": predicted_dice(result, number),
                "tuned": None if result.tuning is None else result.tuning.facts_of(number + 1),
            }
            for number, label in enumerate(result.labels)
        ],
        "no_volumes": volume.no_volumes,
        "drawn": drawn_facts(result),
    }  # fmt: skip


def drawn_facts(result: DrawnResult) -> dict[str, Any]:
    """What a report says of the drawn slices, and of those that were labelled from them."""
    known_TS = result.slices.known_TS
    by_number = np.argsort(result.slices.numbers)
    axis = result.slices.order.axes[0]
    values = result.values_XYZT
    series = values if values.ndim == 4 else values[..., None]
    return {
        "method": result.engine.fill,
        "slices": [entry for t in range(len(known_TS)) for entry in _slice_entries(result, t)],
        "next": next_facts(result),
        "expected_gain": expected_gain(result),
        "tuning": None if result.tuning is None else result.tuning.facts,
        "record": {
            "drawn": [[bool(each) for each in known_S[by_number]] for known_S in known_TS],
            "sha256": slice_hashes(series, axis),
        },
    }


def _slice_entries(result: DrawnResult, t: int) -> list[dict[str, Any]]:
    """An entry for each slice of a frame, in the order of the array."""
    known_S = result.slices.known_TS[t]
    certainty = None if result.filled.certainty is None else result.filled.certainty[t]
    away_S = distance_to_drawn(known_S) if known_S.any() else None
    spacing = result.slices.order.spacing[0]
    entries = []
    for s in np.argsort(result.slices.numbers):
        away = None if away_S is None else int(away_S[s])
        entries.append({
            "slice": result.slices.numbers[s], "frame": t, "drawn": bool(known_S[s]),
            "slices_to_drawn": away, "mm_to_drawn": None if away is None else round(away * spacing, 3),
            "predicted_dice": None if known_S[s] else result.predicted_dice(_of_slice(certainty, int(s))),
            "doubtful_voxels": None if certainty is None else round(float(certainty.doubtful_S[s]), 1),
            "interpolated": [] if certainty is None else _interpolated(result, certainty, int(s)),
        })  # fmt: skip
    return entries


def _interpolated(result: DrawnResult, certainty: Certainty, s: int) -> list[int]:
    """Values of the labels for which interpolated distances took the place of the network in a slice."""
    return [label.value for label, used in zip(result.labels, certainty.interpolated_SK[s], strict=True) if used]


def _of_slice(certainty: Certainty | None, s: int) -> float | None:
    """Expected Dice of all structures of a slice together, each by its size; None where there is none."""
    if certainty is None:
        return None
    inside, both = certainty.inside_SK[s].sum(), (certainty.size_SK[s] + certainty.total_SK[s]).sum()
    return None if both < 1 else float(2 * inside / both)


def predicted_dice(result: DrawnResult, number: int) -> list[float | None] | None:
    """Predicted Dice of a structure in each frame, over the slices that are not drawn; None without a curve.

    Parameters
    ----------
    number : of the structure, from 0.
    """
    given = result.engine.given
    if given is None or given.quality is None or result.filled.certainty is None:
        return None
    pairs = zip(result.filled.certainty, result.slices.known_TS, strict=True)
    return [result.predicted_dice(certainty.expected_dice(~known_S)[number]) for certainty, known_S in pairs]


def next_facts(result: DrawnResult) -> dict[str, Any] | None:
    """The slice to draw next, with its frame and what is in doubt in it; None where nothing is.

    First the frames of which some slices are drawn are to be completed; then it is another frame.
    """
    asked_S = slices_asked_for(result.volume, result.slices)
    known_TS, doubtful_TS = result.slices.known_TS, np.where(asked_S, doubtful_voxels(result), 0.0)
    size_TS = (result.filled.numbers_TSYX > 0).sum(axis=(2, 3))
    frames = [t for t in range(len(known_TS)) if known_TS[t].any() and size_TS[t][known_TS[t]].any()]
    frames = [t for t in frames if not known_TS[t][asked_S].all()]
    if frames:
        t = max(frames, key=lambda t: float(doubtful_TS[t].sum()))
        s = next_to_draw(expected_wrong(doubtful_TS[t], size_TS[t], known_TS[t]), known_TS[t], asked_S)
    else:
        followed = next_to_draw(doubtful_TS.sum(axis=1), np.asarray(known_TS.any(axis=1)))
        t, s = followed or 0, None if followed is None else int(doubtful_TS[followed].argmax())
    if s is None:
        return None
    return {"slice": result.slices.numbers[s], "frame": t, "doubtful_voxels": round(float(doubtful_TS[t, s]), 1)}


def doubtful_voxels(result: DrawnResult) -> Any:
    """Voxels of each frame and slice (T, S) that are in doubt.

    Where the method does not know, all its labelled voxels of slices that are not drawn stand for them.
    """
    if result.filled.certainty is not None:
        return np.stack([each.doubtful_S for each in result.filled.certainty])
    sizes_TS = (result.filled.numbers_TSYX > 0).sum(axis=(2, 3))
    return np.where(result.slices.known_TS, 0, sizes_TS).astype(np.float64)


def expected_gain(result: DrawnResult) -> dict[str, Any] | None:
    """By how much the model beats the methods without one, as measured on cases that it was not trained on."""
    given = result.engine.given
    if given is None or given.measured is None:
        return None
    measured = given.measured
    gains = {name: round(measured["dice"] - measured[name], 3) for name in ("nearest", "distances")}
    return {"dice_over": gains, "cases": int(measured["cases"])}

"""Report of one segmentation: what was labelled, how good it probably is, and what is implausible about it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from crnn_cli.report.provenance import model_facts, tool_facts
from crnn_cli.workflows.segment.quality import quality_facts
from crnn_cli.workflows.segment.result import LabelledVolume

if TYPE_CHECKING:
    from crnn_cli.labels.statistics import LabelStatistics


def segmentation_report(labelled: LabelledVolume) -> dict[str, Any]:
    """Report of a label map: tool, model, slices, and each label with its size.

    ``slices`` counts from 1 along the axis of the array as stored. Each label has ``voxels`` and ``volume_ml`` for each
    frame, the voxels that were removed as pieces far off or smaller, of all frames together, and its predicted Dice by
    frame. ``findings`` lists what is implausible about the labels.
    """
    volume = labelled.volume
    order, count = volume.order, volume.image.shape[volume.order.axes[0]]
    rows: dict[int, list[LabelStatistics]] = {label.value: [] for label in labelled.labels}
    for row in labelled.statistics:
        rows[row.value].append(row)
    return tool_facts() | model_facts(labelled.bundle) | {
        "slices": {
            "plane": order.plane, "array_axis": "xyz"[order.axes[0]], "spacing_mm": order.spacing[0],
            "in_stack": count, "first": volume.span.start + 1, "last": volume.span.stop,
        },
        "frames": volume.image.frames,
        "labels": [
            dataclasses.asdict(label) | {
                "voxels": [row.voxels for row in rows[label.value]],
                "volume_ml": [None if row.volume is None else round(row.volume, 4) for row in rows[label.value]],
                "removed_voxels": labelled.removed.get(label.value, 0),
                "predicted_dice": labelled.predicted_dice(label),
            }
            for label in labelled.labels
        ],
        "no_volumes": volume.no_volumes,
        "quality": quality_facts(labelled),
        "findings": [
            {"code": each.doubt.code, "text": each.doubt.text, "label": each.label, "frames": list(each.frames),
             "slices": list(each.slices)} for each in labelled.findings
        ],
    }  # fmt: skip

"""What `crnn segment` leaves behind: labels, a report beside them, probabilities, statistics, a picture, a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.notices import STREAM
from crnn_cli.report.provenance import provenance
from crnn_cli.report.sidecar import report_output

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.data.geometry import SliceOrder
    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.labels.names import Label
    from crnn_cli.labels.statistics import LabelStatistics
    from crnn_cli.segmentation.segment import Segmentation
    from crnn_cli.workflows.segment.paths import SegmentPaths

LABEL_INTENT = "label"


@dataclass(frozen=True)
class LabelledVolume:
    """A finished segmentation. part : the slices looked at. kept : the labels asked for. removed : voxels by value."""

    bundle: Bundle
    image: Image
    order: SliceOrder
    part: slice
    kept: Sequence[Label]
    result: Segmentation
    removed: dict[int, int] = field(default_factory=dict)

    def finished(self, keep_largest: bool) -> LabelledVolume:
        """Return the run with only the labels asked for, and of each only the largest piece, if that is asked."""
        import numpy as np

        from crnn_cli.labels.components import keep_largest as largest_only

        values = [label.value for label in self.kept]
        labels = np.where(np.isin(self.result.labels, values), self.result.labels, 0).astype(np.uint8)
        removed: dict[int, int] = {}
        if keep_largest:
            labels, removed = largest_only(labels, values)
        return replace(self, result=replace(self.result, labels=labels), removed=removed)

    def label_image(self) -> Image:
        """Return the label map."""
        return replace(self.image, array=self.result.labels)

    @cached_property
    def statistics(self) -> list[LabelStatistics]:
        """Return the figures of every label in every frame."""
        from crnn_cli.labels.statistics import label_statistics

        return label_statistics(self.label_image(), self.image, self.kept)


def report(run: LabelledVolume) -> dict[str, Any]:
    """Return what is known of a run."""
    import dataclasses

    order, count = run.order, run.image.shape[run.order.axes[0]]
    per_label: dict[int, list[Any]] = {label.value: [] for label in run.kept}
    for row in run.statistics:
        per_label[row.value].append(row)
    return provenance(run.bundle) | {
        "slices": {
            "plane": order.plane, "array_axis": "xyz"[order.axes[0]], "spacing_mm": order.spacing[0],
            "in_stack": count, "first": run.part.start + 1, "last": run.part.stop,
        },
        "frames": run.image.frames,
        "labels": [
            dataclasses.asdict(label) | {
                "voxels": [row.voxels for row in per_label[label.value]],
                "volume_ml": [round(row.volume, 4) for row in per_label[label.value]],
                "removed_voxels": run.removed.get(label.value, 0),
            }
            for label in run.kept
        ],
    }  # fmt: skip


def save(
    targets: SegmentPaths, run: LabelledVolume, report: dict[str, Any], series: Series | None, force: bool
) -> None:
    """Write everything together, or nothing; labels that go to standard output come last."""
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.io.nifti.image import image_output, write_stream
    from crnn_cli.report.label_table import statistics_output

    description = f"{report['tool']} {run.bundle.name}"
    outputs = _probability_outputs(targets.probability_names(run.kept), run, description)
    if targets.statistics is not None:
        outputs.append(statistics_output(run.statistics, targets.statistics))
    if targets.preview is not None:
        outputs.append(_picture(targets.preview, run))
    if targets.labels == STREAM:
        write_together(outputs, force)
        write_stream(run.label_image(), sys.stdout.buffer, description, LABEL_INTENT)
        return
    if targets.dicom:
        assert series is not None  # asked for before the work began
        report["output"], report["format"] = [str(path) for path in targets.segs], "DICOM SEG"
        maps = _segs(targets.labels, run, series)
    else:
        report["output"] = str(targets.labels)
        maps = [image_output(run.label_image(), targets.labels, description, LABEL_INTENT)]
    outputs = [*maps, *outputs]
    write_together([*outputs, report_output(targets.labels, report, outputs)], force)


def _segs(target: Path, run: LabelledVolume, series: Series) -> list[Output]:
    from crnn_cli.io.dicom.seg import Algorithm, seg_outputs

    for label in run.kept:
        if label.code is None:
            notices.warn(f"{label.name} has no code in the model's config.json: it is called an anatomical structure")
    algorithm = Algorithm(f"crnn {run.bundle.name}", {"weights sha256": run.bundle.sha256})
    return seg_outputs(run.label_image(), series, run.kept, algorithm, target)


def _probability_outputs(names: dict[int, Path], run: LabelledVolume, description: str) -> list[Output]:
    from crnn_cli.io.nifti.image import image_output

    found = run.result.probabilities
    if found is None:
        return []
    probability = f"{description} probability"
    return [image_output(replace(run.image, array=found[value]), name, probability) for value, name in names.items()]


def _picture(preview: Path, run: LabelledVolume) -> Output:
    from crnn_cli.report.label_montage import labelled_slices, outlines_output

    slices = labelled_slices(run.image, run.result.labels, run.order)
    return outlines_output(slices, run.kept, run.statistics, preview, f"crnn segment, {run.bundle.name}")

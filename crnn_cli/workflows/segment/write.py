"""Files of `crnn segment`: labels, the report beside them, probabilities, statistics, a picture."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crnn_cli import notices
from crnn_cli.notices import STREAM
from crnn_cli.report.provenance import command_facts
from crnn_cli.report.sidecar import report_output
from crnn_cli.workflows.segment.paths import SegmentPaths, seg_algorithm
from crnn_cli.workflows.segment.result import LabelledVolume, SegmentFileRun

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.labels.names import Label
    from crnn_cli.labels.statistics import LabelStatistics

LABEL_INTENT = "label"
_NIFTI, _SEG = "NIfTI", "DICOM SEG"


def save(run: SegmentFileRun, force: bool) -> dict[str, Any]:
    """Write everything together, or nothing; labels that go to standard output come last.

    Returns
    -------
    The report as written, with ``output`` (path, or a list of the paths of a SEG for each frame), ``output_format``
    and the command as it was typed, unless the run says another one, as that of a batch does. With labels on standard
    output no report is written, and it has no output.
    """
    labelled, paths = run.labelled, run.paths
    outputs = OutputsOfLabels(
        f"{run.report['tool']} {labelled.bundle.name}",
        lambda preview: _picture(preview, labelled),
        lambda: _seg_outputs(paths, labelled),
    )
    return save_labels(labelled, paths, outputs, command_facts() | run.report, force)


class WritableLabels(Protocol):
    """Labels however they were made: `LabelledVolume`, or those from drawn slices."""

    @property
    def labels(self) -> Sequence[Label]:
        """The structures."""
        ...

    @property
    def label_image(self) -> LabelImage:
        """The label map."""
        ...

    @property
    def statistics(self) -> Sequence[LabelStatistics]:
        """Voxels and volumes of each structure."""
        ...

    def probability_image(self, label: Label) -> Image | None:
        """Probabilities of a structure; None where they were not kept."""
        ...


@dataclass(frozen=True)
class OutputsOfLabels:
    """How labels are described, drawn, and made into DICOM SEG.

    Attributes
    ----------
    description : in the header of NIfTI files.
    picture : the preview under a name.
    segs : the files of a SEG.
    """

    description: str
    picture: Callable[[Path], Output]
    segs: Callable[[], list[Output]]


def save_labels(
    labelled: WritableLabels, paths: SegmentPaths, how: OutputsOfLabels, report: dict[str, Any], force: bool
) -> dict[str, Any]:
    """Write labels, the report and what else was asked for together, or nothing; see `save`.

    Parameters
    ----------
    report : without what the writing adds.
    """
    from crnn_cli.io.atomic_write import FolderOutput, write_together
    from crnn_cli.io.nifti.image import image_output, write_stream

    beside = _outputs_beside(labelled, paths, how)
    if paths.labels == STREAM:
        write_together(beside, force)
        write_stream(labelled.label_image, sys.stdout.buffer, how.description, LABEL_INTENT)
        return report
    if paths.dicom:
        written: dict[str, Any] = {"output": [str(path) for path in paths.segs], "output_format": _SEG}
        segs = how.segs()
        maps: list[Output | FolderOutput] = [*segs]
        if paths.folder is not None:
            maps = [FolderOutput(paths.folder, tuple(segs))]
    else:
        written = {"output": str(paths.labels), "output_format": _NIFTI}
        maps = [image_output(labelled.label_image, paths.labels, how.description, LABEL_INTENT)]
    report |= written | notices.recorded()
    outputs = [*maps, *beside]
    write_together([*outputs, report_output(paths.labels, report, outputs)], force)
    return report


def _outputs_beside(labelled: WritableLabels, paths: SegmentPaths, how: OutputsOfLabels) -> list[Output]:
    """Probabilities, statistics and picture, as far as they were asked for."""
    from crnn_cli.io.nifti.image import image_output
    from crnn_cli.report.label_table import statistics_output

    outputs = []
    names = paths.probability_names(labelled.labels)
    for label in labelled.labels if names else ():
        image = labelled.probability_image(label)
        if image is not None:
            outputs.append(image_output(image, names[label.value], f"{how.description} probability"))
    if paths.statistics is not None:
        outputs.append(statistics_output(labelled.statistics, paths.statistics))
    if paths.preview is not None:
        outputs.append(how.picture(paths.preview))
    return outputs


def _seg_outputs(paths: SegmentPaths, labelled: LabelledVolume) -> list[Output]:
    from crnn_cli.io.dicom.seg import seg_outputs

    for label in labelled.labels:
        if label.code is None:
            text = f"{label.name} has no code in the model's config.json: it is called an anatomical structure"
            notices.note("label-without-code", text)
    series = labelled.volume.series
    assert series is not None  # required before the work began
    algorithm = seg_algorithm(labelled.bundle)
    return seg_outputs(labelled.label_image, series, labelled.labels, algorithm, paths.seg_name, paths.form)


def _picture(preview: Path, labelled: LabelledVolume) -> Output:
    from crnn_cli.report.label_montage import labelled_slices, outlines_output

    volume = labelled.volume
    slices = labelled_slices(volume.image, labelled.result.labels, volume.order)
    title = f"crnn segment, {labelled.bundle.name}"
    return outlines_output(slices, labelled.labels, labelled.statistics, preview, title)

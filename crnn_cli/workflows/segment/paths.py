"""Where `crnn segment` puts what it makes, checked before the work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import require_apart, sidecar_path

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.labels.names import Label


@dataclass(frozen=True)
class SegmentPaths:
    """Where things go; None for what was not asked for.

    dicom : whether the labels become DICOM SEG. segs : its files, one for each frame, once the frames are known.
    """

    labels: Path
    probabilities: Path | None
    statistics: Path | None
    preview: Path | None
    dicom: bool = False
    segs: tuple[Path, ...] = ()

    def all(self, labels: Sequence[Label] = ()) -> list[Path]:
        """Return every file that is written; the probabilities, once the labels are known."""
        report = None if self.labels == STREAM else sidecar_path(self.labels)
        maps = [*self.segs] if self.segs else [self.labels]
        paths = [*maps, report, self.statistics, self.preview, *self.probability_names(labels).values()]
        return [path for path in paths if path is not None and path != STREAM]

    def probability_names(self, labels: Sequence[Label]) -> dict[int, Path]:
        """Return the file of each label's probabilities by value: P.nii.gz becomes P_left-ventricle.nii.gz."""
        if self.probabilities is None:
            return {}
        suffix = ".nii.gz" if self.probabilities.name.endswith(".nii.gz") else ".nii"
        stem = self.probabilities.name.removesuffix(suffix)
        words = {label.value: "".join(c if c.isalnum() else "-" for c in label.name.lower()) for label in labels}
        return {value: self.probabilities.with_name(f"{stem}_{word}{suffix}") for value, word in words.items()}

    def of_series(self, image: Image, series: Series | None) -> SegmentPaths:
        """Return the targets with the files of a SEG; UnsupportedDataError if the source is no DICOM, or uneven."""
        from crnn_cli.io.dicom.seg import require_even, seg_names

        if series is None:
            raise UnsupportedDataError(
                "a DICOM SEG needs a DICOM source: the patient and the study are copied from it; "
                "give -o NAME.nii.gz for the label map"
            )
        require_even(series)
        return replace(self, segs=tuple(seg_names(self.labels, image.frames)))


def _target(volume: Path, out: Path | None, format_name: str | None) -> tuple[Path, bool]:
    """Return where the labels go, and whether as DICOM."""
    if format_name not in (None, "nifti", "dicom"):
        raise UsageError(f"--format {format_name} is not known: use nifti or dicom")
    dicom = format_name == "dicom" or (format_name is None and out is not None and out.suffix.lower() == ".dcm")
    if out is None:
        from crnn_cli.io.formats import stem

        suffix = ".dcm" if dicom else ".nii.gz"
        out = STREAM if volume == STREAM else stem(volume).with_name(f"{stem(volume).name}_labels{suffix}")
    if dicom and out == STREAM:
        raise UsageError("a DICOM SEG cannot go to standard output: give -o NAME.dcm")
    if dicom and out.suffix.lower() != ".dcm":
        raise UsageError(f"-o {out}: a DICOM SEG is written to a name that ends in .dcm")
    return out, dicom


def plan(
    volume: Path, out: Path | None, format_name: str | None, others: tuple[Path | None, Path | None, Path | None],
    as_json: bool, force: bool,
) -> SegmentPaths:  # fmt: skip
    """Return where things go, after checking that the volume is there and that everything can be written.

    others : probabilities, statistics, preview.
    """
    from crnn_cli.io.atomic_write import require_pipe
    from crnn_cli.io.formats import NIFTI, require_output_name
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.label_table import require_statistics_name
    from crnn_cli.report.montage import require_preview_name

    require_readable(volume)
    labels, dicom = _target(volume, out, format_name)
    targets = SegmentPaths(labels, *others, dicom=dicom)
    if targets.labels == STREAM and as_json:
        raise UsageError("--json and labels cannot both go to standard output: give -o FILE")
    if targets.labels == STREAM:
        require_pipe()
    for path, require_name in (
        (None if dicom else targets.labels, lambda path: require_output_name(path, NIFTI)),
        (targets.probabilities, lambda path: require_output_name(path, NIFTI)),
        (targets.statistics, require_statistics_name),
        (targets.preview, require_preview_name),
    ):
        if path is not None and path != STREAM:
            require_name(path)
    require_writable_all(volume, targets.all(), force)
    return targets


def require_writable_all(volume: Path, paths: Sequence[Path], force: bool) -> None:
    """Raise unless every path can be written and none of them is the volume or named twice."""
    from crnn_cli.io.atomic_write import require_writable

    require_apart([volume], paths)
    for path in paths:
        require_writable(path, force)

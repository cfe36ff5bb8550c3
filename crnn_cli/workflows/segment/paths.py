"""Names of the files of `crnn segment`, checked before the work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import require_apart, require_report_writable, sidecar_path
from crnn_cli.workflows.segment.options import SegmentOptions

if TYPE_CHECKING:
    from crnn_cli.bundles.config import Bundle
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.seg import Algorithm, SegForm
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.labels.names import Label

_OTHER_FILES = (".nii", ".gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".json", ".csv", ".png", ".gif", ".zip", ".npy", ".h5")
"""Ends of names that nobody gives to a folder of DICOM."""


@dataclass(frozen=True)
class SegmentPaths:
    """Where the results go; None for those not asked for.

    Parameters
    ----------
    labels : the label map; of a DICOM SEG the name that those of several files are made from, or their folder.
    dicom : whether the labels become DICOM SEG.
    segs : its files, one for each frame unless ``form`` says otherwise; empty until the number of frames is known
        (`of_series`).
    form : what the SEG looks like; None where the labels do not become one.
    """

    labels: Path
    probabilities: Path | None
    statistics: Path | None
    preview: Path | None
    dicom: bool = False
    segs: tuple[Path, ...] = ()
    form: SegForm | None = None

    @property
    def folder(self) -> Path | None:
        """Folder of a DICOM SEG, replaced as a whole; None where its files have names of their own."""
        return self.labels if self.dicom and not _is_file_of_dicom(self.labels) else None

    @property
    def seg_name(self) -> Path:
        """Name that those of SEG files are made from: in a folder, that of the folder."""
        return self.labels if self.folder is None else self.folder / f"{self.folder.name}.dcm"

    def all(self, labels: Sequence[Label] = ()) -> list[Path]:
        """Every file or folder that is written; probabilities are among them once ``labels`` are given."""
        report = None if self.labels == STREAM else sidecar_path(self.labels)
        maps = [*self.segs] if self.segs and self.folder is None else [self.labels]
        paths = [*maps, report, self.statistics, self.preview, *self.probability_names(labels).values()]
        return [path for path in paths if path is not None and path != STREAM]

    def probability_names(self, labels: Sequence[Label]) -> dict[int, Path]:
        """File of each label's probabilities by label value; empty where they were not asked for.

        P.nii.gz becomes P_left-ventricle.nii.gz: the name in lower case, each character that is neither a letter nor a
        digit replaced by a hyphen.
        """
        if self.probabilities is None:
            return {}
        suffix = ".nii.gz" if self.probabilities.name.endswith(".nii.gz") else ".nii"
        stem = self.probabilities.name.removesuffix(suffix)
        words = {label.value: "".join(c if c.isalnum() else "-" for c in label.name.lower()) for label in labels}
        return {value: self.probabilities.with_name(f"{stem}_{word}{suffix}") for value, word in words.items()}

    def of_series(
        self, image: Image, series: Series | None, algorithm: Algorithm, labels: Sequence[Label]
    ) -> SegmentPaths:
        """Copy with the names of the SEG files; what a SEG cannot be made of is refused here, before the work.

        Parameters
        ----------
        algorithm, labels : what made the labels, and those that become segments.

        Raises
        ------
        UnsupportedDataError
            If the source is not DICOM, its slices are not evenly spaced, or its headers lack what a SEG refers to.
        """
        from crnn_cli.io.dicom.header_copy import check_headers, warn_of_repairs
        from crnn_cli.io.dicom.seg import require_seg, seg_names

        if series is None:
            raise UnsupportedDataError(
                "a DICOM SEG needs a DICOM source: the patient and the study are copied from it",
                remedy=("give ", Param("out", "NAME.nii.gz"), " for the label map"),
            )
        assert self.form is not None
        require_seg(series, labels, algorithm, self.form)
        warn_of_repairs(check_headers(series))
        return replace(self, segs=tuple(seg_names(self.seg_name, image.frames, self.form)))


def seg_algorithm(bundle: Bundle) -> Algorithm:
    """What a SEG says of the model that made it."""
    from crnn_cli.io.dicom.seg import Algorithm

    return Algorithm(f"crnn {bundle.name}", {"weights sha256": bundle.sha256})


def plan_paths(volume: Path, options: SegmentOptions, as_json: bool = False) -> SegmentPaths:
    """Name every output, after checking that the volume is there and that everything can be written.

    Parameters
    ----------
    volume : the file to be segmented.
    as_json : whether the report goes to standard output.

    Raises
    ------
    UsageError
        If a name does not fit its format, two outputs have one name, or labels and report both go to standard output.
    UnreadableError
        If the volume is missing.
    OutputError
        If an output exists and may not be replaced, or cannot be written.
    """
    from crnn_cli.bundles.store import require_new
    from crnn_cli.io.atomic_write import require_pipe
    from crnn_cli.io.formats import NIFTI, require_output_name
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.label_table import require_statistics_name
    from crnn_cli.report.montage import require_preview_name

    require_readable(volume)
    if options.drawn is not None:
        require_readable(options.drawn)
        if options.drawn == STREAM == volume:
            raise UsageError("either the volume or the drawn labels can come from standard input")
    labels, dicom = _label_path(volume, options.out, options.format_name)
    form = _seg_form(options, dicom)
    paths = SegmentPaths(labels, options.probabilities, options.statistics, options.preview, dicom=dicom, form=form)
    if labels == STREAM and as_json:
        raise UsageError(
            Param("as_json"), " and labels cannot both go to standard output", remedy=("give ", Param("out", "FILE"))
        )
    if labels == STREAM:
        require_pipe()
    for path, require_name in (
        (None if dicom else labels, lambda path: require_output_name(path, NIFTI)),
        (paths.probabilities, lambda path: require_output_name(path, NIFTI)),
        (paths.statistics, require_statistics_name),
        (paths.preview, require_preview_name),
    ):
        if path is not None and path != STREAM:
            require_name(path)
    if labels != STREAM:
        require_report_writable(labels, options.force)
    require_writable_all(volume, paths, options.force)
    require_apart([options.drawn], [*paths.all(), options.save_adapted])
    if options.save_adapted is not None:
        require_new(options.save_adapted, options.force)
    return paths


def _label_path(volume: Path, out: Path | None, format_name: str | None) -> tuple[Path, bool]:
    """Where the labels go, and whether as DICOM."""
    if format_name not in (None, "nifti", "dicom"):
        raise UsageError(Param("format_name", format_name), " is not known: use nifti or dicom")
    dicom = format_name == "dicom" or (format_name is None and out is not None and _is_file_of_dicom(out))
    if out is None:
        from crnn_cli.io.formats import stem

        suffix = ".dcm" if dicom else ".nii.gz"
        out = STREAM if volume == STREAM else stem(volume).with_name(f"{stem(volume).name}_labels{suffix}")
    if dicom and out == STREAM:
        raise UsageError("a DICOM SEG cannot go to standard output", remedy=("give ", Param("out", "NAME.dcm")))
    if dicom and out.suffix.lower() in _OTHER_FILES:
        raise UsageError(Param("out", str(out)), ": a DICOM SEG is written to a name that ends in .dcm, or to a folder")
    return out, dicom


def _is_file_of_dicom(path: Path) -> bool:
    return path.suffix.lower() == ".dcm"


def _seg_form(options: SegmentOptions, dicom: bool) -> SegForm | None:
    """What a SEG is to look like; None for NIfTI."""
    for name, asked in (("seg", options.seg), ("seg_whole_series", options.seg_whole_series)):
        if asked and not dicom:
            raise UsageError(
                Param(name),
                " is for a DICOM SEG, and the labels become NIfTI",
                remedy=("give ", Param("out", "NAME.dcm")),
            )
    if not dicom:
        return None
    from crnn_cli.io.dicom.seg import SEG_TYPES, SegForm

    seg_type = next((each for each in SEG_TYPES if each == (options.seg or "binary")), None)
    if seg_type is None:
        raise UsageError(Param("seg", options.seg), f" is not known: use {' or '.join(SEG_TYPES)}")
    return SegForm(seg_type, options.seg_whole_series)


def require_writable_all(volume: Path, paths: SegmentPaths, force: bool, labels: Sequence[Label] = ()) -> None:
    """Check that everything can be written.

    Parameters
    ----------
    labels : structures whose probabilities are written; see `SegmentPaths.all`.

    Raises
    ------
    UsageError
        If one of the outputs is the volume, or two are the same file.
    OutputError
        If one exists and not ``force``, or its folder is missing or read-only.
    """
    from crnn_cli.io.atomic_write import require_short, require_writable
    from crnn_cli.io.dicom.folder import require_folder

    outputs = paths.all(labels)
    require_apart([volume], outputs)
    for path in outputs:
        if path == paths.folder:
            require_short(path.with_name(f"{path.name}_0000.dcm"))  # the names of its files
            require_folder(path, force)
        else:
            require_writable(path, force)

"""Source of `crnn function`: a label map or a cine, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.workflows.function.options import FunctionOptions

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from crnn_cli.io.loaded_image import LoadedImage
    from crnn_cli.workflows.function.runs import Runs

_OF_TIME = ("no-frame-time", "unusual-frame-time")


@dataclass(frozen=True)
class FunctionSource:
    """A label map or a cine that was read from a file.

    Attributes
    ----------
    path : of the file, or `STREAM`.
    loaded : the label map or the cine.
    image : images of a label map, where they were given.
    runs : runs of the reconstruction that a cine is of, where they were given.
    """

    path: Path
    loaded: LoadedImage
    image: LoadedImage | None = None
    runs: Runs | None = None

    @property
    def name(self) -> str:
        """Name of the file, in messages."""
        return "standard input" if self.path == STREAM else str(self.path)

    @property
    def source(self) -> dict[str, Any]:
        """What the report says of the files."""
        images = {} if self.image is None else {f"image_{key}": value for key, value in self.image.source.items()}
        return {**self.loaded.source, **images, **({} if self.runs is None else self.runs.source)}


def read_source(path: Path, options: FunctionOptions) -> FunctionSource:
    """Read a label map or a cine, and the images of a label map, or the runs of a cine, where they are named.

    Parameters
    ----------
    path : NIfTI, DICOM (cine or SEG), or `STREAM`.

    Raises
    ------
    UsageError
        If images are named beside a cine, or runs beside a label map.
    CrnnError
        If a file cannot be read; of runs see `crnn_cli.workflows.function.runs.read_runs`.
    """
    from crnn_cli.cardiac.ventricles import PAIR
    from crnn_cli.io.images import load_image
    from crnn_cli.workflows.function.images import images_of_labels
    from crnn_cli.workflows.function.runs import read_runs
    from crnn_cli.workflows.function.structured_report import require_dicom
    from crnn_cli.workflows.label_scale import with_label_values

    loaded = load_image(path, None, options.series, slice_tolerance=options.slice_tolerance)
    loaded = with_label_values(loaded, options.labels is not None)
    source = FunctionSource(path, loaded)
    labelled = is_label_map(loaded, options)
    images = images_of_labels(path, options) if labelled else None
    times = images is not None and images.image.frame_time is not None
    times = times or loaded.image.frames == PAIR  # no number rests on them
    notices.tell(*(each for each in loaded.remarks() if not (times and each.code in _OF_TIME)))
    if options.sr is not None:
        require_dicom(loaded)
    if labelled:
        refuse_runs(options.runs is not None, source.name)
        return replace(source, image=images)
    if options.image is not None:
        raise UsageError(Param("image"), f" belongs to a label map, and {source.name} holds images itself")
    if options.runs is not None:
        return replace(source, runs=read_runs(options.runs, loaded.image, loaded.source.get("sha256")))
    return source


def refuse_runs(refused: bool, name: str) -> None:
    """Refuse runs of a reconstruction where there are labels already.

    Raises
    ------
    UsageError
        If ``refused``.
    """
    if refused:
        text = f" belongs to images, whose labels are made here, and {name} is a label map"
        raise UsageError(Param("runs"), text, remedy=("give the reconstructed images",))


def is_label_map(loaded: LoadedImage, options: FunctionOptions) -> bool:
    """Whether a file is a label map: it says so, its labels were named, or it holds few whole numbers as integers."""
    from crnn_cli.workflows import proposals

    return options.labels is not None or proposals.is_label_map(loaded)


def header_of(source: FunctionSource) -> Dataset | None:
    """Header of a DICOM source: the first of its images, or of its SEG objects; None of other formats."""
    series = source.loaded.series or (source.image.series if source.image else None)
    if series is not None:
        from crnn_cli.io.dicom.header_copy import first_header

        return first_header(series)
    if source.loaded.format == "DICOM SEG":
        from crnn_cli.io.dicom.seg_series import read_objects

        return read_objects(source.path, pixels=False)[0][0]
    return None

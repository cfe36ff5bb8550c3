"""Image or label map against a reference: the entry points for images in memory and for files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crnn_cli import notices
from crnn_cli.data.image import Image
from crnn_cli.errors import QualityError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import FORMAT
from crnn_cli.workflows.evaluate.images import measure_images
from crnn_cli.workflows.evaluate.labels import measure_labels
from crnn_cli.workflows.evaluate.options import EvaluateOptions, Kind
from crnn_cli.workflows.evaluate.pair import Candidate, Pair, make_pair, read_candidate, read_reference
from crnn_cli.workflows.evaluate.uncertainty import align_uncertainty, read_uncertainty


@dataclass(frozen=True)
class EvaluateFiles:
    """Files to be compared, and how they are read; ``-`` is standard input.

    Parameters
    ----------
    uncertainty : map that was written with the image, whose coverage is measured.
    axes, reference_axes : what the stored axes of NIfTI files are, such as "x,y,t".
    series, reference_series : number or UID of a DICOM series, where there are several.
    """

    image: Path
    reference: Path
    uncertainty: Path | None = None
    axes: str | None = None
    reference_axes: str | None = None
    series: str | None = None
    reference_series: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """Report of a comparison, and what was missed of the quality required.

    Parameters
    ----------
    report : as JSON says it; ``passed`` is None where no threshold was given.
    missed : one sentence for each threshold that was missed.
    title : names of both, for messages and tables.
    """

    report: dict[str, Any]
    missed: tuple[str, ...]
    title: str

    def require_passed(self) -> None:
        """Raise QualityError where a threshold was missed."""
        if self.missed:
            raise QualityError(f"{self.title}: {' and '.join(self.missed)}")


def evaluate_images(
    tested: Image | Path,
    reference: Image | Path,
    options: EvaluateOptions | None = None,
    *,
    uncertainty: Image | Path | None = None,
    names: tuple[str, str] = ("the image", "the reference"),
) -> Evaluation:
    """Compare two images, or two label maps, in memory or in files.

    A `LabelImage` is a label map; so is an image that holds few whole numbers stored as integers, unless
    ``options.kind`` says otherwise.

    Parameters
    ----------
    tested, reference : on one grid; axes stored in another order or direction are turned, nothing is resampled.
    uncertainty : standard deviation of each pixel of ``tested``; its coverage is measured.
    names : of the two, in messages and in the report.

    Raises
    ------
    UsageError
        If an option is for the other kind of data.
    UnsupportedDataError
        If they are not on one grid, only one is a label map, or voxels are NaN or infinite.
    """
    options = options or EvaluateOptions()
    candidates = [
        _candidate(source, name, options.kind) for source, name in zip((tested, reference), names, strict=True)
    ]
    pair = make_pair(candidates[0], candidates[1], options, uncertainty is not None)
    sigma = None if uncertainty is None else _candidate(uncertainty, "the uncertainty", "images")
    return _evaluate(pair, options, sigma)


def _candidate(source: Image | Path, name: str, kind: Kind) -> Candidate:
    """Candidate of an image in memory, or of a file, which may say of itself that it holds labels."""
    return Candidate.from_image(source, name) if isinstance(source, Image) else read_candidate(source, None, None, kind)


def evaluate_files(files: EvaluateFiles, options: EvaluateOptions) -> Evaluation:
    """Compare two files; see `evaluate_images`.

    Raises
    ------
    UsageError
        If standard input is named twice, or an option is for the other kind of data.
    CrnnError
        As in `evaluate_images` and `crnn_cli.io.images.load_image`.
    """
    if [files.image, files.reference, files.uncertainty].count(STREAM) > 1:
        raise UsageError("image and reference cannot both be standard input, nor one and the uncertainty: name them")
    tested = read_candidate(files.image, files.axes, files.series, options.kind)
    reference = read_reference(files.reference, files.reference_axes, files.reference_series, files.axes, options.kind)
    pair = make_pair(tested, reference, options, files.uncertainty is not None)
    sigma = None if files.uncertainty is None else read_uncertainty(files.uncertainty, files.axes)
    return _evaluate(pair, options, sigma)


def _evaluate(pair: Pair, options: EvaluateOptions, sigma: Candidate | None) -> Evaluation:
    if pair.labels:
        measured, missed = measure_labels(pair, options)
    else:
        uncertainty = None if sigma is None else align_uncertainty(sigma, pair.tested.image)
        measured, missed = measure_images(pair, options, uncertainty)
    return Evaluation({"format": FORMAT} | pair.facts() | measured | notices.recorded(), tuple(missed), pair.title)

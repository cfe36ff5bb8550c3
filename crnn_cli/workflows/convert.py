"""An image from the format it is in to NIfTI or DICOM, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli import notices
from crnn_cli.errors import OutputError, Param, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import require_apart, require_report_writable, sidecar_path

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.header_copy import Header
    from crnn_cli.io.dicom.image_kinds import ImageKind
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.io.images import LoadedImage


@dataclass(frozen=True)
class ConvertOptions:
    """How an image is read and written; see the help of `crnn convert`.

    slice_tolerance : in mm. reference_dicom : whose patient and study a DICOM series belongs to. bids : whether a
    sidecar is written beside NIfTI.
    """

    axes: str | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    reference_dicom: Path | None = None
    reference_series: str | None = None
    modality: str | None = None
    bids: bool = False
    force: bool = False


def convert_image(source: Path, target: Path, options: ConvertOptions | None = None) -> str:
    """Read an image and write it as NIfTI, or as a folder of DICOM images where the target has no suffix.

    Returns
    -------
    str
        What was written, in a line.

    Raises
    ------
    CrnnError
        If the image cannot be read, does not fit into the format, or the target cannot be written.
    """
    options = options or ConvertOptions()
    folder = is_folder_name(target)
    _plan(source, target, options, folder)
    from crnn_cli.io.images import load_image

    loaded = load_image(
        source, options.axes, options.series, slice_tolerance=options.slice_tolerance, keep_type=True
    )  # fmt: skip
    notices.tell(*loaded.remarks())
    return _to_dicom(loaded, target, options) if folder else _to_nifti(loaded, target, options.bids)


def is_folder_name(target: Path) -> bool:
    """Whether a target is a folder of DICOM images: a name without a suffix."""
    from crnn_cli.io.formats import DICOM

    return DICOM.is_output_name(target)


def _plan(source: Path, target: Path, options: ConvertOptions, folder: bool) -> None:
    """Check names and places before anything is read."""
    from crnn_cli.io.atomic_write import require_pipe, require_writable
    from crnn_cli.io.dicom.folder import require_folder
    from crnn_cli.io.formats import NIFTI, require_output_name
    from crnn_cli.io.images import require_readable

    require_readable(source)
    reference = options.reference_dicom
    if options.bids and (folder or target == STREAM):
        raise UsageError(Param("bids"), f" writes a file beside NIfTI, and {target} is none: give NAME.nii.gz")
    if not folder:
        if target != STREAM:
            require_output_name(target, NIFTI)
        for name in ("reference_dicom", "reference_series", "modality"):
            if getattr(options, name) is not None:
                raise UsageError(
                    Param(name), f" is for DICOM, and {target} is NIfTI: a name without suffix is a DICOM folder"
                )
    if reference is not None:
        require_readable(reference)
    if target == STREAM:
        require_pipe()
        return
    require_apart([source, reference], [target])
    if options.bids:
        require_report_writable(target, options.force)
    (require_folder if folder else require_writable)(target, options.force)


def _to_nifti(loaded: LoadedImage, target: Path, bids: bool) -> str:
    from crnn_cli.io.atomic_write import Output, write_together
    from crnn_cli.io.nifti.image import image_output, write_stream
    from crnn_cli.io.nifti.intent import LABELS
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.workflows.bids_sidecar import bids_sidecar

    image, intent = loaded.image, "label" if loaded.intent == LABELS else "none"
    count, first = image.not_finite()
    if count:
        notices.warn("not-finite", f"{count} voxels are NaN or infinite, the first at {first}: they stay as they are")

    if target == STREAM:
        import sys

        if sys.stdout is None:
            raise OutputError("standard output is closed: give a file name")
        write_stream(image, sys.stdout.buffer, "crnn convert", intent)
    else:
        names = image.labels if isinstance(image, LabelImage) else ()
        outputs = [image_output(image, target, "crnn convert", intent, names)]
        if bids:
            text = json.dumps(bids_sidecar(loaded), indent=2) + "\n"
            outputs.append(Output(sidecar_path(target), text.encode()))
        write_together(outputs)
    return f"{target}: {' x '.join(map(str, image.shape))}, {image.array.dtype}"


def _to_dicom(loaded: LoadedImage, target: Path, options: ConvertOptions) -> str:
    """Write a DICOM series, on the grid of its reference where the image lies on that, else by its own affine."""
    from crnn_cli.data.geometry import require_perpendicular
    from crnn_cli.io.dicom.write import About, rescales_of, write_series
    from crnn_cli.io.nifti.intent import LABELS

    if loaded.intent == LABELS:
        raise UnsupportedDataError(
            f"{loaded.source['file']} holds labels, and labels are written as NIfTI",
            remedy=("give a target that ends in .nii.gz; a DICOM SEG is made by segment",),
        )
    image = loaded.image.with_stated_spacing()
    require_perpendicular(image.affine, loaded.source["file"])
    reference, place = _reference(loaded, options)
    kind = _kind(reference, options.modality)
    image, header = _headers(image, reference, place)
    about = About(
        f"{reference.description[:44] if reference else ''} crnn convert".strip(),
        f"converted from {loaded.source.get('format', 'NIfTI')}",
        kind,
        ((reference.series_number if reference else 0) or 0) + 1000,
        ("DERIVED", "SECONDARY", "OTHER"),
        rescales_of(reference) if reference else (),
    )
    pixels = write_series(image, header, about, target, options.force)
    how = "to the last bit" if pixels.exact else f"in steps of {pixels.slope:.4g}"
    return f"{target}: {' x '.join(map(str, image.shape))}, {kind.modality}, values kept {how}"


def _headers(image: Image, reference: Series | None, place: str) -> tuple[Image, Header]:
    """Image on the grid of its reference where it lies on that, and the headers of its slices and frames."""
    from crnn_cli.data.alignment import reorient_to
    from crnn_cli.io.dicom.header_copy import (
        check_headers,
        copy_headers,
        first_header,
        place_headers,
        warn_of_repairs,
    )
    from crnn_cli.io.dicom.header_repair import Repairs

    if reference is None:
        notices.note(
            "no-reference-dicom", "no reference DICOM was given: the patient is left empty, and the study is new"
        )
        return image, place_headers(image, None)
    shape = (reference.size[1], reference.size[0], reference.slices, reference.frames)
    assert reference.affine is not None
    fitting = reorient_to(image, reference.affine, shape)
    if fitting is not None:
        warn_of_repairs(check_headers(reference))
        return fitting, copy_headers(reference)
    notices.warn(
        "not-on-reference-grid",
        f"the image is not on the grid of {place}: only the patient and the study are taken from there",
    )
    repairs = Repairs()
    header = place_headers(image, first_header(reference), repairs)
    warn_of_repairs(repairs)
    return image, header


def _reference(loaded: LoadedImage, options: ConvertOptions) -> tuple[Series | None, str]:
    """The series that patient and study are taken from, if any, and the name of its place."""
    from crnn_cli.io.dicom.choice import choose_series
    from crnn_cli.io.dicom.read import list_series
    from crnn_cli.io.formats import is_dicom

    place = options.reference_dicom
    if place is None:
        if options.reference_series is not None:
            raise UsageError(
                Param("reference_series"), " chooses a series of ", Param("reference_dicom"), ", which was not given"
            )
        return loaded.series, loaded.source["file"]
    if not is_dicom(place):
        raise UsageError(Param("reference_dicom", str(place)), " is not DICOM")
    return choose_series(list_series(place), options.reference_series, place), str(place)


def _kind(reference: Series | None, asked: str | None) -> ImageKind:
    """Kind of the images of the new series: that of the reference, or the modality asked for."""
    from crnn_cli.io.dicom.header_copy import kind_of
    from crnn_cli.io.dicom.image_kinds import WRITTEN_MODALITIES, kind_of_modality

    if reference is not None and asked is not None:
        raise UsageError(
            Param("modality"), " is for NIfTI without ", Param("reference_dicom"), ": a DICOM series has its own"
        )
    if asked is not None and asked not in WRITTEN_MODALITIES:
        raise UsageError(Param("modality", asked), f" is not known: use {', '.join(WRITTEN_MODALITIES)}")
    return kind_of_modality(asked or "MR") if reference is None else kind_of(reference)

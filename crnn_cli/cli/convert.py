"""``crnn convert``: an image from the format it is in to NIfTI or DICOM, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.options import SeriesChoice, SliceTolerance
from crnn_cli.errors import UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import require_apart

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.io.images import LoadedImage

Source = Annotated[Path, typer.Argument(help="A DICOM folder, zip or file; or NIfTI, - for standard input.")]
Target = Annotated[Path, typer.Argument(help="NAME.nii or .nii.gz, - for standard output; a name without: a folder.")]
Axes = Annotated[str | None, typer.Option(help="What the stored axes of a NIfTI file are, such as x,y,t.")]
Like = Annotated[Path | None, typer.Option(help="DICOM whose patient, study, places and times the new series takes.")]
LikeSeries = Annotated[str | None, typer.Option(help="Of --like: its number, or its UID.")]
Modality = Annotated[str | None, typer.Option(help="Of a DICOM series without --like: MR (default) or CT.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]


def convert(
    source: Source,
    target: Target,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    axes: Axes = None,
    like: Like = None,
    like_series: LikeSeries = None,
    modality: Modality = None,
    force: Force = False,
) -> None:
    """Convert an image to NIfTI (x, y, z, t), or to a folder of DICOM images: values, place and times as they are.

    A DICOM series belongs to a patient and a study: --like names the DICOM that they are copied from. On the same grid,
    every image also gets the place, the times and the scan parameters of its original. Without --like the patient is
    left empty and the study is new. Values that are integers of 16 bits, or were under the rescale of --like, are kept
    to the last bit; others are stored in 65,536 steps.

    Examples: crnn convert DICOM_FOLDER cine.nii.gz; crnn convert DICOM_FOLDER t1.nii.gz --series 3;
    crnn convert filtered.nii.gz out_folder --like DICOM_FOLDER
    """
    from crnn_cli.io.images import load_image, require_readable
    from crnn_cli.io.nifti.image import require_nifti_name

    require_readable(source)
    folder = target != STREAM and "." not in target.name
    if not folder:
        if target != STREAM:
            require_nifti_name(target)
        for option, value in (("--like", like), ("--like-series", like_series), ("--modality", modality)):
            if value is not None:
                raise UsageError(
                    f"{option} is for DICOM, and {target} is NIfTI: a name without suffix is a DICOM folder"
                )
    _plan(source, target, like, folder, force)
    found = load_image(source, axes, series, uneven=slice_tolerance)
    for doubt in found.doubts():
        notices.warn(doubt)
    if folder:
        _to_dicom(found, target, like, like_series, modality, force)
    else:
        _to_nifti(found.image, target)


def _plan(source: Path, target: Path, like: Path | None, folder: bool, force: bool) -> None:
    from crnn_cli.io.atomic_write import require_writable
    from crnn_cli.io.dicom.folder import require_folder
    from crnn_cli.io.images import require_readable

    if like is not None:
        require_readable(like)
    if target == STREAM:
        from crnn_cli.io.atomic_write import require_pipe

        require_pipe()
        return
    require_apart([source, like], [target])
    (require_folder if folder else require_writable)(target, force)


def _to_nifti(image: Image, target: Path) -> None:
    from crnn_cli.io.nifti.image import write_image, write_stream

    if target == STREAM:
        import sys

        if sys.stdout is None:
            raise UsageError("standard output is closed: give a file name")
        write_stream(image, sys.stdout.buffer, "crnn convert")
        return
    write_image(image, target, "crnn convert")
    console.say(f"wrote {target}: {' x '.join(map(str, image.shape))}, {image.array.dtype}")


def _to_dicom(
    found: LoadedImage, target: Path, like: Path | None, like_series: str | None, modality: str | None, force: bool
) -> None:
    """Write a DICOM series, on the grid of its model where the image lies on that, else by its own affine."""
    from crnn_cli.data.alignment import reorient_to
    from crnn_cli.data.geometry import require_perpendicular
    from crnn_cli.io.dicom.header_copy import copy_headers, first_header, place_headers
    from crnn_cli.io.dicom.write import About, rescales_of, write_series

    image, name = found.image, found.source["file"]
    require_perpendicular(image.affine, name)
    model, place = _model(found, like, like_series)
    kind = _modality(model, modality)
    if model is None:
        header = place_headers(image, None)
        console.say("there is no --like: the patient is left empty, and the study is new")
    else:
        shape = (model.size[1], model.size[0], model.slices, model.frames)
        assert model.affine is not None
        fitting = reorient_to(image, model.affine, shape)
        header = place_headers(image, first_header(model)) if fitting is None else copy_headers(model)
        if fitting is None:
            notices.warn(
                f"the image is not on the grid of {place}: only the patient and the study are taken from there"
            )
        image = fitting or image
    about = About(
        f"{model.description[:44] if model else ''} crnn convert".strip(),
        f"converted from {found.source.get('format', 'NIfTI')}",
        kind,
        ((model.series_number if model else 0) or 0) + 1000,
        ("DERIVED", "SECONDARY", "OTHER"),
        rescales_of(model) if model else (),
    )
    made = write_series(image, header, about, target, force)
    how = "to the last bit" if made.exact else f"in steps of {made.slope:.4g}"
    console.say(f"wrote {target}: {' x '.join(map(str, image.shape))}, {kind}, values kept {how}")


def _model(found: LoadedImage, like: Path | None, like_series: str | None) -> tuple[Series | None, str]:
    """Return the series that patient and study are taken from, if any, and the name of its place."""
    from crnn_cli.io.dicom.read import choose_series, list_series
    from crnn_cli.io.images import is_dicom

    if like is None:
        if like_series is not None:
            raise UsageError("--like-series chooses a series of --like, which was not given")
        return found.series, found.source["file"]
    if not is_dicom(like):
        raise UsageError(f"--like {like} is not DICOM")
    return choose_series(list_series(like), like_series, like), str(like)


def _modality(model: Series | None, asked: str | None) -> str:
    from crnn_cli.errors import UnsupportedDataError
    from crnn_cli.io.dicom.header_copy import MODALITIES

    if model is not None and model.modality not in MODALITIES:
        raise UnsupportedDataError(
            f"the series is of modality {model.modality}; {' and '.join(MODALITIES)} are written"
        )
    if model is not None and asked is not None:
        raise UsageError("--modality is for NIfTI without --like: a DICOM series has a modality of its own")
    if asked is not None and asked not in MODALITIES:
        raise UsageError(f"--modality {asked} is not known: use {' or '.join(MODALITIES)}")
    return model.modality if model is not None else asked or "MR"

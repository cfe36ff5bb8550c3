"""``crnn report``: the page of an earlier reconstruction, from its images and the report beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.errors import CrnnError, UnreadableError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.provenance import input_facts, slice_label
from crnn_cli.report.sidecar import require_apart, sidecar_path

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.report.html import Picture

ImagesFile = Annotated[Path, typer.Argument(help="Images that crnn reconstruct wrote: NIfTI, or a DICOM folder.")]
Out = Annotated[
    Path | None, typer.Option("--out", "--output", "-o", help="The page, .html; beside the images by default.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a page that exists.")]


def report(images: ImagesFile, out: Out = None, force: Force = False) -> None:
    """Make the page of an earlier reconstruction again, from its images and the report beside them.

    The images must be those that the report was written for. What needs the k-space is left out, and the page says so:
    the zero-filled images, and the map of what the data do not determine.

    Example: crnn report images.nii.gz -o images.html
    """
    from crnn_cli.io.atomic_write import require_writable, write_together
    from crnn_cli.io.images import require_readable, stem
    from crnn_cli.report.html import require_page_name
    from crnn_cli.report.reconstruction_page import reconstruction_page

    if images == STREAM:
        raise UsageError("a report lies beside a file: name the images")
    require_readable(images)
    target = stem(images).with_name(f"{stem(images).name}.html") if out is None else out
    require_page_name(target)
    require_apart([images, sidecar_path(images)], [target])
    require_writable(target, force)
    found = _read_report(images)
    image, notes = _read_images(images, found)
    notes += _about_input(found)
    notes.append("Made again from images and report: zero-filled images and the map of what the data do not determine "
                 "need the k-space and are left out.")  # fmt: skip
    try:
        page = reconstruction_page(target, found, [_picture(image, found)], notes)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UnreadableError(
            f"{sidecar_path(images)} does not say what a report of crnn reconstruct says ({type(error).__name__}: {error}): "
            "reconstruct again, with --report"
        ) from None
    write_together([page], force)
    for note in notes[:-1]:
        notices.warn(note)
    console.say(f"written: {target}")


def _read_report(images: Path) -> dict[str, Any]:
    """Return the report beside images, which names them."""
    place = sidecar_path(images)
    try:
        found = json.loads(place.read_bytes())
    except FileNotFoundError:
        raise UnreadableError(
            f"{place} does not exist: a report lies beside the images under this name; was one of both moved?"
        ) from None
    except OSError as error:
        raise UnreadableError(f"{place} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UnreadableError(f"{place} is not JSON: it is no report of crnn reconstruct, or was damaged") from None
    if not isinstance(found, dict) or not {"tool", "acceleration", "residual", "input"} <= set(found):
        raise UnreadableError(f"{place} is no report of crnn reconstruct: name images that it wrote")
    named = Path(str(found.get("output"))).name
    if named != images.resolve().name and named != images.name:
        raise UnreadableError(f"{place} is the report of {named}, not of {images.name}")
    return found


def _read_images(images: Path, found: dict[str, Any]) -> tuple[Image, list[str]]:
    """Return images that are those of the report, and what could not be made sure of."""
    from crnn_cli.io.images import load_image

    made = load_image(images)
    if "output_sha256" not in found:
        older = f"The report is of an older version ({found['tool']}), which kept no hash of the images: they may have "
        return made.image, [f"{older}changed since."]
    if found["output_sha256"] != made.source["sha256"]:
        raise UnreadableError(
            f"{images} is not what the report was written for: its sha256 is {made.source['sha256'][:12]}..., that in "
            f"{sidecar_path(images)} is {str(found['output_sha256'])[:12]}...; it was changed or replaced since"
        )
    return made.image, []


def _about_input(found: dict[str, Any]) -> list[str]:
    """Return what is to be said if the input is not where and what it was."""
    from crnn_cli.io.atomic_write import digest
    from crnn_cli.io.images import is_dicom, load_image

    source = input_facts(found)
    place = Path(str(source.get("file")))
    if place == STREAM:
        return ["The input came from standard input and cannot be looked at again."]
    if not place.exists():
        return [f"The input, {place}, is not there any more, or was named from another folder."]
    try:
        uneven = float(source["uneven_mm"]) if "uneven_mm" in source else None
        dicom = is_dicom(place)
        now = load_image(place, None, source.get("series"), uneven=uneven).source["sha256"] if dicom else digest(place)
    except CrnnError as reason:
        return [f"The input, {place}, could not be looked at again: {reason}"]
    return [] if now == source.get("sha256") else [f"The input, {place}, is not what it was: its sha256 has changed."]


def _picture(image: Image, found: dict[str, Any]) -> Picture:
    import numpy as np

    from crnn_cli.data.geometry import displayed_directions, displayed_slice
    from crnn_cli.report.html import Picture
    from crnn_cli.report.montage import Panel, still_picture

    z = image.shape[2] // 2
    panel = Panel(f"{found['method']['name']} {found['acceleration']:.1f}x", np.abs(displayed_slice(image, z)))
    simulated = "SIMULATED scan, " if "SIMULATED" in found["origin"] else ""
    which = slice_label(input_facts(found), z, image.shape[2])
    caption = f"{simulated}{which}, not for diagnostic use, {displayed_directions(image)}"
    return Picture(
        still_picture([panel], (image.spacing[1], image.spacing[0]), caption), "Frames, and one column over time."
    )

"""``crnn report``: the page of an earlier reconstruction, from its images and the report beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.errors import CrnnError, Param, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.provenance import input_facts, slice_label
from crnn_cli.report.sidecar import DAMAGE, read_sidecar, require_apart, sidecar_path

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.report.page.html import Picture

ImagesFile = Annotated[Path, typer.Argument(help="Images that crnn reconstruct wrote: NIfTI, or a DICOM folder.")]
Out = Annotated[
    Path | None, typer.Option("--out", "--output", "-o", help="The page, .html; beside the images by default.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a page that exists.")]

_MOST_FILES = 20_000
"""Files of a study at most; a folder with more is not read again, whatever a report says."""
_LEFT_OUT = (
    "Made again from images and report: zero-filled images and the map of what the data do not determine need the "
    "k-space and are left out."
)


def report(images: ImagesFile, out: Out = None, force: Force = False) -> None:
    """Make the page of an earlier reconstruction again, from its images and the report beside them.

    The images must be those that the report was written for. What needs the k-space is left out, and the page says so:
    the zero-filled images, and the map of what the data do not determine.

    Example: crnn report images.nii.gz -o images.html
    """
    from crnn_cli.io.atomic_write import require_writable, write_together
    from crnn_cli.io.formats import stem
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.page.html import require_page_name
    from crnn_cli.report.reconstruction_page import reconstruction_page

    if images == STREAM:
        raise UsageError("a report lies beside a file: name the images")
    require_readable(images)
    target = stem(images).with_name(f"{stem(images).name}.html") if out is None else out
    require_page_name(target)
    require_apart([images, sidecar_path(images)], [target])
    require_writable(target, force)
    facts = _read_report(images)
    try:
        image, notes = _read_images(images, facts)
        notes += [*_input_notes(facts), _LEFT_OUT]
        page = reconstruction_page(target, facts, image, [_picture(image, facts)], notes)
    except DAMAGE as error:
        raise UnreadableError(
            f"{sidecar_path(images)} does not say what a report of crnn reconstruct says "
            f"({type(error).__name__}: {str(error)[:200]})",
            remedy=("reconstruct again, with ", Param("report")),
        ) from None
    write_together([page], force)
    for note in notes[:-1]:
        notices.warn("input-changed", note)
    console.say(f"written: {target}")


def _read_report(images: Path) -> dict[str, Any]:
    """Read the report beside images, of any format; it must name them."""
    path = sidecar_path(images)
    report = read_sidecar(path)
    if "stream" in report:
        raise UnsupportedDataError(f"{path} is the report of a stream, for which there is no page")
    if not {"tool", "acceleration", "reliability", "input"} <= set(report):
        raise UnreadableError(f"{path} is no report of crnn reconstruct", remedy=("name images that it wrote",))
    output = report.get("output")
    named = Path(output).name if isinstance(output, str) else "nothing"
    if named != images.resolve().name and named != images.name:
        raise UnreadableError(f"{path} is the report of {named}, not of {images.name}")
    return report


def _read_images(images: Path, report: dict[str, Any]) -> tuple[Image, list[str]]:
    """Read images, check that they are those of the report, and note what cannot be checked."""
    from crnn_cli.io.images import load_image

    loaded = load_image(images)
    if "output_sha256" not in report:
        older = (
            f"The report is of an older version ({report['tool']}), which kept no hash of the images: they may have "
        )
        return loaded.image, [f"{older}changed since."]
    if report["output_sha256"] != loaded.source["sha256"]:
        raise UnreadableError(
            f"{images} is not what the report was written for: its sha256 is {loaded.source['sha256'][:12]}..., "
            f"that in {sidecar_path(images)} is {str(report['output_sha256'])[:12]}...; "
            "it was changed or replaced since"
        )
    return loaded.image, []


def _input_notes(report: dict[str, Any]) -> list[str]:
    """Note if the input is not where or what it was."""
    from crnn_cli.data.input_files import require_file
    from crnn_cli.io.atomic_write import digest
    from crnn_cli.io.formats import is_dicom
    from crnn_cli.io.images import load_image

    source = input_facts(report)
    if not isinstance(source.get("file"), str):
        return ["The report does not say what the input was."]
    path = Path(source["file"])
    if path == STREAM:
        return ["The input came from standard input and cannot be looked at again."]
    try:
        require_file(path)
        if not path.exists():
            return [f"The input, {path}, is not there any more, or was named from another folder."]
        if _holds_more_files(path, _MOST_FILES):
            return [f"The input, {path}, was not looked at again: it holds more than {_MOST_FILES} files."]
        tolerance = float(source["slice_tolerance_mm"]) if "slice_tolerance_mm" in source else None
        if is_dicom(path):
            sha256 = load_image(path, None, source.get("series"), slice_tolerance=tolerance).source["sha256"]
        else:
            sha256 = digest(path)
    except CrnnError as error:
        return [f"The input, {path}, could not be looked at again: {error}"]
    return [] if sha256 == source.get("sha256") else [f"The input, {path}, is not what it was: its sha256 has changed."]


def _holds_more_files(path: Path, most: int) -> bool:
    """Whether more files lie in and below a folder; they are counted no further."""
    count = 0
    for _, _, names in os.walk(path):
        count += len(names)
        if count > most:
            return True
    return False


def _picture(image: Image, report: dict[str, Any]) -> Picture:
    """Middle slice of the images as a picture of the page."""
    import numpy as np

    from crnn_cli.data.geometry import displayed_directions, displayed_slice
    from crnn_cli.report.montage import Panel, still_picture
    from crnn_cli.report.page.html import Picture

    z = image.shape[2] // 2
    panel = Panel(f"{report['method']['name']} {report['acceleration']:.1f}x", np.abs(displayed_slice(image, z)))
    simulated = "SIMULATED scan, " if report["simulated"] else ""
    which = slice_label(input_facts(report), z, image.shape[2])
    caption = f"{simulated}{which}, not for diagnostic use, {displayed_directions(image)}"
    return Picture(
        still_picture([panel], (image.spacing[1], image.spacing[0]), caption), "Frames, and one column over time."
    )

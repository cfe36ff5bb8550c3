"""Images of a label map for its page: those named, or those that the report beside it was written for."""

from __future__ import annotations

from pathlib import Path

from crnn_cli import notices
from crnn_cli.errors import CrnnError
from crnn_cli.io.images import LoadedImage, load_image
from crnn_cli.notices import STREAM
from crnn_cli.report.provenance import input_facts
from crnn_cli.report.sidecar import read_sidecar, sidecar_path
from crnn_cli.workflows.function.options import FunctionOptions


def images_of_labels(path: Path, options: FunctionOptions) -> LoadedImage | None:
    """Read the images of a label map; None where none are named, and none are found for a page.

    The report of `crnn segment` beside a label map names the file that was labelled, and its sha256. A file of that
    content under that name, or beside the label map, holds the images.

    Raises
    ------
    CrnnError
        If images are named and cannot be read.
    """
    if options.image is not None:
        return load_image(options.image)
    if options.page is None or path == STREAM or not sidecar_path(path).is_file():
        return None
    try:
        source = input_facts(read_sidecar(sidecar_path(path)))
    except CrnnError:
        return None
    named = source.get("file")
    if not isinstance(named, str) or not isinstance(source.get("sha256"), str):
        return None
    for place in (Path(named), path.parent / Path(named).name):
        found = _read(place)
        if found is not None and found.source.get("sha256") == source["sha256"]:
            notices.note("images-found", f"the images are those that {sidecar_path(path)} was written for: {place}")
            return found
    return None


def _read(path: Path) -> LoadedImage | None:
    try:
        return load_image(path) if path.is_file() else None
    except (CrnnError, OSError, ValueError):
        return None

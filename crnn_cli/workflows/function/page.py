"""Page of `crnn function`: images with outlines, numbers, and how reliable the images are if reconstructed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli import notices
from crnn_cli.errors import UnreadableError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import DAMAGE, read_sidecar, sidecar_path

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.report.page.html import Part
    from crnn_cli.workflows.function.measure import MeasuredFunction
    from crnn_cli.workflows.function.options import FunctionOptions


def page_of(measured: MeasuredFunction, name: str, options: FunctionOptions) -> Output:
    """Prepare the page for writing.

    Parameters
    ----------
    name : of the source.
    """
    from crnn_cli.cardiac.function import stack_order
    from crnn_cli.data.image import Image, magnitude_of
    from crnn_cli.io.formats import stem
    from crnn_cli.report.function.page import PageContent, function_page
    from crnn_cli.report.label_montage import labelled_slices

    assert options.page is not None
    labels, image = measured.labels, measured.image
    array = np.zeros(labels.shape, np.float32) if image is None else magnitude_of(image.array).reshape(labels.shape)
    images = Image(array, labels.affine, labels.frame_time, labels.codes, pixdim=labels.pixdim)
    slices = labelled_slices(images, labels.array.astype(np.uint8), stack_order(labels))
    case = "standard input" if name == "standard input" else stem(Path(name)).name
    content = PageContent(
        case, measured.function, measured.report, measured.chambers, slices, image is not None,
        _reconstruction(measured.report),
    )  # fmt: skip
    return function_page(options.page, content)


def _reconstruction(report: dict[str, Any]) -> list[Part]:
    """Reliability of the images, by the report of `crnn reconstruct` beside them; empty where there is none of them."""
    from crnn_cli.report.reconstruction_page import reliability_table, residual_plots

    source = report["input"]
    kind = "image_" if "image_file" in source else ""
    path, digest = Path(source[f"{kind}file"]), source.get(f"{kind}sha256")
    if path == STREAM or not sidecar_path(path).is_file():
        return []
    try:
        found = read_sidecar(sidecar_path(path))
        if "reliability" not in found or found.get("output_sha256") != digest:
            return []
        return [reliability_table(found), *residual_plots(found)]
    except (UnreadableError, *DAMAGE):
        text = f"{sidecar_path(path)} is damaged: the page does not say how reliable the reconstruction is"
        notices.warn("reconstruction-report-damaged", text)
        return []

"""Volume or series to be segmented: read, checked, and its slices put in order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM, Doubt
from crnn_cli.workflows.segment.options import Span

if TYPE_CHECKING:
    from crnn_cli.bundles.config import SliceInput
    from crnn_cli.data.geometry import SliceOrder
    from crnn_cli.data.image import Image
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.workflows.segment.engine import SegmentEngine

_IMPLAUSIBLE_FACTOR = 4
"""Pixels this many times outside the plausible spacing are refused; nearer ones are a doubt."""


@dataclass(frozen=True)
class Volume:
    """An image ready to be segmented.

    Parameters
    ----------
    image : real, finite, its axes at right angles; (x, y, z) or (x, y, z, t).
    order : along which axis slices follow each other, and in which direction.
    span : the slices to segment, along that axis of the array.
    source : what a report says of the file; empty for an image from memory.
    series : the DICOM series that it was read from, if it was.
    """

    image: Image
    order: SliceOrder
    span: slice
    source: dict[str, Any] = field(default_factory=dict)
    series: Series | None = None


def read_image(
    path: Path, series: str | None, slice_tolerance: float | None
) -> tuple[Image, dict[str, Any], Series | None]:
    """Read the image, check it (`check_image`), and warn of what is odd about it.

    Returns
    -------
    The image; what a report says of the file; the DICOM series, None for NIfTI.
    """
    from crnn_cli.io.images import load_image

    loaded = load_image(path, None, series, slice_tolerance=slice_tolerance)
    name = "standard input" if path == STREAM else str(path)
    if loaded.stored_axes < 3:
        raise UnsupportedDataError(
            f"{name} is a 2-D picture {loaded.image.shape}; slices are labelled in a stack, x, y, z"
        )
    image = check_image(loaded.image, name)
    notices.tell(*loaded.remarks())
    return image, dict(loaded.source), loaded.series


def check_image(image: Image, name: str) -> Image:
    """Check that an image can be cut into slices; take the magnitude of a complex one.

    Raises
    ------
    UnsupportedDataError
        If voxels are NaN or infinite, or the axes are not at right angles.
    """
    import numpy as np

    from crnn_cli.data.geometry import require_perpendicular

    image.require_finite(name)
    require_perpendicular(image.affine, name)
    if image.is_complex:
        notices.note("magnitude-taken", f"{name} is complex: its magnitude is labelled")
        return replace(image, array=np.abs(image.array))
    return image


def order_slices(image: Image, plane: str | None, span: Span | None, engine: SegmentEngine) -> Volume:
    """Decide how an image is sliced for a model, with warnings of what is doubtful about that.

    Parameters
    ----------
    image : as `check_image` returns it.
    plane, span : as `crnn_cli.workflows.segment.options.parse_slices` returns them.

    Raises
    ------
    UsageError
        If the range reaches beyond the stack.
    UnsupportedDataError
        If nothing tells which axis the slices follow each other along, or the spacing cannot be right.
    """
    from crnn_cli.segmentation.segment import choose_order

    order, doubts = choose_order(image, plane, engine.slice_input.plane)
    chosen = _slice_range(span, image.shape[order.axes[0]])
    notices.tell(*doubts, *_spacing_doubts(order, engine.slice_input, engine.bundle.name))
    return Volume(image, order, chosen)


def _slice_range(span: Span | None, count: int) -> slice:
    """Slices of a range along their axis in the array."""
    if count == 1:
        text = "the volume has one slice: the recurrent part of the network has nothing to walk through"
        notices.note("one-slice", text)
    if span is None:
        return slice(0, count)
    if span[1] > count:
        raise UsageError(
            Param("slices"), f": the range {span[0]}-{span[1]} reaches beyond the stack, which has {count} slices"
        )
    return slice(span[0] - 1, span[1])


def _spacing_doubts(order: SliceOrder, fed: SliceInput, model: str) -> list[Doubt]:
    """Say where the spacing is not one that the model was made for.

    Raises
    ------
    UnsupportedDataError
        If pixels are several times larger or smaller than any that make sense.
    """
    doubts: list[Doubt] = []
    between, *in_slice = order.spacing
    for noun, values, (least, most) in (
        ("pixels", in_slice, fed.in_slice),
        ("a slice spacing", [between], fed.between_slices),
    ):
        if all(least <= value <= most for value in values):
            continue
        given = " x ".join(f"{value:.4g}" for value in values)
        text = f"{noun} of {given} mm; {model} is for {least:g} to {most:g} mm"
        low, high = least / _IMPLAUSIBLE_FACTOR, most * _IMPLAUSIBLE_FACTOR
        if values is in_slice and not all(low <= value <= high for value in values):
            raise UnsupportedDataError(f"the header says {text}: correct the header, or use another model")
        doubts.append(Doubt("spacing-not-trained", f"the header says {text}: has it lost its spacing?"))
    return doubts

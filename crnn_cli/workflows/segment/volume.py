"""Volume or series to be segmented: read, checked, and its slices put in order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM, Doubt
from crnn_cli.workflows.segment.admission import (
    frames_doubt,
    modality_doubts,
    require_image,
    view_doubt,
    why_no_volumes,
)
from crnn_cli.workflows.segment.options import Span
from crnn_cli.workflows.segment.spacing import Spacing, remaining, with_spacing

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
    no_volumes : reason for which no volumes in millilitres are stated; None where they are.
    """

    image: Image
    order: SliceOrder
    span: slice
    source: dict[str, Any] = field(default_factory=dict)
    series: Series | None = None
    no_volumes: str | None = None


def read_image(
    path: Path, series: str | None, slice_tolerance: float | None, spacing: Spacing | None = None
) -> tuple[Image, dict[str, Any], Series | None]:
    """Read the image, check it (`check_image`), and warn of what is odd about it.

    Parameters
    ----------
    series, slice_tolerance : of DICOM, see `crnn_cli.io.images.load_image`.
    spacing : in place of that of the file, see `crnn_cli.workflows.segment.spacing`; not of DICOM.

    Returns
    -------
    The image; what a report says of the file; the DICOM series, None for NIfTI.
    """
    from crnn_cli.io.images import load_image
    from crnn_cli.io.nifti.intent import LABELS
    from crnn_cli.workflows.label_scale import with_label_values

    loaded = load_image(path, None, series, slice_tolerance=slice_tolerance)
    name = input_name(path)
    require_image(with_label_values(loaded).image.array, loaded.intent == LABELS, name)
    if loaded.stored_axes < 3:
        raise UnsupportedDataError(
            f"{name} is a 2-D picture {loaded.image.shape}; slices are labelled in a stack, x, y, z"
        )
    if spacing is not None and loaded.series is not None:
        raise UsageError(
            Param("spacing"), f" is for files that have lost theirs, and {name} is DICOM, which has its own"
        )
    image = with_spacing(check_image(loaded.image, name), spacing, name)
    notices.tell(*remaining(loaded.remarks(), spacing))
    given = {} if spacing is None else {"spacing_given": list(spacing)}
    return image, dict(loaded.source) | given, loaded.series


def input_name(path: Path) -> str:
    """How messages call an input."""
    return "standard input" if path == STREAM else str(path)


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


def order_slices(
    image: Image, plane: str | None, span: Span | None, engine: SegmentEngine, series: Series | None = None,
    name: str = "the image",
) -> Volume:  # fmt: skip
    """Decide how an image is sliced for a model, with warnings of what is doubtful about that, and about the image.

    Parameters
    ----------
    image : as `check_image` returns it.
    plane, span : as `crnn_cli.workflows.segment.options.parse_slices` returns them.
    series : the DICOM series that the image was read from, if it was.
    name : how messages call the image.

    Raises
    ------
    UsageError
        If the range reaches beyond the stack.
    UnsupportedDataError
        If nothing tells which axis the slices follow each other along, the spacing cannot be right, or the image is
        not of the model's modality.
    """
    from crnn_cli.segmentation.segment import choose_order

    order, doubts = choose_order(image, plane, engine.slice_input.plane)
    chosen = slice_range(span, image.shape[order.axes[0]])
    fed, model = engine.slice_input, engine.bundle.name
    view, along_axes = view_doubt(order, image.affine, fed)
    doubts = [*modality_doubts(image.array, series, fed, name, model), *doubts, *_spacing_doubts(order, fed, model)]
    doubts += [each for each in (view, frames_doubt(image, order, chosen, fed)) if each is not None]
    notices.tell(*doubts)
    why = why_no_volumes(image, doubts, series is not None or not along_axes)
    if why is not None:
        notices.warn("no-volumes", f"no volumes in millilitres are stated: {why}")
    return Volume(image, order, chosen, series=series, no_volumes=why)


def slice_range(span: Span | None, count: int) -> slice:
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

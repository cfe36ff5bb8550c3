"""Complex images from a magnitude and a phase image."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from crnn_cli.data.alignment import reorient_to
from crnn_cli.data.image import Image
from crnn_cli.data.mapped_arrays import Values, apply_by_planes, chunk_indices, drop_pages
from crnn_cli.errors import UnsupportedDataError


def phase_sibling(source: Path) -> Path | None:
    """BIDS phase file beside a magnitude file, None if there is none.

    Beside ``sub-1_part-mag_cine.nii.gz`` that is ``sub-1_part-phase_cine.nii.gz``.
    """
    if "part-mag" not in source.name:
        return None
    sibling = source.with_name(source.name.replace("part-mag", "part-phase"))
    return sibling if sibling.exists() else None


def join_phase(magnitude: Image, phase: Image, name: str) -> Image:
    """Join a magnitude and a phase image of one place to a complex image; axes of the phase are turned where needed.

    Phase in radians is taken as it is. Scanner units are recognised by their range, as BIDS writers leave them: one
    turn over -4096 ... 4095 or 0 ... 4095 (Siemens), most of it used. Degrees and milliradians are refused.

    Parameters
    ----------
    name : of the phase image, for messages.

    Returns
    -------
    complex64, with the geometry of the magnitude.

    Raises
    ------
    UnsupportedDataError
        If they lie in different places, the phase is complex, or its range is none of these.
    """
    phase = _on_grid(phase, magnitude, name)
    if phase.is_complex:
        raise UnsupportedDataError(f"{name} is complex: a phase is real, or give the complex series alone")
    phase.require_finite(name)
    low, high = _range(phase)
    factor, offset = 1.0, 0.0
    if max(-low, high) <= 2 * math.pi + 1e-3:
        pass
    elif -4096 <= low < -3500 and 3500 < high <= 4096:
        factor = math.pi / 4096
    elif low >= 0 and 3500 < high <= 4096:
        factor, offset = 2 * math.pi / 4096, math.pi
    else:
        raise UnsupportedDataError(
            f"{name} ranges from {low:g} to {high:g}: neither radians nor scanner units "
            "(-4096..4095, 0..4095); rescale it to radians"
        )

    def joined(sizes: Values, values: Values) -> Values:
        angle = values.astype(np.float64) * factor - offset
        values_complex: Values = (sizes * np.exp(1j * angle)).astype(np.complex64)
        return values_complex

    return replace(magnitude, array=apply_by_planes(joined, np.complex64, magnitude.array, phase.array))


def _on_grid(phase: Image, magnitude: Image, name: str) -> Image:
    """Turn the axes of a phase image to those of the magnitude, where both cover one place."""
    if magnitude.shape == phase.shape and np.allclose(magnitude.affine, phase.affine, atol=1e-2):
        return phase
    turned = reorient_to(phase, magnitude.affine, (*magnitude.shape[:3], magnitude.frames))
    if turned is not None and turned.shape == magnitude.shape:
        return turned
    if sorted(phase.shape) != sorted(magnitude.shape):
        parts = f"{name} has the shape {phase.shape}, the magnitude {magnitude.shape}: not one acquisition"
        raise UnsupportedDataError(parts, remedy=("give the phase of these images",))
    raise UnsupportedDataError(
        f"{name} and the magnitude lie apart in space: not one acquisition",
        remedy=("give the phase of these images, or convert both from DICOM by one program",),
    )


def _range(image: Image) -> tuple[float, float]:
    extremes = []
    for part in chunk_indices(image.shape, image.array.itemsize):
        values = image.array[part].astype(np.float64)
        extremes += [float(values.min()), float(values.max())]
        drop_pages(image.array)
    return min(extremes), max(extremes)

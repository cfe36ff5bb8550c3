"""Uncertainty maps against the error: how often the reference lies within the standard deviation that was stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli.data.alignment import reorient_to
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.workflows.evaluate.pair import Candidate, read_candidate

if TYPE_CHECKING:
    from torch import Tensor


def read_uncertainty(path: Path, axes: str | None) -> Candidate:
    """Read an uncertainty map.

    Parameters
    ----------
    axes : stored axes of the image that it belongs to, which are its own as well; they do not count for DICOM.
    """
    from crnn_cli.io.formats import is_dicom

    return read_candidate(path, None if is_dicom(path) else axes, None, "images")


def align_uncertainty(uncertainty: Candidate, image: Image) -> Candidate:
    """Check an uncertainty map, and bring it onto the axes of the image that it belongs to.

    Raises
    ------
    UnsupportedDataError
        If it is not of the image's shape and place, or has values that are complex or negative.
    """
    sigma, name = uncertainty.image, uncertainty.name
    if sigma.is_complex:
        raise UnsupportedDataError(f"{name} is complex: an uncertainty is a standard deviation, a real number")
    if bool(np.less(sigma.array, 0).any()):
        raise UnsupportedDataError(f"{name} has negative values: an uncertainty is a standard deviation, 0 or more")
    shape = (*image.shape[:3], image.frames)
    aligned = reorient_to(sigma, image.affine, shape)
    if aligned is None:
        sizes = [" x ".join(map(str, size)) for size in ((*sigma.shape[:3], sigma.frames), shape)]
        where = ", and lies elsewhere" if sizes[0] == sizes[1] else ""
        raise UnsupportedDataError(
            f"{name} is {sizes[0]}, the image is {sizes[1]} (x, y, z, t){where}",
            remedy=("give the uncertainty map that was written together with this image",),
        )
    return replace(uncertainty, image=aligned)


def coverage_facts(image: Tensor, reference: Tensor, deviation: Tensor, scale: float | None) -> dict[str, Any]:
    """Share of pixels whose reference lies within 1, 1.64 and 2 standard deviations of the image.

    Parameters
    ----------
    image, reference, deviation : (Z, T, Y, X).
    scale : factor that the image is multiplied by first, and its uncertainty with it; None for none.
    """
    from crnn_cli.mri.coverage import coverage

    factor = 1.0 if scale is None else scale
    return coverage(image * factor, reference, deviation * abs(factor)).summary()

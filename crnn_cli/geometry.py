"""Anatomy and array axes: which way the voxel axes of an affine point, and how a slice is shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.image import Affine, Image

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


def axis_codes(affine: Affine) -> str:
    """Return the anatomical direction that each voxel axis runs to, such as ``RAS`` or ``LPS``.

    Each voxel axis takes the patient axis that it is nearest to, the clearest first, so that no letter is used twice.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    strength = np.abs(cosines)
    codes = ["?"] * 3
    for _ in range(3):
        patient, voxel = (int(v) for v in np.unravel_index(int(np.argmax(strength)), (3, 3)))
        codes[voxel] = _LETTERS[patient][int(cosines[patient, voxel] > 0)]
        strength[patient, :] = strength[:, voxel] = -1
    return "".join(codes)


def displayed_slice(image: Image, z: int) -> NDArray[np.generic]:
    """Return one slice of a series as a viewer shows it, (T, rows, columns).

    Columns run along the first array axis, rows along the second; both are turned so that right, anterior and
    superior come first: the patient's right is on the left of the picture (radiological convention).
    """
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    frames = array[:, :, z].transpose(2, 1, 0)
    codes = axis_codes(image.affine)
    if codes[1] in "RAS":
        frames = frames[:, ::-1]
    return frames[:, :, ::-1] if codes[0] in "RAS" else frames


def displayed_directions(image: Image) -> str:
    """Return what is on the left and on the top of a displayed slice, such as ``left R, top A``."""
    codes = axis_codes(image.affine)
    first = {letter: pair[1] for pair in _LETTERS for letter in pair}
    return f"left {first[codes[0]]}, top {first[codes[1]]}"

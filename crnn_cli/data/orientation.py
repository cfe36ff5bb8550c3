"""Orientation of voxel axes: which anatomical direction each axis of an affine runs to, and views as viewers show them.

Affines are voxel index to RAS+ position in mm (x to the right, y to anterior, z to superior).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
_TILT = 1e-4  # rad; rotates the patient axes slightly, so that an exactly diagonal scan has no ties


def axis_codes(affine: Affine) -> str:
    """Anatomical direction that each voxel axis runs to, such as ``RAS`` or ``LPS`` (`nibabel.aff2axcodes`).

    Each voxel axis takes the patient axis that it is nearest to, the clearest first, so that no letter is used twice.

    >>> axis_codes(np.diag([-0.8, -0.8, 8.0, 1.0]))
    'LPS'
    """
    return "".join(_LETTERS[patient][int(positive)] for patient, positive in patient_axes(affine))


def patient_axes(affine: Affine) -> list[tuple[int, bool]]:
    """Patient axis (0 right, 1 anterior, 2 superior) nearest to each voxel axis, and whether it runs in that direction.

    The assignment depends on the position in space alone: permuting or flipping the voxel axes permutes the result.
    Ties of exactly diagonal axes are broken by a fixed rotation of the patient axes by 1e-4 rad.
    """
    a, b, c = _TILT, 1.7 * _TILT, 0.6 * _TILT
    rotation = np.array([[1, -c, b], [c, 1, -a], [-b, a, 1]])
    cosines = rotation @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    strength = np.abs(cosines)
    axes = [(0, True)] * 3
    for _ in range(3):
        patient, voxel = (int(v) for v in np.unravel_index(int(np.argmax(strength)), (3, 3)))
        axes[voxel] = (patient, bool(cosines[patient, voxel] > 0))
        strength[patient, :] = strength[:, voxel] = -1
    return axes


def to_radiological(frames_T10: NDArray[np.generic], affine: Affine) -> NDArray[np.generic]:
    """Flip frames (T, rows along axis 1, columns along axis 0) so that right, anterior and superior come first; a view.

    The patient's right is then on the left of the picture (radiological convention).
    """
    codes = axis_codes(affine)
    if codes[1] in "RAS":
        frames_T10 = frames_T10[:, ::-1]
    return frames_T10[:, :, ::-1] if codes[0] in "RAS" else frames_T10


def radiological_directions(affine: Affine) -> str:
    """Anatomical directions at the left and the top of `to_radiological`, such as ``left R, top A``."""
    codes = axis_codes(affine)
    positive = {letter: pair[1] for pair in _LETTERS for letter in pair}
    return f"left {positive[codes[0]]}, top {positive[codes[1]]}"

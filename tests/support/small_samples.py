"""The sample data with fewer pixels and frames: what the documentation does to them takes less time."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.support.data import ROOT

FRAMES = 16  # as many as a page of the documentation asks for


def write_small_samples(folder: Path) -> None:
    """Write every file of sample_data into a folder, the series smaller.

    Images get pixels of twice the size. The undersampled series is cut along its readout, so that its lines in k-space
    stay what they are.
    """
    shutil.copytree(ROOT / "sample_data", folder)
    for name in ("pig_cine.nii.gz", "pig_stack.nii.gz"):
        halve(folder / name)
    file = folder / "cine_undersampled.nii.gz"
    whole = nib.load(file)
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, 0] * 32
    nib.save(nib.Nifti1Image(np.asarray(whole.dataobj)[32:80], affine, whole.header), file)


def halve(file: Path) -> None:
    """Replace images by those of half the matrix, and the frames by the first."""
    whole = nib.load(file)
    data = np.asarray(whole.dataobj)[..., :FRAMES]
    rows, columns, *others = data.shape
    data = data.reshape(rows // 2, 2, columns // 2, 2, *others).mean(axis=(1, 3)).round().astype(data.dtype)
    affine = whole.affine.copy()
    affine[:3, 3] += (affine[:3, 0] + affine[:3, 1]) / 2
    affine[:3, :2] *= 2
    nib.save(nib.Nifti1Image(data, affine, whole.header), file)

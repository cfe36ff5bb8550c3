"""Convert the CC0 pig cine (DICOM) to one 4-D NIfTI: the slices trained on, and those kept for measuring.

python benchmarks/pig_cine.py DICOM_FOLDER OUT_FOLDER writes pig_train.nii.gz and pig_test.nii.gz.
Slices are counted from 0 along the slice location; frames are ordered by trigger time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

TEST_SLICES = (2, 5, 7)


def main(folder: Path, out: Path) -> None:
    datasets = [pydicom.dcmread(file) for file in sorted(folder.rglob("*")) if file.is_file()]
    locations = sorted({round(float(d.SliceLocation), 2) for d in datasets})
    stack = []
    for location in locations:
        frames = sorted(
            (d for d in datasets if round(float(d.SliceLocation), 2) == location), key=lambda d: float(d.TriggerTime)
        )
        stack.append(np.stack([d.pixel_array.T for d in frames], axis=-1))
    volume = np.stack(stack, axis=2).astype(np.int16)
    spacing = [float(v) for v in datasets[0].PixelSpacing]
    first_of = {round(float(d.SliceLocation), 2): d for d in reversed(datasets)}
    places = [np.array(first_of[each].ImagePositionPatient, float) for each in locations]
    step = float(np.linalg.norm(np.diff(places, axis=0), axis=1).mean())  # SliceLocation is one coordinate of it
    affine = np.diag([spacing[1], spacing[0], step, 1])
    out.mkdir(parents=True, exist_ok=True)
    test = list(TEST_SLICES)
    for name, slices in (("train", [z for z in range(len(locations)) if z not in test]), ("test", test)):
        image = nib.Nifti1Image(volume[:, :, slices], affine)
        image.set_sform(affine, code=0)  # where it lies is not kept
        nib.save(image, out / f"pig_{name}.nii.gz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

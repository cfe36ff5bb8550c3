"""Make the sample data again: python sample_data/make.py PIG_DICOM_FOLDER (needs pydicom and crnn installed).

cine_undersampled.nii.gz comes from ``crnn simulate``; pig_cine.nii.gz is one slice of the CC0 pig cine, cut around the
heart; pig_stack.nii.gz are all its slices at three times of the cycle, where they lie in space. sha256.json lists the
sums.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))
from pig_cine import TEST_SLICES  # noqa: E402
from pig_cine import main as convert  # noqa: E402

SIMULATE = ["crnn", "simulate", "--size", "112x96", "--frames", "16", "--undersample", "8", "--seed", "7", "--oblique"]


CUT = (slice(72, 200), slice(64, 192))
STACK_FRAMES = (0, 7, 14)


def pig_stack(dicom: Path) -> nib.Nifti1Image:
    """Return (x, y, z, t), cut around the heart, the affine from position and orientation in the headers."""
    datasets = [pydicom.dcmread(file) for file in sorted(dicom.rglob("*")) if file.is_file()]
    across, down = np.array(datasets[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(across, down)
    places = sorted({round(float(np.dot(normal, d.ImagePositionPatient)), 2) for d in datasets})
    slices, positions = [], []
    for place in places:
        here = [d for d in datasets if round(float(np.dot(normal, d.ImagePositionPatient)), 2) == place]
        here.sort(key=lambda d: float(d.TriggerTime))
        slices.append(np.stack([here[t].pixel_array.T[CUT] for t in STACK_FRAMES], axis=-1))
        positions.append(np.array(here[0].ImagePositionPatient, float))
    row_step, column_step = (float(v) for v in datasets[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * column_step, down * row_step
    affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 3] = positions[0] + affine[:3, 0] * CUT[0].start + affine[:3, 1] * CUT[1].start
    affine = np.diag([-1, -1, 1, 1]) @ affine  # LPS to RAS
    image = nib.Nifti1Image(np.stack(slices, axis=2).astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 0.0315 * (STACK_FRAMES[1] - STACK_FRAMES[0])
    return image


def main(dicom: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*SIMULATE, "-o", f"{folder}/sample"], check=True)
        Path(folder, "sample_zerofilled.nii.gz").replace(HERE / "cine_undersampled.nii.gz")
        convert(dicom, Path(folder))
        pig = nib.load(Path(folder, "pig_test.nii.gz"))
        z = TEST_SLICES.index(5)
        cut = pig.slicer[CUT[0], CUT[1], z : z + 1]
        image = nib.Nifti1Image(np.asanyarray(cut.dataobj).astype(np.int16), cut.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 0.0315
        nib.save(image, HERE / "pig_cine.nii.gz")
    nib.save(pig_stack(dicom), HERE / "pig_stack.nii.gz")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(HERE.glob("*.nii.gz"))}
    (HERE / "sha256.json").write_text(json.dumps(sums, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

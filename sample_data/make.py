"""Make the sample data again: python sample_data/make.py PIG_DICOM_FOLDER (needs pydicom and crnn installed).

cine_undersampled.nii.gz comes from ``crnn simulate``; pig_cine.nii.gz is one slice of the CC0 pig cine, cut around the
heart. sha256.json lists the sums of both.
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

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))
from pig_cine import TEST_SLICES  # noqa: E402
from pig_cine import main as convert  # noqa: E402

SIMULATE = ["crnn", "simulate", "--size", "112x96", "--frames", "16", "--undersample", "8", "--seed", "7", "--oblique"]


def main(dicom: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*SIMULATE, "-o", f"{folder}/sample"], check=True)
        Path(folder, "sample_zerofilled.nii.gz").replace(HERE / "cine_undersampled.nii.gz")
        convert(dicom, Path(folder))
        pig = nib.load(Path(folder, "pig_test.nii.gz"))
        z = TEST_SLICES.index(5)
        cut = pig.slicer[72:200, 64:192, z : z + 1]
        image = nib.Nifti1Image(np.asanyarray(cut.dataobj).astype(np.int16), cut.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 0.0315
        nib.save(image, HERE / "pig_cine.nii.gz")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(HERE.glob("*.nii.gz"))}
    (HERE / "sha256.json").write_text(json.dumps(sums, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

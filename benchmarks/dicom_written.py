"""DICOM that crnn writes, judged by programs that it does not share code with: dcm2niix, dciodvfy, dcmqi.

    python benchmarks/dicom_written.py [--cines 20]

A double-oblique short-axis cine of 12 slices x 25 phases with random pixels goes to NIfTI and back, and gets a random
label map as DICOM SEG; then smaller cines of random orientation do. Programs that are not installed are named.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).parents[1]))

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom.read import read_dicom, read_series
from crnn_cli.io.dicom.seg import Algorithm, seg_names, seg_outputs
from crnn_cli.io.nifti.image import read_image
from crnn_cli.labels.names import Label
from tests.support.dicom import oblique, values, write_series

KEPT = [Label(1, "cavity", (255, 0, 0)), Label(2, "wall", (0, 255, 0)), Label(3, "other", (0, 0, 255))]


@dataclass
class Found:
    """What was measured over all cines: largest distances in mm, counts of voxels and times that differ, errors."""

    nifti_mm: float = 0.0
    back_mm: float = 0.0
    back_voxels: int = 0
    times: int = 0
    niix_mm: float = 0.0
    niix_voxels: int = 0
    seg_mm: float = 0.0
    seg_voxels: int = 0
    objects: int = 0
    errors: list[str] = field(default_factory=list)


def crnn(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "crnn_cli", *map(str, arguments)], check=True, capture_output=True,
                   cwd=Path(__file__).parents[1])  # fmt: skip


def times(folder: Path) -> dict[tuple[float, ...], list[float]]:
    """Return the trigger times at each position."""
    found: dict[tuple[float, ...], list[float]] = {}
    for data in map(pydicom.dcmread, folder.iterdir()):
        found.setdefault(tuple(map(float, data.ImagePositionPatient)), []).append(float(data.TriggerTime))
    return {place: sorted(row) for place, row in found.items()}


def there_and_back(place: Path, found: Found) -> None:
    crnn("convert", place / "d", place / "a.nii.gz")
    crnn("convert", place / "a.nii.gz", place / "back", "--reference-dicom", place / "d")
    crnn("convert", place / "a.nii.gz", place / "alone")
    ours = read_dicom(place / "d")[0]
    found.nifti_mm = max(found.nifti_mm, compare_images(ours, read_image(place / "a.nii.gz")).distance_mm or 0)
    for made in ("back", "alone"):
        back = compare_images(ours, read_dicom(place / made)[0])
        found.back_mm = max(found.back_mm, np.inf if back.distance_mm is None else back.distance_mm)
        found.back_voxels += back.voxels or 0
    found.times += times(place / "d") != times(place / "back")
    if shutil.which("dcm2niix"):
        subprocess.run(["dcm2niix", "-p", "n", "-z", "n", "-o", place, "-f", "niix", place / "back"],
                       capture_output=True, check=True)  # fmt: skip
        theirs = compare_images(ours, read_image(place / "niix.nii"))
        found.niix_mm = max(found.niix_mm, np.inf if theirs.distance_mm is None else theirs.distance_mm)
        found.niix_voxels += theirs.voxels or 0
    found.objects += 1
    found.errors += verified(next((place / "back").iterdir()))


def segmented(place: Path, seed: int, found: Found) -> None:
    image, _, series = read_series(place / "d")
    array = np.random.default_rng(seed).integers(0, 4, image.shape).astype(np.uint8)
    labels = replace(image, array=array if array.ndim == 4 else array[..., None])
    write_together(seg_outputs(labels, series, KEPT, Algorithm("benchmark"), place / "seg.dcm"))
    for t, file in enumerate(seg_names(place / "seg.dcm", labels.frames)):
        found.objects += 1
        found.errors += verified(file)
        if not shutil.which("segimage2itkimage"):
            continue
        out = place / f"seg{t}"
        out.mkdir()
        subprocess.run(["segimage2itkimage", "--inputDICOM", file, "--outputDirectory", out, "-t", "nii"],
                       capture_output=True, check=True)  # fmt: skip
        for label in KEPT:
            read = nib.load(out / f"{label.value}.nii.gz")
            theirs = Image((np.asarray(read.dataobj) > 0).astype(np.uint8), read.affine)
            one = compare_images(Image((labels.array[..., t] == label.value).astype(np.uint8), labels.affine), theirs)
            found.seg_mm = max(found.seg_mm, np.inf if one.distance_mm is None else one.distance_mm)
            found.seg_voxels += one.voxels or 0


def verified(file: Path) -> list[str]:
    """Return the errors that dciodvfy finds."""
    if not shutil.which("dciodvfy"):
        return []
    ended = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
    return [line for line in ended.stderr.splitlines() if line.startswith("Error")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cines", type=int, default=20)
    options = parser.parse_args()
    for program in ("dcm2niix", "dciodvfy", "segimage2itkimage"):
        if not shutil.which(program):
            print(f"{program} is not installed: its rows say nothing")
    print("| what | figure | bar |\n|---|---|---|")
    for title, seeds in (("12 x 25 of 128 x 128", [0]), (f"{options.cines} small ones", range(1, options.cines + 1))):
        found = Found()
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                cine(Path(folder), seed)
                there_and_back(Path(folder), found)
                segmented(Path(folder), seed, found)
        rows = (
            ("to NIfTI", f"{found.nifti_mm:.1g} mm apart", "1e-4 mm"),
            ("and back to DICOM, with --reference-dicom and without", f"{found.back_mm:.1g} mm apart", "1e-4 mm"),
            ("values, series whose times changed", f"{found.back_voxels} voxels, {found.times} series", "0"),
            ("dcm2niix reads it", f"{found.niix_mm:.1g} mm, {found.niix_voxels} voxels differ", "1e-3 mm, 0"),
            ("dcmqi reads the SEG", f"{found.seg_mm:.1g} mm, {found.seg_voxels} voxels differ", "in place, 0"),
            (f"errors of dciodvfy in {found.objects} objects", str(len(found.errors)), "0"),
        )
        for what, figure, bar in rows:
            print(f"| {title}: {what} | {figure} | {bar} |")
        for error in sorted(set(found.errors))[:5]:
            print(f"  {error}")


def cine(place: Path, seed: int) -> None:
    dice = np.random.default_rng(seed)
    slices, frames, side = (12, 25, 128) if seed == 0 else (int(dice.integers(2, 9)), int(dice.integers(2, 6)), 24)
    write_series(
        place / "d", values(slices, frames, side, side - 4, seed), oblique(seed), tuple(dice.uniform(0.5, 3, 2)),
        float(dice.uniform(2, 12)), tuple(dice.uniform(-100, 100, 3)), shuffle=seed,
    )  # fmt: skip


if __name__ == "__main__":
    main()

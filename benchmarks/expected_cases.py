"""Reconstructions that the expected PSNR is fitted on: none of the test cases of `quality.py` is among them.

Small     ACDC patients 015 to 040, 061, 062, 065, 081, 082 and 085: a slice of each, 100 lines, all frames, 32 columns.
Large     the same cines in the full field of view: end diastole of `acdc_groups` (patients 021 to 035) stands around
          the moving part, about 216 to 256 lines, 32 columns.
Phantoms  of `crnn simulate`, 256 lines, 32 columns; scenes of the training (`crnn_cli.training.reconstruct.scenes`), of
          other seeds.
Pig       slices that `cine-crnn` was trained on: 0, 4 and 9, 32 columns.
Noise     none in 60 % of the cases; else a standard deviation, in each part, of 1/500 to 1/30 of the brightest pixel.
Coils     one, or 4 to 12 in two thirds of the cases with noise, with sensitivities by ESPIRiT.
Drawn     accelerations from 3x to 14x by their logarithm, all by one seed.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import multicoil
import nibabel as nib
import numpy as np
import pig_cine
import quality
import torch
from torch import Tensor

from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.training.reconstruct.scenes import SceneRandom, SceneSize, random_scene

PATIENTS = [*range(15, 41), 61, 62, 65, 81, 82, 85]
COLUMNS = 32
CROP = (50, 85)
"""First line and column of the cines of `acdc_cine` in the images of `acdc_groups`."""
_BLEND = 4


@dataclass(frozen=True)
class Case:
    """One reconstruction: what is scanned, and how. noise : relative to the brightest pixel, in each part."""

    kind: str
    number: int
    acceleration: float
    coils: int = 1
    noise: float = 0.0

    @property
    def name(self) -> str:
        """Name of the object; cases of one object are left out together."""
        return f"{self.kind}-{self.number}"


def draw_cases() -> list[Case]:
    """Return all cases in random order: any first part of them is a mixture."""
    dice = np.random.default_rng(30)
    objects = [("small", n) for n in PATIENTS] * 4 + [("large", n) for n in range(21, 36)] * 3
    objects += [("phantom", n) for n in range(11, 21)] * 3 + [("scene", n) for n in range(10)]
    objects += [("pig", n) for n in (0, 4, 9)] * 3
    cases = []
    for index in dice.permutation(len(objects)):
        kind, number = objects[index]
        acceleration = round(math.exp(dice.uniform(math.log(3), math.log(14))), 1)
        noise = 0.0 if dice.random() < 0.6 else math.exp(dice.uniform(math.log(1 / 500), math.log(1 / 30)))
        coils = int(dice.integers(4, 13)) if noise and dice.random() < 2 / 3 else 1
        cases.append(Case(kind, int(number), acceleration, coils, round(noise, 5)))
    return cases


def measured(case: Case, data: Path) -> tuple[Tensor, SliceMeasurement]:
    """Return the truth (1, T, Y, X), and what is measured of it."""
    name = f"{case.name} {case.coils} {case.noise:g}"
    if case.kind == "phantom":
        scan = PhantomScan(Grid(256, 256, 1.5), 20, seed=case.number)
        whole = simulate_slice(scan, 0).truth_TYX
        truth = _middle(whole / whole.abs().max())[None]
    else:
        magnitude = _MAGNITUDES[case.kind](data, case.number)
        truth = quality.make_problem(name, magnitude / magnitude.max(), case.acceleration).truth_BTYX
    told = multicoil.scanned(name, truth, case.coils, case.acceleration, False, case.noise)
    return truth, told if case.noise else SliceMeasurement(told.kspace_BCTYX, told.mask_BTYX)


def _middle(values: Tensor) -> Tensor:
    first = max(0, (values.shape[-1] - COLUMNS) // 2)
    return values[..., first : first + COLUMNS].contiguous()


def _small(data: Path, patient: int) -> np.ndarray:
    file = data / f"acdc_cine/patient{patient:03d}_4d.nii.gz"
    slices = nib.load(file).shape[2]
    return _middle(torch.from_numpy(quality.read_slice(file, (slices // 2 + patient % 3 - 1) % slices))).numpy()


def _large(data: Path, patient: int) -> np.ndarray:
    """Return a cine whose surroundings do not move. The moving part is scaled to the still image, and faded in."""
    cine = quality.read_slice(data / f"acdc_cine/patient{patient:03d}_4d.nii.gz")
    slices = nib.load(data / f"acdc_cine/patient{patient:03d}_4d.nii.gz").shape[2]
    folder = data / f"acdc_groups/patient{patient:03d}"
    still = np.asanyarray(nib.load(min(folder.glob("*_frame??.nii.gz"))).dataobj)
    still = still[:, :, 1 + slices // 2].astype(np.float32)
    lines, columns = slice(CROP[0], CROP[0] + cine.shape[1]), slice(CROP[1], CROP[1] + cine.shape[2])
    part = still[lines, columns]
    if part.shape != cine.shape[1:] or np.corrcoef(part.ravel(), cine[0].ravel())[0, 1] < 0.95:
        raise ValueError(f"the cine of patient {patient} is not found in its still image")
    cine = cine * float((part * cine[0]).sum() / (cine[0] ** 2).sum())
    ramps = [np.minimum(np.arange(n), np.arange(n)[::-1]).clip(0, _BLEND) / _BLEND for n in part.shape]
    weight = ramps[0][:, None] * ramps[1]
    scene = np.repeat(still[None], len(cine), 0)
    scene[:, lines, columns] = weight * cine + (1 - weight) * part
    first = CROP[1] + (cine.shape[2] - COLUMNS) // 2
    return np.ascontiguousarray(scene[:, :, first : first + COLUMNS])


def _pig(data: Path, number: int) -> np.ndarray:
    order = [z for z in range(10) if z not in pig_cine.TEST_SLICES]
    with tempfile.TemporaryDirectory() as folder:
        pig_cine.main(data / "pig_cine_sax", Path(folder))
        whole = quality.read_slice(Path(folder, "pig_train.nii.gz"), order.index(number))
    return _middle(torch.from_numpy(whole)).numpy()


def _scene(data: Path, number: int) -> np.ndarray:
    del data
    size = SceneSize(20, 120 + 12 * number % 60, COLUMNS)
    return random_scene(size, SceneRandom(900_000 + number)).abs().numpy()


_MAGNITUDES = {"small": _small, "large": _large, "pig": _pig, "scene": _scene}

"""Labelled frames of undersampled cines: what a segmentation network sees after a reconstruction.

python benchmarks/heart_reconstructed.py DATA --out FOLDER [--undersample 6 10] [--model cine-crnn-fast] [--split train]

DATA holds the folders acdc_cine (cut to 100 x 95 pixels), acdc_labelled and acdc_groups. Of every patient of a split
whose cut is where it is known to be, the cine is undersampled, reconstructed, and its end-diastolic and end-systolic
frame are written with their manual labels, for `benchmarks/heart.py --reconstructed FOLDER`. With 1 among the
accelerations the frames are those of the cine as it is.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from heart import Labelled, acdc

import crnn_cli as crnn
from crnn_cli.data.image import Image

FIRST = (50, 85, 1)  # voxel of the labelled frame at which the cut of the cine begins
SAME = 0.99  # least correlation of the cut with the cine's frame


def cut_like(volume: Image, cine: Image) -> Image:
    """Part of a labelled frame, or of its labels, that the cine shows."""
    parts = tuple(slice(first, first + n) for first, n in zip(FIRST, cine.shape[:3], strict=True))
    return replace(volume, array=volume.array[parts])


def frame_number(file: Path) -> int:
    """Number of a frame, from 0, by the name of its file: patient016_frame12.nii.gz."""
    return int(file.name.split("_frame")[1][:2]) - 1


def is_same(frame: np.ndarray, labelled: np.ndarray) -> bool:
    """Whether a frame of the cine shows what the labelled frame shows."""
    return frame.shape == labelled.shape and np.corrcoef(frame.ravel(), labelled.ravel())[0, 1] > SAME


def frames_of(source: Path, labelled: list[Labelled]) -> tuple[Image, list[tuple[int, Image, Path]]] | None:
    """Cine on the grid of the labelled frames, and (frame, labels, image file) of these; None if they lie elsewhere."""
    cine, found = crnn.load(source), []
    for each in labelled:
        frame, cut = frame_number(each.image), cut_like(crnn.load(each.image), cine)
        if not is_same(cine.array[..., frame], cut.array):
            return None
        grid = np.diag([*cut.spacing, 1.0])  # a header may have lost it in the affine
        found.append((frame, Image(cut_like(crnn.load(each.labels), cine).array, grid), each.image))
    return Image(cine.array, found[0][1].affine), found


def reconstructed(cine: Image, times: float, seed: int, model: str) -> Image:
    """The cine as it comes back from ``times`` fewer lines."""
    result = crnn.reconstruct(cine, undersample=times, seed=seed, model=model, precision="bf16", hold_out_folds=0)
    return result.images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--undersample", type=float, nargs="+", default=[6.0, 10.0])
    parser.add_argument("--model", default="cine-crnn-fast")
    parser.add_argument("--split", default="train", choices=("train", "val"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    training = [each for each in acdc(arguments.data) if each.split == arguments.split]
    for patient in dict.fromkeys(each.subject for each in training):
        source = arguments.data / "acdc_cine" / f"{patient}_4d.nii.gz"
        opened = frames_of(source, [each for each in training if each.subject == patient]) if source.exists() else None
        if opened is None:
            continue
        cine, labelled = opened
        for times in arguments.undersample:
            images = cine if times == 1 else reconstructed(cine, times, int(patient[-3:]), arguments.model)
            for frame, labels, file in labelled:
                name = f"{file.name.removesuffix('.nii.gz')}_{times:g}x"
                image = replace(images, array=np.abs(images.array[..., frame]).astype(np.float32))
                crnn.save(image, arguments.out / f"{name}.nii.gz", force=True)
                crnn.save(labels, arguments.out / f"{name}_gt.nii.gz", force=True)
            print(patient, times, flush=True)


if __name__ == "__main__":
    main()

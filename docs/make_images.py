"""Make the pictures of README.md and docs/ from sample_data/, with crnn itself.

Run it from the root of the repository, with crnn installed:

    python docs/make_images.py

It takes about three minutes on one core. Commands run in a temporary folder; only docs/images/ is written.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
LARGEST = 400_000  # bytes of one picture
TWO_ROWS = 0.691  # of the height of a montage of three rows
Array = NDArray[np.float64]


def main() -> None:
    """Run the commands, draw the three pictures, and check their sizes."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cine = ROOT / "sample_data" / "pig_cine.nii.gz"
        scan = [cine, "--undersample", "8", "--seed", "0"]
        crnn("reconstruct", *scan, "--method", "zero-filled", "-o", work / "zero-filled.nii.gz")
        crnn("reconstruct", *scan, "-o", work / "images.nii.gz", "--uncertainty", work / "sd.nii.gz")
        crnn("segment", ROOT / "sample_data" / "pig_stack.nii.gz", "--slices", "auto",
             "-o", work / "labels.nii.gz", "--preview", work / "labels.png")  # fmt: skip
        truth, before, after = (frames(file) for file in (cine, work / "zero-filled.nii.gz", work / "images.nii.gz"))
        draw_heart(before, after, truth)
        draw_reliability(after, frames(work / "sd.nii.gz"), truth)
        draw_labels(work / "labels.png")
    for picture in sorted(IMAGES.iterdir()):
        size = picture.stat().st_size
        print(f"{picture.relative_to(ROOT)}: {size / 1000:.0f} kB")
        if size > LARGEST:
            raise SystemExit(f"{picture.name} is larger than {LARGEST / 1000:.0f} kB")


def crnn(*words: str | Path) -> None:
    """Run a crnn command; what it says goes to the terminal."""
    subprocess.run([sys.executable, "-m", "crnn_cli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def frames(file: Path) -> Array:
    """Magnitude of the first slice, as pictures: (t, rows, columns)."""
    array = np.abs(np.asarray(nib.load(file).dataobj, dtype=np.complex128))[:, :, 0]
    return array.transpose(2, 1, 0)[:, 16:112, 8:104]


def panel(picture: Array, brightest: float, title: str, scale: float) -> Image.Image:
    """One picture with its title above, in 8 bits."""
    grey = np.clip(255 * picture / brightest, 0, 255).astype(np.uint8)
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    whole = Image.new("L", (size[0] + 4, size[1] + 18))
    whole.paste(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC), (2, 16))
    ImageDraw.Draw(whole).text((4, 3), title, fill=255)
    return whole


def beside(panels: list[Image.Image]) -> Image.Image:
    """Panels of one height in a row."""
    row = Image.new("L", (sum(part.width for part in panels), panels[0].height))
    for number, part in enumerate(panels):
        row.paste(part, (sum(earlier.width for earlier in panels[:number]), 0))
    return row


def few_greys(picture: Image.Image, levels: int) -> Image.Image:
    """The picture in so many grey levels, without dithering: GIF then compresses it well."""
    step = 256 / levels
    rounded = (np.floor(np.asarray(picture) / step) * 255 / (levels - 1)).astype(np.uint8)
    return Image.fromarray(rounded).convert("P")


def draw_heart(before: Array, after: Array, truth: Array) -> None:
    """The beating heart, zero-filled and reconstructed, beside the fully sampled cine."""
    brightest = np.percentile(truth, 99.5)
    titles = ("zero-filled, 8x", "crnn, 8x", "fully sampled")
    pictures = [
        beside(
            [panel(part[t], brightest, title, 1.5) for part, title in zip((before, after, truth), titles, strict=True)]
        )
        for t in range(len(truth))
    ]
    first, *others = [few_greys(picture, 20) for picture in pictures]
    first.save(IMAGES / "heart.gif", save_all=True, append_images=others, duration=60, loop=0, optimize=True)


def draw_reliability(after: Array, deviation: Array, truth: Array) -> None:
    """One frame with its map of the uncertainty and its true error."""
    brightest, t = np.percentile(truth, 99.5), 5
    parts = [
        panel(after[t], brightest, "crnn, 8x", 2),
        panel(deviation[t], brightest / 5, "stated standard deviation, x 5", 2),
        panel(np.abs(after[t] - truth[t]), brightest / 5, "true error, x 5", 2),
    ]
    beside(parts).save(IMAGES / "reliability.png", optimize=True)


def draw_labels(montage: Path) -> None:
    """The first two rows of the montage of crnn segment, eight slices, pixel by pixel, so that its colours are true."""
    whole = Image.open(montage).convert("RGB")
    whole.crop((0, 0, whole.width, round(whole.height * TWO_ROWS))).save(IMAGES / "labels.png", optimize=True)


if __name__ == "__main__":
    main()

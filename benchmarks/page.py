"""Size and speed of the page of ``crnn function`` in headless Chromium: 12 slices x 25 frames of 256 x 256.

python benchmarks/page.py [CINE] [--slices 12] [--frames 25] [--keep FOLDER]

CINE is a short-axis cine that crnn reads, such as the pig cine; it is interpolated to the size asked for, and labelled.
Without it a heart is drawn, with noise. The page is opened from its file several times, each in a browser of its own.
Frames a second: the frame goes on at each repaint of the screen, and those that were drawn are counted; once over one
slice, once with another slice each time, so that no outline is there before. Needs Selenium, Chromium and its driver.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from resources import CRNN, run

from tests.cardiac.hearts import heart
from tests.support.browser import open_browser, requested, set_width

SWEEP = """
const [frames, slices, changing, seconds, done] = arguments;
const viewer = document.querySelector(".viewer"), begin = performance.now();
const move = (name, value) => {
  const slider = document.querySelector("input." + name);
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
};
let steps = 0, drawn = 0, last = "";
const next = () => {
  if (viewer.dataset.drawn !== last) { drawn++; last = viewer.dataset.drawn; }
  if (performance.now() - begin > 1000 * seconds) { done(drawn / seconds); return; }
  move("frame", 1 + steps % frames);
  if (changing) move("slice", 1 + steps % slices);
  steps++;
  requestAnimationFrame(next);
};
requestAnimationFrame(next);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cine", nargs="?", type=Path)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder for cine, labels and page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(exist_ok=True)
        seconds = make_page(folder, arguments.cine, arguments.slices, arguments.frames)
        page = folder / "page.html"
        loads = [load_time(page, folder) for _ in range(arguments.loads)]
        rates = [frames_a_second(page, folder, arguments.frames, arguments.slices, changing) for changing in (0, 1)]
        size = page.stat().st_size / 1e6
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | figure | bar |\n|---|---|---|")
    print(f"| page of {arguments.slices} x {arguments.frames} x 256 x 256 | {size:.2f} MB | 5 MB |")
    print(
        f"| first picture, median of {len(loads)} (worst) | {statistics.median(loads):.2f} s ({max(loads):.2f}) | 1 s |"
    )
    print(f"| frames a second, one slice | {rates[0]:.0f} | 25 |")
    print(f"| frames a second, another slice each time | {rates[1]:.0f} | 25 |")
    print(f"| `crnn function --page` on labels, whole command | {seconds:.1f} s | - |")


def make_page(folder: Path, cine: Path | None, slices: int, frames: int) -> float:
    """Cine, labels and page in a folder; the seconds of the last command."""
    if cine is None:
        labels = heart(frames=frames)
        padded = np.pad(labels.array, ((80, 80), (80, 80), (0, slices - labels.shape[2]), (0, 0)))
        noise = np.random.default_rng(1).normal(0, 12, padded.shape)
        array = np.array([60, 160, 30, 230])[padded] + noise
        affine, step, options = labels.affine, 0.04, ["--labels", "acdc"]
        save(padded, affine, step, folder / "labels.nii.gz")
    else:
        run([*CRNN, "-q", "convert", str(cine), str(folder / "source.nii.gz"), "--force"])
        source = nib.load(folder / "source.nii.gz")
        array = np.asanyarray(source.dataobj).astype(np.float32)
        zoom = [256 / array.shape[0], 256 / array.shape[1], slices / array.shape[2], frames / array.shape[3]]
        array = ndimage.zoom(array, zoom, order=1)
        affine, options = source.affine @ np.diag([*(1 / np.array(zoom[:3])), 1]), []
        step = float(source.header["pixdim"][4]) / zoom[3]
    save(np.clip(array, 0, None).astype(np.int16), affine, step, folder / "cine.nii.gz")
    if cine is not None:
        run(
            [
                *CRNN,
                "-q",
                "segment",
                str(folder / "cine.nii.gz"),
                "--slices",
                "-o",
                str(folder / "labels.nii.gz"),
                "--force",
            ]
        )
    command = [*CRNN, "-q", "function", str(folder / "labels.nii.gz"), "--image", str(folder / "cine.nii.gz"), *options]
    return run([*command, "--page", str(folder / "page.html"), "--force"])[0]


def save(array: np.ndarray, affine: np.ndarray, step: float, path: Path) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = step
    nib.save(image, path)


def opened(page: Path, folder: Path):
    """Browser with the page, once it is drawn."""
    browser = open_browser(folder)
    set_width(browser, 1400)
    browser.get(page.resolve().as_uri())
    while not browser.execute_script("return document.querySelector('.viewer')?.dataset.drawn"):
        time.sleep(0.02)
    assert requested(browser) == [page.resolve().as_uri()], "something was fetched"
    return browser


def load_time(page: Path, folder: Path) -> float:
    """Seconds from the start of the navigation to the first picture."""
    browser = opened(page, folder)
    try:
        return float(browser.execute_script("return performance.getEntriesByName('first-picture')[0].startTime")) / 1000
    finally:
        browser.quit()


def frames_a_second(page: Path, folder: Path, frames: int, slices: int, changing: int) -> float:
    browser = opened(page, folder)
    browser.set_script_timeout(30)
    try:
        return float(browser.execute_async_script(SWEEP, frames, slices, changing, 4))
    finally:
        browser.quit()


if __name__ == "__main__":
    main()

"""DICOM reading: time and memory of a large folder, agreement with dcm2niix, and what mutated files do.

    python benchmarks/dicom.py [--files 5000] [--folders 200] [--mutated 2000] [--data FOLDER]

Everything is generated (`tests/dicom_files.py`): oblique cines of random pixels in random file order. Memory is the
peak beyond what the libraries take, over the size of the pixels. With --data, every DICOM series below a folder is also
compared with what dcm2niix makes of it, or the reason is given why it was refused.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.errors import CrnnError
from crnn_cli.io.dicom.read import list_series, read_dicom
from crnn_cli.io.dicom.series import Series
from crnn_cli.io.formats import is_dicom_file
from crnn_cli.io.nifti.image import read_image
from tests.support.dicom import oblique, values, write_enhanced, write_series


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def large(folder: Path, files: int) -> None:
    """Print time and memory of a folder of files of 256 x 256, and the time of the same in a zip."""
    frames = 25
    slices = files // frames
    picture = values(1, 1, 256, 256)
    place = folder / "series"
    write_series(place, np.broadcast_to(picture, (slices, frames, 256, 256)), oblique(0))
    size = slices * frames * 256 * 256 * 2 / 2**20
    began, before = time.monotonic(), peak_mib()
    series = list_series(place).series[0]
    listed = time.monotonic() - began
    began = time.monotonic()
    image, digest = read_dicom(place)
    read = time.monotonic() - began
    print(f"| {series.files} files of 256 x 256: listed | {listed:.1f} s | 10 s |")
    print(f"| the same, read | {read:.1f} s | 30 s |")
    share = (peak_mib() - before) / size
    print(f"| peak memory beyond the libraries, over the pixels ({size:.0f} MiB) | {share:.2f} | 2 |")
    assert image.shape == (256, 256, slices, frames)
    packed = folder / "series.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in place.iterdir():
            archive.write(file, file.name)
    began = time.monotonic()
    assert read_dicom(packed)[1] == digest
    print(f"| the same in a zip, read | {time.monotonic() - began:.1f} s | 60 s |")


def against_dcm2niix(place: Path, folders: int) -> None:
    """Print how many generated folders dcm2niix reads alike; some lack a frame, and must be refused."""
    if shutil.which("dcm2niix") is None:
        print("| generated folders against dcm2niix | dcm2niix is not installed | all alike |")
        return
    counted: Counter[str] = Counter()
    farthest = 0.0
    for seed in range(folders):
        dice = np.random.default_rng(seed)
        slices, frames = int(dice.integers(2, 9)), int(dice.integers(1, 12))
        holes = {(int(dice.integers(slices)), int(dice.integers(frames)))} if seed % 5 == 0 and frames > 1 else set()
        folder, out = place / f"d{seed}", place / f"o{seed}"
        out.mkdir()
        write_series(
            folder, values(slices, frames, 16, 20, seed), oblique(seed), tuple(dice.uniform(0.5, 3, 2)),
            float(dice.uniform(2, 12)), tuple(dice.uniform(-100, 100, 3)), skip=holes, shuffle=seed,
            each=lambda z, t, n=frames: {"InstanceNumber": 1 + z * n + t},
        )  # fmt: skip
        try:
            ours, _ = read_dicom(folder)
        except CrnnError as error:
            counted["refused, as frames are missing" if holes and "holes" in str(error) else "WRONGLY REFUSED"] += 1
            continue
        subprocess.run(
            ["dcm2niix", "-p", "n", "-z", "n", "-o", out, "-f", "a", folder], capture_output=True, check=True
        )
        (file,) = out.glob("*.nii")
        found = compare_images(ours, read_image(file))
        same = not holes and found.voxels == 0 and found.distance_mm is not None and found.distance_mm < 1e-3
        counted["alike" if same else "DIFFERENT"] += 1
        farthest = max(farthest, found.distance_mm or 0.0)
    told = ", ".join(f"{count} {what}" for what, count in counted.most_common())
    print(f"| {folders} generated folders against dcm2niix | {told}; farthest {farthest:.1g} mm | alike or refused |")


def real(data: Path) -> None:
    """Print every DICOM series below a folder beside what dcm2niix makes of it."""
    print("| series | grid | mm from dcm2niix | from the header's positions: ours | dcm2niix's | values differ by |")
    print("|---|---|---|---|---|---|")
    for folder in sorted({file.parent for file in data.rglob("*") if file.is_file() and is_dicom_file(file)}):
        with tempfile.TemporaryDirectory() as out:
            command = ["dcm2niix", "-p", "n", "-z", "n", "-o", out, "-f", "%s_%p", folder]
            subprocess.run(command, capture_output=True, check=False)
            theirs = [read_image(file) for file in sorted(Path(out).glob("*.nii"))]
            for series in list_series(folder).series:
                name = f"{folder.relative_to(data)}, {series.number}"
                print(f"| {name} | {_against(folder, series, theirs)} |")


def _against(folder: Path, series: Series, theirs: list[Image]) -> str:
    """Return the cells of a series: its grid and how far it differs, or why it was refused."""
    try:
        image, _ = read_dicom(folder, str(series.number))
    except CrnnError as error:
        return f"refused: {' '.join(str(error).split('cannot be read: ')[-1].split())} | | | |"
    grid = " x ".join(map(str, image.shape))
    pairs = [(compare_images(image, other), other) for other in theirs]
    fitting = [pair for pair in pairs if pair[0].distance_mm is not None]
    if not fitting:
        return f"{grid} | dcm2niix makes no such grid | {_from_header(image, series):.1e} | | "
    found, other = min(fitting, key=lambda pair: pair[0].distance_mm)
    places = " | ".join(f"{_from_header(one, series):.1e}" for one in (image, other))
    return f"{grid} | {found.distance_mm:.1e} | {places} | {found.difference:.2g}"


def _from_header(image: Image, series: Series) -> float:
    """Return how far the first pixel of a slice lies from where the header has it, at most, in mm."""
    header = np.array([row[0].position for row in series.grid]) * [-1, -1, 1]
    farthest = []
    for x, y in product((0, image.shape[0] - 1), (0, image.shape[1] - 1)):
        z = np.arange(image.shape[2])
        voxels = np.stack([np.full_like(z, x), np.full_like(z, y), z, np.ones_like(z)])
        placed = (image.affine @ voxels)[:3].T
        farthest += [np.linalg.norm(header - line, axis=1).max() for line in (placed, placed[::-1])]
    return float(min(farthest))


def mutated(place: Path, count: int) -> None:
    """Print what becomes of files with bytes overwritten, inserted or cut off."""
    write_series(place / "classic", values(1, 1, 16, 16))
    write_enhanced(place / "enhanced.dcm", values(2, 3, 16, 16), oblique(1))
    whole = [next((place / "classic").iterdir()).read_bytes(), (place / "enhanced.dcm").read_bytes()]
    ended: Counter[str] = Counter()
    slowest, before = 0.0, peak_mib()
    victim = place / "victim"
    signal.signal(signal.SIGALRM, _too_slow)
    for seed in range(count):
        victim.write_bytes(_mutate(whole[seed % 2], np.random.default_rng(seed)))
        began = time.monotonic()
        signal.alarm(10)
        try:
            read_dicom(victim)
            ended["read"] += 1
        except CrnnError as error:
            ended[type(error).__name__] += 1
        except TimeoutError:
            ended["HANG"] += 1
        except Exception as error:
            ended[f"TRACEBACK {type(error).__name__} (seed {seed})"] += 1
        signal.alarm(0)
        slowest = max(slowest, time.monotonic() - began)
    told = ", ".join(f"{n} {what}" for what, n in ended.most_common())
    print(f"| {count} mutated files | {told}; slowest {slowest:.2f} s; growth {peak_mib() - before:.0f} MiB | "
          "no traceback, 10 s, 1 GiB |")  # fmt: skip


def _mutate(content: bytes, dice: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(dice.integers(1, 9))):
        at, length = int(dice.integers(128, len(data))), int(dice.integers(1, 9))
        kind = int(dice.integers(4))
        if kind == 0:
            data[at : at + length] = dice.bytes(length)
        elif kind == 1:
            data[at:at] = dice.bytes(length)
        elif kind == 2:
            data[at] ^= 1 << int(dice.integers(8))
        else:
            data[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(data[: int(dice.integers(132, len(data) + 1))] if dice.random() < 0.25 else data)


def _too_slow(number: int, frame: object) -> None:
    raise TimeoutError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--folders", type=int, default=200)
    parser.add_argument("--mutated", type=int, default=2000)
    parser.add_argument("--data", type=Path, help="folder of real series to compare with dcm2niix")
    options = parser.parse_args()
    if options.files or options.folders or options.mutated:
        print("| what | figure | bar |\n|---|---|---|")
    for part, count in ((large, options.files), (against_dcm2niix, options.folders), (mutated, options.mutated)):
        if count:
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder), count)
    if options.data is not None:
        real(options.data)


if __name__ == "__main__":
    main()

"""A field of view smaller than the object: two sets of coil sensitivities, against BART with one and with two.

Cases     half: phantom of `crnn simulate` with every second line left out: it folds onto half the field of view;
          tight: phantom whose field of view along y is 0.8 of the body. 8 coils, noise of 1/30 of the blood in each
          part, lines `variable_density` at 4x. With --data two static brain scans of 8 coils, every second line of ky
          left out (true folding), and of the rest every second outside the 24 central ones.
Truth     root of the sum of squares of the coil images: noise-free for phantoms, of all lines kept for brains.
Maps      ESPIRiT from the time average: ours (`map_sets` auto, and 1), and `bart ecalib -m 1` and `-m 2`.
Methods   sense and tv, at the best weight of a ladder for each program and number of sets, chosen with the truth; for
          BART also with maps cropped (its default) or not; crnn, which is told nothing.
Measure   PSNR of the root of the sum of squares of the components, data range the maximum of the truth.

python benchmarks/two_maps.py [--data DATA] [--cases half tight npy cfl] [--models cine-crnn] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.compute.device import has_native_bfloat16
from crnn_cli.io.kspace.read import read_raw
from crnn_cli.mri.classical import METHODS
from crnn_cli.mri.coils import calibration_block
from crnn_cli.mri.fourier import kspace_to_image
from crnn_cli.mri.map_sets import estimate_map_sets, visible_components
from crnn_cli.mri.noise import noise_deviation
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from crnn_cli.mri.sampling import variable_density
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import ClassicalReconstructor, NetworkReconstructor
from crnn_cli.reconstruction.settings import InferenceSettings

CROPS = (0.8, 0)  # of the eigenvalue maps: the default of `bart ecalib`, and none
SENSE, TV = (1e-3, 1e-2, 3e-2, 0.1), (3e-3, 1e-2, 3e-2, 6e-2)
SNR, FRAMES = 30, 10
Case = tuple[Tensor, Tensor, Tensor]  # k-space (1, C, T, Y, X), mask (1, T, Y, 1), truth (T, Y, X)


def combined(images: Tensor) -> Tensor:
    return images.abs().square().sum(0).sqrt()


def phantom(name: str) -> Case:
    grid = Grid(128, 128, 360 / 128) if name == "half" else Grid(128, 96, 0.8 * 264 / 96)
    clean = simulate_slice(PhantomScan(grid, FRAMES, 1, 8, seed=3), 0).kspace_CTYX
    clean = clean[:, :, ::2] if name == "half" else clean
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator) * 2**0.5 / SNR
    mask = variable_density(FRAMES, clean.shape[2], 4, generator)[None, :, :, None] > 0
    return ((clean + noise)[None] * mask[:, None], mask, combined(kspace_to_image(clean)))


def brain(name: str, data: Path) -> Case:
    file, axes = ("cartesian_ksp.npy", "coil,ky,kx") if name == "npy" else ("ksp.cfl", None)
    kspace = torch.from_numpy(read_raw(data / "kspace" / file, axes, None, None, None).read(0).kspace_CTYX)
    kspace = kspace / kspace_to_image(kspace).abs().square().sum(0).sqrt().max()
    centre = kspace.shape[2] // 2
    kspace = kspace[:, :, centre % 2 :: 2]
    kspace = kspace[..., : kspace.shape[-2] // 4 * 4, :] if kspace.shape[-2] % 4 else kspace
    lines = kspace.shape[2]
    mask = torch.zeros(1, 1, lines, 1, dtype=torch.bool)
    mask[:, :, lines // 2 % 2 :: 2] = True
    mask[:, :, lines // 2 - 12 : lines // 2 + 12] = True
    return kspace[None] * mask[:, None], mask, combined(kspace_to_image(kspace))


def psnr(images: Tensor, truth: Tensor) -> float:
    error = (combined(images) - truth).square().mean()
    return float(10 * torch.log10(truth.max() ** 2 / error))


def ours(case: Case, sets: int | None, models: list[str]) -> dict[str, float]:
    """Return the PSNR of each method, and the number of sets."""
    kspace, mask, truth = case
    deviation = noise_deviation(kspace, mask)
    block = calibration_block(kspace[0], mask[0])
    frames = float(mask.sum(1).max())
    maps, _ = estimate_map_sets(block, tuple(kspace.shape[-2:]), sets, deviation / frames**0.5)
    measured = SliceMeasurement(kspace, mask, maps, deviation, map_sets=len(maps))

    def scored(method: Callable[..., object]) -> float:
        images = method(measured, lambda: None).images_BTYX
        return psnr(visible_components(images, maps), truth)

    found = {"sets": len(maps)}
    for name, ladder in (("sense", SENSE), ("tv", TV)):
        found[name] = max(scored(ClassicalReconstructor(name, w, METHODS[name].iterations)) for w in ladder)
    for model in models if kspace.shape[2] > 1 else []:
        bundle = find_bundle(model, "reconstruct")
        network = load_reconstruction(bundle, torch.device("cpu"))
        half = bundle.bfloat16 and has_native_bfloat16(torch.device("cpu"))
        recipe = InferenceSettings(bundle.initial_image, bundle.input_rms, network.config.iterations, bfloat16=half)
        found[model] = scored(NetworkReconstructor(network, recipe))
    return found


def write_cfl(stem: Path, array: np.ndarray) -> None:
    stem.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(stem.with_suffix(".cfl"))


def read_cfl(stem: Path) -> np.ndarray:
    shape = [int(n) for n in stem.with_suffix(".hdr").read_text().split("\n")[1].split()]
    return np.fromfile(stem.with_suffix(".cfl"), np.complex64).reshape(shape, order="F")


def barts(case: Case, sets: int) -> dict[str, float]:
    """Return the PSNR of BART's sense and total variation with a number of sets of ESPIRiT maps."""
    kspace, mask, truth = case
    _, coils, frames, lines, columns = kspace.shape
    mean = kspace[0].sum(1) / mask[0].sum(0).clamp_min(1)
    found: dict[str, float] = {"sets": sets}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cfl(folder / "mean", mean.numpy().transpose(2, 1, 0)[:, :, None])
        placed = kspace[0].numpy().transpose(3, 2, 0, 1)  # x, y, coil, t
        write_cfl(folder / "k", placed.reshape(columns, lines, 1, coils, *[1] * 6, frames))
        pattern = np.broadcast_to(mask[0, :, :, 0].numpy().T, (columns, lines, frames))
        write_cfl(folder / "p", pattern.reshape(columns, lines, *[1] * 8, frames))
        along = "R T:1024:0:" if frames > 1 else "R T:3:0:"
        for method, ladder in (("sense", SENSE), ("tv", TV)):
            tried = []
            for crop, weight in itertools.product(CROPS, ladder):
                asked = f"bart ecalib -m {sets} -c {crop} mean m".split()
                subprocess.run(asked, cwd=folder, check=True, capture_output=True)
                how = f"-l2 -r {weight} -i 50" if method == "sense" else f"-i 60 -{along}{weight}"
                asked = f"bart pics -w 1 {how} -p p k m out".split()
                subprocess.run(asked, cwd=folder, check=True, capture_output=True)
                out = read_cfl(folder / "out")
                out = out.reshape((out.shape + (1,) * 11)[:11])[:, :, 0, 0, :, 0, 0, 0, 0, 0, :]
                tried.append(psnr(torch.from_numpy(out.transpose(2, 3, 1, 0).copy()), truth))
            found[method] = max(tried)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with kspace/; without it, the phantoms alone")
    parser.add_argument("--cases", nargs="+", default=["half", "tight", "npy", "cfl"])
    parser.add_argument("--models", nargs="+", default=["cine-crnn-fast", "cine-crnn"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    columns = ["sense", "tv", *options.models]
    print("| case | program | sets | " + " | ".join(columns) + " |\n|" + "---|" * (3 + len(columns)))
    with torch.no_grad():
        for name in options.cases:
            if name in ("npy", "cfl") and options.data is None:
                continue
            case = phantom(name) if name in ("half", "tight") else brain(name, options.data)
            for program, sets in (("crnn", None), ("crnn", 1), ("BART", 2), ("BART", 1)):
                found = barts(case, sets) if program == "BART" and sets else ours(case, sets, options.models)
                rows.append({"case": name, "program": program} | {k: round(v, 2) for k, v in found.items()})
                cells = [f"{found[each]:.2f}" if each in found else "-" for each in columns]
                print(f"| {name} | {program} | {found['sets']} | " + " | ".join(cells) + " |", flush=True)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

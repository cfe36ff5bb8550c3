"""Several coils: crnn against total variation, locally low rank and CG-SENSE at their best weights.

Cases     pig cine (CC0; never trained on), slices 2, 5 and 7, 256 x 256 x 20, as in quality.py; and the phantom of
          `crnn simulate`, 256 x 256 x 25, one slice, seed 1; phantom-2 and so on are others, by their seeds.
Data      coils around the body (`mri.phantom.scan.coil_sensitivities`), divided by the root of the sum of their
          squares; truth times a smooth phase; noise in every coil of 1/100 of the brightest pixel (standard deviation
          of each of its parts); lines `variable_density`, seeded by case and acceleration.
Maps      estimated by ESPIRiT from the time average, as `crnn reconstruct` does; --true-maps: those of the data.
Weights   tv, llr and sense: the best of a ladder by factors of 2 (sense 10) for each case and acceleration, chosen with
          the truth on 64 columns in the middle of the readout; crnn is told nothing, and estimates the noise.
Measure   PSNR of the magnitude, data range the maximum of the truth, over the whole sequence.

python benchmarks/multicoil.py --data DATA [--coils 8] [--accelerations 8 12] [--json FILE]
python benchmarks/multicoil.py --data DATA --counts 1 2 4 8 16 32 --cases pig-5 --accelerations 8 --methods crnn
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from pathlib import Path

import torch
from classical import LADDERS, ladder
from quality import make_problem, read_cases
from torch import Tensor

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.compute.device import has_native_bfloat16
from crnn_cli.mri.classical import METHODS
from crnn_cli.mri.coils import calibration_block, normalise_maps
from crnn_cli.mri.espirit import espirit
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.noise import noise_deviation
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, coil_sensitivities, simulate_slice
from crnn_cli.mri.sampling import variable_density
from crnn_cli.reconstruction.ensemble import Ensemble
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import ClassicalReconstructor, NetworkReconstructor
from crnn_cli.reconstruction.settings import InferenceSettings

COLUMNS = 64


def truths(data: Path | None, wanted: list[str]) -> dict[str, Tensor]:
    """Return complex sequences (1, T, Y, X) that peak at 1."""
    found = {}
    for name in (name for name in wanted if name.startswith("phantom")):
        seed = int(name.partition("-")[2] or 1)
        truth = simulate_slice(PhantomScan(Grid(256, 256, 1.5), 25, seed=seed), 0).truth_TYX
        found[name] = (truth / truth.abs().max())[None]
    pigs = [name for name in wanted if name.startswith("pig")]
    if pigs and data is not None:
        cases = read_cases(data, range(0), with_pig=True)
        found |= {name: make_problem(name, cases[name], 8).truth_BTYX for name in pigs}
    return found


def scanned(
    name: str, truth: Tensor, coils: int, acceleration: float, true_maps: bool, deviation: float = 0.01
) -> SliceMeasurement:
    """Return what the coils measure, with a deviation of the noise in each of its parts."""
    frames, lines, columns = truth.shape[1:]
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {acceleration:g}".encode()))
    mask = variable_density(frames, lines, acceleration, generator)[None, :, :, None]
    modulations = coil_sensitivities(coils)
    maps = normalise_maps(torch.stack([m.sampled(Grid(columns, lines, 1.0)) for m in modulations]).to(torch.complex64))
    kspace = image_to_kspace(truth[:, None] * maps[None, :, None])
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    kspace = (kspace + noise * 2**0.5 * deviation) * mask[:, None]
    found = noise_deviation(kspace, mask)
    if coils == 1:
        return SliceMeasurement(kspace, mask, deviation=found)
    if not true_maps:
        maps, _ = espirit(calibration_block(kspace[0], mask[0]), (lines, columns))
    return SliceMeasurement(kspace, mask, maps[None], found)


def middle(measured: SliceMeasurement) -> SliceMeasurement:
    """Return the data of the middle columns."""
    part = slice(measured.kspace_BCTYX.shape[-1] // 2 - COLUMNS // 2, None)
    part = slice(part.start, part.start + COLUMNS)
    kspace = image_to_kspace(kspace_to_image(measured.kspace_BCTYX, (-1,))[..., part].contiguous(), (-1,))
    maps = None if measured.maps_BCYX is None else measured.maps_BCYX[..., part].contiguous()
    return SliceMeasurement(kspace, measured.mask_BTYX, maps, measured.deviation)


def psnr(image: Tensor, truth: Tensor) -> float:
    error = (image.abs() - truth.abs()).square().mean()
    return float(10 * torch.log10(truth.abs().max() ** 2 / error))


def run(name: str, measured: SliceMeasurement, truth: Tensor, model: str | None, copies: int) -> dict:
    """Return the PSNR of a method, its best weight and its seconds."""
    if name == "crnn":
        bundle = find_bundle(model, "reconstruct")
        network = load_reconstruction(bundle, torch.device("cpu"))
        half = bundle.bfloat16 and has_native_bfloat16(torch.device("cpu"))
        recipe = InferenceSettings(bundle.initial_image, bundle.input_rms, network.config.iterations, bfloat16=half)
        method = Ensemble(NetworkReconstructor(network, recipe), copies)
        found = {"weight": None, "sha256": bundle.sha256[:12], "bf16": half, "ensemble": copies}
    else:
        few, columns = middle(measured), truth.shape[-1]
        known = truth[..., columns // 2 - COLUMNS // 2 : columns // 2 + COLUMNS // 2]

        def tried(weight: float) -> Tensor:
            return ClassicalReconstructor(name, weight, METHODS[name].iterations)(few, lambda: None).images_BTYX

        best = ladder(tried, lambda image: psnr(image, known), LADDERS[name])
        method, found = (
            ClassicalReconstructor(name, best["weight"], METHODS[name].iterations),
            {"weight": best["weight"]},
        )
    began = time.monotonic()
    image = method(measured, lambda: None).images_BTYX
    return found | {"psnr": round(psnr(image, truth), 3), "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with pig_cine_sax/; without it, the phantom alone")
    parser.add_argument("--cases", nargs="+", default=["phantom", "pig-2", "pig-5", "pig-7"])
    parser.add_argument("--counts", nargs="+", type=int, default=[8], help="numbers of coils")
    parser.add_argument("--accelerations", nargs="+", type=float, default=[8, 12])
    parser.add_argument("--methods", nargs="+", default=["sense", "llr", "tv", "crnn"])
    parser.add_argument("--model", help="bundle of crnn")
    parser.add_argument("--ensemble", type=int, default=1, help="flipped copies that crnn averages over")
    parser.add_argument("--true-maps", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with torch.no_grad():
        for case, truth in truths(options.data, options.cases).items():
            for coils in options.counts:
                for acceleration in options.accelerations:
                    measured = scanned(case, truth, coils, acceleration, options.true_maps)
                    for name in options.methods:
                        row = {"case": case, "coils": coils, "acceleration": acceleration, "method": name}
                        rows.append(row | run(name, measured, truth, options.model, options.ensemble))
                        print(rows[-1], flush=True)
                        if options.json:
                            options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n| coils | R | method | mean PSNR | cases |\n|---|---|---|---|---|")
    for key in dict.fromkeys((r["coils"], r["acceleration"], r["method"]) for r in rows):
        some = [r["psnr"] for r in rows if (r["coils"], r["acceleration"], r["method"]) == key]
        print(f"| {key[0]} | {key[1]:g}x | {key[2]} | {sum(some) / len(some):.2f} | {len(some)} |")


if __name__ == "__main__":
    main()

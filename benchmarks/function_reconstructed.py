"""Numbers of the heart before and after a reconstruction, and whether the reconstruction's interval holds the shift.

python benchmarks/function_reconstructed.py DATA --out FOLDER [--undersample 8 12] [--patients 21 42] [--pig]
    [--model cine-crnn] [--labels cardiac-sax-clstm] [--runs 4]

DATA holds the folders acdc_cine, acdc_labelled, acdc_groups (see benchmarks/heart.py) and pig_cine_sax. Every 4-D cine
whose voxel size is known, but those of the test patients, and that of the pig (--pig: it alone; --patients: these
alone) is measured by `crnn.function` as it is and reconstructed from so many times fewer lines, each with the frames
that it finds itself. A case is one cine at one acceleration; each is written to a JSON of its own in FOLDER, and what
lies there is not computed again. The table is of all cases in FOLDER; without runs (--runs 0) a case has a shift and no
interval.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from function import known_cines

import crnn_cli as crnn
from crnn_cli.cardiac.function import CardiacFunction
from crnn_cli.io.atomic_write import Output, write_together

NUMBERS = ("left.ejection_fraction", "right.ejection_fraction", "left.edv", "left.esv", "right.edv", "right.esv")
PIG = "pig"
FULL = 1.0


def cines(data: Path, patients: list[int] | None, pig: bool) -> Iterator[tuple[str, crnn.Image]]:
    """Name and images of every cine."""
    for name, cine, spacing in () if pig else known_cines(data, patients):
        yield name, replace(cine, affine=np.diag([*spacing, 1.0]), pixdim=None)
    if pig or not patients:
        yield PIG, crnn.load(data / "pig_cine_sax")


def facts_of(heart: CardiacFunction) -> dict[str, Any]:
    """Numbers of a heart, and those of each run where there were any."""
    quantities = heart.quantities()
    listed = {name: quantities[name.partition(".")[0]][name.partition(".")[2]].as_json() for name in NUMBERS}
    runs = None if heart.intervals is None else heart.intervals.runs
    return {
        "numbers": listed, "frames": [heart.phases.ed + 1, heart.phases.es + 1],
        "runs": None if runs is None else {name: runs.numbers.get(name) for name in NUMBERS},
    }  # fmt: skip


def measure(cine: crnn.Image, times: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Numbers of a cine at an acceleration, 1 for the cine as it is."""
    began = time.perf_counter()
    if times == FULL:
        return facts_of(crnn.function(cine, model=arguments.labels))
    asked = {"uncertainty_runs": arguments.runs, "keep_runs": True} if arguments.runs else {"hold_out_folds": 0}
    result = crnn.reconstruct(cine, undersample=times, model=arguments.model, **asked)
    reconstructed = time.perf_counter()
    heart = crnn.function(result.images, runs=result.runs if arguments.runs else None, model=arguments.labels)
    seconds = [round(each, 1) for each in (reconstructed - began, time.perf_counter() - reconstructed)]
    quality = result.report["quality_against_truth"]["reconstructed"]
    return facts_of(heart) | {"seconds": seconds, "psnr_db": quality["psnr_db"], "model": arguments.model}


def compute(arguments: argparse.Namespace) -> None:
    """Compute the cases that are not in the folder yet."""
    for name, cine in cines(arguments.data, arguments.patients, arguments.pig):
        for times in (FULL, *arguments.undersample):
            target = arguments.out / f"{name}_{times:g}x.json"
            if target.exists():
                continue
            try:
                facts = measure(cine, times, arguments)
            except crnn.CrnnError as error:
                facts = {"refused": str(error)}
            write_together([Output(target, (json.dumps(facts, indent=1) + "\n").encode())])
            print(name, f"{times:g}x", facts.get("refused") or [facts["numbers"][n]["value"] for n in NUMBERS[:2]],
                  facts.get("seconds", ""), flush=True)  # fmt: skip


def shifts(folder: Path, times: str, number: str) -> list[tuple[str, float, float | None]]:
    """Name, shift, and half width of the reconstruction's part, of every cine whose number is known in both."""
    found = []
    for file in sorted(folder.glob(f"*_{times}.json")):
        name = file.name.removesuffix(f"_{times}.json")
        both = [json.loads((folder / f"{name}_{each}.json").read_text()) for each in ("1x", times)]
        values = [each["numbers"][number] for each in both if "numbers" in each]
        if len(values) == len(both) and None not in (values[0]["value"], values[1]["value"]):
            half = values[1].get("parts", {}).get("reconstruction")
            found.append((name, values[1]["value"] - values[0]["value"], half))
    return found


def show(folder: Path) -> None:
    """Print shifts and coverage as Markdown."""
    sets = sorted(
        {file.stem.rpartition("_")[2] for file in folder.glob("*_*x.json")} - {"1x"}, key=lambda t: float(t[:-1])
    )
    print("\n| acceleration | number | cines | shift, median | worst | interval holds it | half width, median |")
    print("|---|---|---|---|---|---|---|")
    for times in sets:
        for number in NUMBERS:
            rows = shifts(folder, times, number)
            if not rows:
                continue
            moved = np.abs([shift for _, shift, _ in rows])
            worst, held = rows[int(moved.argmax())][0], [abs(s) <= half for _, s, half in rows if half is not None]
            widths = [half for *_, half in rows if half is not None]
            unit = "points" if number.endswith("fraction") else "ml"
            width, share = (f"{np.median(widths):.1f} {unit}", f"{sum(held)} of {len(held)}") if widths else ("-", "-")
            print(f"| {times} | {number} | {len(rows)} | {np.median(moved):.1f} {unit} | {moved.max():.1f} ({worst}) | "
                  f"{share} | {width} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the cases")
    parser.add_argument("--undersample", type=float, nargs="+", default=[8.0, 12.0])
    parser.add_argument("--patients", type=int, nargs="+", help="of these cines alone")
    parser.add_argument("--pig", action="store_true", help="of the pig alone")
    parser.add_argument("--model", default="cine-crnn", help="of the reconstruction")
    parser.add_argument("--labels", default="cardiac-sax-clstm", help="model of the labels")
    parser.add_argument("--runs", type=int, default=4, help="0: shifts alone, a fifth of the time and no interval")
    arguments = parser.parse_args()
    logging.getLogger("crnn").setLevel("ERROR")  # what is doubtful about each patient
    arguments.out.mkdir(parents=True, exist_ok=True)
    compute(arguments)
    show(arguments.out)


if __name__ == "__main__":
    main()

"""Numbers of the heart from manual labels and from the labels of a model, patient by patient.

python benchmarks/function.py DATA [--model BUNDLE] [--split val] [--json FILE]
python benchmarks/function.py DATA --cines [--model BUNDLE] [--patients 21 42] [--json FILE]

DATA as for benchmarks/heart.py, whose split it takes. The two labelled frames of a patient make a series of two frames.
The truth is the manual labels, measured in the same way. Also told: ejection fractions by group, to compare with those
published for the set.

--cines labels every frame of the 4-D cines in DATA/acdc_cine, but those of the test patients: how far the end-diastolic
and end-systolic frame that are found lie from those that the set lists, around the cycle, by how much the mass of the
myocardium varies over it (and that of the manual labels between their two frames), what is left of the curves beside
four harmonics, and the largest step of the right ventricle from one frame to the next. The frames are one patient's
own; the lists are of the set's authors.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from heart import GROUPS, TEST, acdc, group_of, split_of

import crnn_cli as crnn
from crnn_cli.cardiac.chambers import find_chambers
from crnn_cli.cardiac.function import assess_function
from crnn_cli.cardiac.volume_curves import roughness
from crnn_cli.labels.overlap import as_labels

NAMES = {
    ("left", "ejection_fraction"): "LVEF", ("left", "edv"): "LV EDV", ("left", "esv"): "LV ESV",
    ("left", "mass_ed"): "mass", ("right", "ejection_fraction"): "RVEF", ("right", "edv"): "RV EDV",
    ("right", "esv"): "RV ESV",
}  # fmt: skip


def figures(frames: list, grid: crnn.Image) -> dict[str, float | None]:
    """Numbers of a series of label frames."""
    series = crnn.Image(np.stack(frames, -1), grid.affine, None, grid.codes, pixdim=grid.pixdim)
    quantities = crnn.function(series, labels="acdc", ed=1, es=2).quantities()
    return {name: quantities[side][key].value for (side, key), name in NAMES.items()}


def measure(data: Path, model: str, split: str) -> list[dict]:
    """Manual and automatic numbers of every patient of a split."""
    bundle, found = crnn.load_model(model), []
    listed = [each for each in acdc(data) if each.split == split]
    for patient in sorted({each.subject for each in listed}):
        frames = [each for each in listed if each.subject == patient]
        manual = [
            as_labels(crnn.load(labels).array, labels.name).astype(np.uint8)
            for labels in (each.labels for each in frames)
        ]
        images = [crnn.load(each.image) for each in frames]
        if figures(manual, images[0])["LVEF"] < 0:  # the frames are listed in the order of time, not of size
            manual, images = manual[::-1], images[::-1]
        made = [crnn.segment(image, model=bundle).array for image in images]
        truth, ours = figures(manual, images[0]), figures(made, images[0])
        found.append({"patient": patient, "group": frames[0].group, "manual": truth, "model": ours})
        print(patient, {name: (truth[name] and round(truth[name]), ours[name] and round(ours[name])) for name in truth})
    return found


def show(found: list[dict]) -> None:
    """Print errors by number, and ejection fractions by group, as Markdown."""
    print("\n| number | patients | refused | mean absolute error | bias | r |\n|---|---|---|---|---|---|")
    for name in NAMES.values():
        pairs = [(row["manual"][name], row["model"][name]) for row in found if row["manual"][name] is not None]
        kept = np.array([pair for pair in pairs if pair[1] is not None])
        error = kept[:, 1] - kept[:, 0]
        relative = "" if name.endswith("EF") else f" ({100 * np.mean(np.abs(error) / kept[:, 0]):.1f} %)"
        unit = "points" if name.endswith("EF") else "g" if name == "mass" else "ml"
        print(f"| {name} | {len(kept)} | {len(pairs) - len(kept)} | {np.abs(error).mean():.1f} {unit}{relative} | "
              f"{error.mean():+.1f} | {np.corrcoef(kept.T)[0, 1]:.3f} |")  # fmt: skip
    print("\n| group | patients | LVEF manual | LVEF model |\n|---|---|---|---|")
    for group in GROUPS:
        rows = [row for row in found if row["group"] == group]
        if rows:
            means = [
                np.mean([row[who]["LVEF"] for row in rows if row[who]["LVEF"] is not None])
                for who in ("manual", "model")
            ]
            print(f"| {group} | {len(rows)} | {means[0]:.1f} | {means[1]:.1f} |")


def listed_frames(file: Path) -> tuple[int, int]:
    """End-diastolic and end-systolic frame, from 1, as an Info.cfg states them."""
    facts = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    return int(facts["ED"]), int(facts["ES"])


def spacing_of(cine: crnn.Image, patient: str, data: Path) -> tuple[float, ...] | None:
    """Voxel size in mm: of the cine, or where its header has lost it, of the labelled frames; None if both have."""
    candidates = [cine.spacing, *(crnn.load(each.image).spacing for each in acdc(data) if each.subject == patient)]
    return next((spacing for spacing in candidates if spacing != (1.0, 1.0, 1.0)), None)


def manual_variation(patient: str, data: Path) -> float:
    """Per cent by which the manual volume of the myocardium differs between the two labelled frames."""
    sizes = [int((as_labels(crnn.load(each.labels).array, each.labels.name) == 2).sum())
             for each in acdc(data) if each.subject == patient]  # fmt: skip
    return round(100 * float(np.ptp(sizes) / np.median(sizes)), 1)


def distance(found: int, listed: int, frames: int) -> int:
    """Frames between two, around the cycle."""
    return min((found - listed) % frames, (listed - found) % frames)


def percent(share: float | None) -> float | None:
    """A share in percent, to one digit; None stays so."""
    return None if share is None else round(100 * share, 1)


def known_cines(data: Path, patients: list[int] | None) -> Iterator[tuple[str, crnn.Image, tuple[float, ...]]]:
    """Patient, cine and voxel size in mm of every cine whose size is known; none of the test patients."""
    for file in sorted((data / "acdc_cine").glob("patient???_4d.nii.gz")):
        name, number = file.name[:10], int(file.name[7:10])
        if number in TEST or (patients and number not in patients):
            continue
        cine = crnn.load(file)
        spacing = spacing_of(cine, name, data)
        if spacing is None:
            print(name, "has lost its spacing, and no labelled frame has it")
            continue
        yield name, cine, spacing


def measure_cines(data: Path, model: str, patients: list[int] | None) -> list[dict]:
    """Phases found and mass over the cycle, of every cine whose voxel size is known."""
    bundle, rows = crnn.load_model(model), []
    for name, cine, spacing in known_cines(data, patients):
        number = int(name[-3:])
        began = time.perf_counter()
        labels = crnn.segment(cine, model=bundle, spacing=spacing)
        seconds = time.perf_counter() - began
        heart = assess_function(labels, find_chambers(labels.names, name))  # also of hearts that the cut has cut
        ed, es = listed_frames(data / "acdc_cine" / f"{name}_info.cfg")
        muscle, left, right = (
            heart.volumes[name].curve for name in ("myocardium", "left ventricle", "right ventricle")
        )
        jump = np.abs(np.diff(right)) / np.maximum(right[:-1], 1.0)
        rows.append({
            "patient": name, "group": group_of(number) if number not in range(36, 41) else "HCM",
            "split": split_of(number), "frames": cine.frames, "seconds": round(seconds, 1),
            "found": [heart.phases.ed + 1, heart.phases.es + 1], "listed": [ed, es],
            "ed_off": distance(heart.phases.ed + 1, ed, cine.frames),
            "es_off": distance(heart.phases.es + 1, es, cine.frames),
            "left_rough": percent(roughness(left)), "right_rough": percent(roughness(right)),
            "right_jump": percent(float(jump.max())),
            "cavity_ml": [round(float(v), 2) for v in left], "right_ml": [round(float(v), 2) for v in right],
            "muscle_ml": [round(float(v), 2) for v in muscle],
            "mass_varies": round(100 * float(np.ptp(muscle) / np.median(muscle)), 1),
            "manual_varies": manual_variation(name, data),
        })  # fmt: skip
        shown = {key: value for key, value in rows[-1].items() if not key.endswith("_ml")}
        print(*shown.values(), flush=True)
    return rows


def show_cines(rows: list[dict]) -> None:
    """Print shares and medians as Markdown."""
    print("\n| patients | cines | ED within 1 frame | ES within 1 frame | both | ED off, worst | ES off, worst | "
          "mass varies, median | at most 8 % | manual, ED to ES: median | at most 8 % | "
          "LV, RV beside 4 harmonics, median | RV step, largest: median, worst | "
          "time |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for title, splits in (("all", ("train", "val")), ("not trained on", ("val",))):
        chosen = [row for row in rows if row["split"] in splits]
        if not chosen:
            continue
        ed, es, mass, manual = (
            np.array([row[key] for row in chosen]) for key in ("ed_off", "es_off", "mass_varies", "manual_varies")
        )
        shares = [f"{100 * np.mean(each):.0f} %" for each in (ed <= 1, es <= 1, (ed <= 1) & (es <= 1))]
        seconds = np.median([row["seconds"] for row in chosen])
        rough = [
            np.median([row[key] for row in chosen if row[key] is not None]) for key in ("left_rough", "right_rough")
        ]
        jumps = [row["right_jump"] for row in chosen]
        print(f"| {title} | {len(chosen)} | {' | '.join(shares)} | {ed.max()} | {es.max()} | {np.median(mass):.1f} % | "
              f"{100 * np.mean(mass <= 8):.0f} % | {np.median(manual):.1f} % | {100 * np.mean(manual <= 8):.0f} % | "
              f"{rough[0]:.1f} %, {rough[1]:.1f} % | "
              f"{np.median(jumps):.0f} %, {max(jumps):.0f} % | {seconds:.1f} s |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="cardiac-sax-clstm")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--cines", action="store_true", help="phases and mass of the 4-D cines")
    parser.add_argument("--patients", type=int, nargs="+", help="of these cines alone")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("crnn").setLevel("ERROR")  # what is doubtful about each patient
    if arguments.cines:
        found = measure_cines(arguments.data, arguments.model, arguments.patients)
        show_cines(found)
    else:
        found = measure(arguments.data, arguments.model, arguments.split)
        show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Numbers of the heart from manual labels and from the labels of a model, patient by patient.

python benchmarks/function.py DATA [--model BUNDLE] [--split val] [--json FILE]
python benchmarks/function.py DATA --manual
python benchmarks/function.py DATA --cines [--model BUNDLE] [--patients 21 42] [--kept FOLDER] [--json FILE]

DATA as for benchmarks/heart.py, whose split it takes. The two labelled frames of a patient make a series of two frames.
The truth is the manual labels, measured in the same way. Also told: ejection fractions by group, to compare with those
published for the set, and by how much the mass of end systole differs from that of end diastole. --manual tells the
latter of the manual labels of all patients but those of the test, and needs no model.

--cines labels every frame of the 4-D cines in DATA/acdc_cine, but those of the test patients: how far the end-diastolic
and end-systolic frame that are found lie from those that the set lists, around the cycle, by how much the mass of the
myocardium varies over it, what is left of the curves beside four harmonics, and the largest step of the right ventricle
from one frame to the next. The frames are one patient's own; the lists are of the set's authors. The cines are cut to
5 to 7 slices in the middle of the heart; a second table tells the change of the myocardium from the listed end diastole
to the listed end systole in the same slices, of the labels of the model and of the manual ones cut in the same way,
where the cut is found again (`crop_of`). --kept keeps the label maps, and takes those that lie there.
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
from crnn_cli.cardiac.chambers import CONVENTIONS, MYOCARDIUM, parse_chambers
from crnn_cli.cardiac.function import assess_function
from crnn_cli.cardiac.volume_curves import roughness
from crnn_cli.labels.overlap import as_labels

NAMES = {
    ("left", "ejection_fraction"): "LVEF", ("left", "edv"): "LV EDV", ("left", "esv"): "LV ESV",
    ("left", "mass_ed"): "mass", ("right", "ejection_fraction"): "RVEF", ("right", "edv"): "RV EDV",
    ("right", "esv"): "RV ESV", ("left", "mass_es"): "mass ES",
}  # fmt: skip
MUSCLE = CONVENTIONS["acdc"][MYOCARDIUM]
CROP = (50, 85, 1)
"""Where the cines are cut from the labelled images, in voxels."""
ALIKE = 0.95
"""Correlation from which on a cut is that of the cine."""
CONSTANT = 8.0
"""Per cent by which the mass may vary."""


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
        unit = "points" if name.endswith("EF") else "g" if name.startswith("mass") else "ml"
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
    show_change({who: [change(row[who]["mass"], row[who]["mass ES"]) for row in found] for who in ("manual", "model")})


def change(ed: float, es: float) -> float:
    """Change from end diastole to end systole, in per cent."""
    return 100 * (es - ed) / ed


def show_change(changes: dict[str, list[float]]) -> None:
    """Print the change of the myocardium from end diastole to end systole as Markdown, by who labelled it."""
    print(f"\n| myocardium, ED to ES | hearts | median | from, to | at most {CONSTANT:g} % |\n|---|---|---|---|---|")
    for who, values in changes.items():
        print(f"| {who} | {len(values)} | {np.median(values):+.1f} % | {min(values):+.1f} %, {max(values):+.1f} % | "
              f"{100 * np.mean(np.abs(values) <= CONSTANT):.0f} % |")  # fmt: skip


def manual_changes(data: Path) -> list[float]:
    """Change of the whole myocardium in the manual labels of every patient that is not of the test."""
    frames = {(each.subject, each.phase): each.labels for each in acdc(data) if each.split != "test"}
    patients = sorted({patient for patient, _ in frames})
    sizes = {key: int((as_labels(crnn.load(file).array, file.name) == MUSCLE).sum()) for key, file in frames.items()}
    return [change(sizes[patient, "ED"], sizes[patient, "ES"]) for patient in patients]


def listed_frames(file: Path) -> tuple[int, int]:
    """End-diastolic and end-systolic frame, from 1, as an Info.cfg states them."""
    facts = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    return int(facts["ED"]), int(facts["ES"])


def spacing_of(cine: crnn.Image, patient: str, data: Path) -> tuple[float, ...] | None:
    """Voxel size in mm: of the cine, or where its header has lost it, of the labelled frames; None if both have."""
    candidates = [cine.spacing, *(crnn.load(each.image).spacing for each in acdc(data) if each.subject == patient)]
    return next((spacing for spacing in candidates if spacing != (1.0, 1.0, 1.0)), None)


def crop_of(cine: crnn.Image, patient: str, data: Path) -> dict[str, np.ndarray] | None:
    """Manual labels of the cine's own slices and pixels, by phase; None where the cut is not found again."""
    box = tuple(slice(start, start + size) for start, size in zip(CROP, cine.array.shape, strict=False))
    listed = dict(zip(("ED", "ES"), listed_frames(data / "acdc_cine" / f"{patient}_info.cfg"), strict=True))
    found = {}
    for each in [each for each in acdc(data) if each.subject == patient]:
        cut, frame = crnn.load(each.image).array[box], cine.array[..., listed[each.phase] - 1]
        if cut.shape != frame.shape or np.corrcoef(cut.ravel(), frame.ravel())[0, 1] < ALIKE:
            return None
        found[each.phase] = as_labels(crnn.load(each.labels).array, each.labels.name)[box]
    return found or None


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


def label(cine: crnn.Image, bundle: object, spacing: tuple[float, ...], kept: Path | None) -> crnn.Image:
    """Labels of a cine, from the file that keeps them if it is there."""
    if kept is not None and kept.exists():
        return crnn.load(kept)
    labels = crnn.segment(cine, model=bundle, spacing=spacing)
    if kept is not None:
        crnn.save(labels, kept)
    return labels


def muscle_changes(labels: crnn.Image, listed: tuple[int, int], manual: dict[str, np.ndarray] | None) -> dict:
    """Change of the myocardium between the listed frames in the cine's slices: of the model, and of manual labels."""
    model = [int((labels.array[..., frame - 1] == MUSCLE).sum()) for frame in listed]
    drawn = None if manual is None else [int((manual[phase] == MUSCLE).sum()) for phase in ("ED", "ES")]
    return {"model_change": round(change(*model), 1), "manual_change": drawn and round(change(*drawn), 1)}


def measure_cines(data: Path, model: str, patients: list[int] | None, kept: Path | None) -> list[dict]:
    """Phases found and mass over the cycle, of every cine whose voxel size is known."""
    bundle, rows = crnn.load_model(model), []
    for name, cine, spacing in known_cines(data, patients):
        number = int(name[-3:])
        began = time.perf_counter()
        labels = label(cine, bundle, spacing, kept and kept / f"{name}.nii.gz")
        seconds = time.perf_counter() - began
        heart = assess_function(labels, parse_chambers("acdc"))  # also of hearts that the cut has cut
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
        } | muscle_changes(labels, (ed, es), crop_of(cine, name, data)))  # fmt: skip
        shown = {key: value for key, value in rows[-1].items() if not key.endswith("_ml")}
        print(*shown.values(), flush=True)
    return rows


def show_cines(rows: list[dict]) -> None:
    """Print shares and medians as Markdown."""
    print("\n| patients | cines | ED within 1 frame | ES within 1 frame | both | ED off, worst | ES off, worst | "
          "mass varies, median | at most 8 % | LV, RV beside 4 harmonics, median | "
          "RV step, largest: median, worst | time |\n|---|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for title, splits in (("all", ("train", "val")), ("not trained on", ("val",))):
        chosen = [row for row in rows if row["split"] in splits]
        if not chosen:
            continue
        ed, es, mass = (np.array([row[key] for row in chosen]) for key in ("ed_off", "es_off", "mass_varies"))
        shares = [f"{100 * np.mean(each):.0f} %" for each in (ed <= 1, es <= 1, (ed <= 1) & (es <= 1))]
        seconds = np.median([row["seconds"] for row in chosen])
        rough = [
            np.median([row[key] for row in chosen if row[key] is not None]) for key in ("left_rough", "right_rough")
        ]
        jumps = [row["right_jump"] for row in chosen]
        print(f"| {title} | {len(chosen)} | {' | '.join(shares)} | {ed.max()} | {es.max()} | {np.median(mass):.1f} % | "
              f"{100 * np.mean(mass <= CONSTANT):.0f} % | {rough[0]:.1f} %, {rough[1]:.1f} % | "
              f"{np.median(jumps):.0f} %, {max(jumps):.0f} % | {seconds:.1f} s |")  # fmt: skip
    both = [row for row in rows if row["manual_change"] is not None]
    show_change({f"{who}, in the slices of the cine": [row[f"{who}_change"] for row in both]
                 for who in ("manual", "model") if both})  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="cardiac-sax-clstm")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--cines", action="store_true", help="phases and mass of the 4-D cines")
    parser.add_argument("--patients", type=int, nargs="+", help="of these cines alone")
    parser.add_argument("--kept", type=Path, help="folder of the label maps of the cines")
    parser.add_argument("--manual", action="store_true", help="mass of the manual labels alone")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("crnn").setLevel("ERROR")  # what is doubtful about each patient
    if arguments.manual:
        found = manual_changes(arguments.data)
        show_change({"manual": found})
    elif arguments.cines:
        if arguments.kept:
            arguments.kept.mkdir(parents=True, exist_ok=True)
        found = measure_cines(arguments.data, arguments.model, arguments.patients, arguments.kept)
        show_cines(found)
    else:
        found = measure(arguments.data, arguments.model, arguments.split)
        show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Labels of a scan from a few drawn slices: a model against the two methods without one.

python benchmarks/drawn.py DATA [--model BUNDLE] [--rows heart hippocampus cines rounds time time-cine] [--split val]
    [--every 5] [--plane axial] [--methods network] [--patients 29] [--minutes 1 | --steps 40] [--json FILE]
    [--config FILE]

DATA as for benchmarks/heart.py, and the folder hippocampus. The drawn slices are manual labels, and Dice is that of the
slices which were not drawn, of each structure. Slices without any label count as named empty.

heart         3 slices drawn of each volume of a split of ACDC: the middles of three equal parts of the labelled slices
              ("inner"), or the first, the middle and the last ("ends")
hippocampus   5 slices drawn, in the same two ways, in slices of ``--plane``; every ``--every``-th volume, each part on
              its own
cines         end-diastolic labels followed through the 4-D cines of the split to end systole (three patients of the
              validation have theirs where it is known to be), by their motion alone as well; processor seconds a cine
rounds        of heart, inner: two slices corrected by the truth, those that are proposed one after the other: share of
              the wrong voxels that is left; and the gain of drawing the proposed slice against three random ones
time          seconds and peak memory of the command on 256 x 256 x 12, untuned and tuned; simulated
time-cine     the same of 256 x 256 x 10 x 30, of which a frame is drawn

With ``--minutes`` or ``--steps`` the network is tuned to each volume of heart and hippocampus too: "tuned" as the
command uses it, for the structures that it labels better in drawn slices left out; "tuned, all" for all of them.
Without ``--model`` the methods without one alone are measured. Rows of all cases go to --json, with the expected and
the true Dice of each. ``--config`` writes what the report of a user goes by into a bundle's config.json: the curve of
the predicted Dice and the gain, of the volumes of heart and hippocampus.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from heart import Labelled, acdc
from heart_quality import curve_of
from heart_reconstructed import frames_of

import crnn_cli as crnn
from crnn_cli.adaptation.drawn_slices import TuneSettings, tune
from crnn_cli.adaptation.drawn_trials import better_tuned
from crnn_cli.bundles.store import find_bundle, load_drawn
from crnn_cli.data.geometry import SliceOrder, slice_order
from crnn_cli.data.image import Image
from crnn_cli.segmentation.drawn.methods import FillMethod, InterpolatedDistances, NearestSlice, RecurrentNetwork
from crnn_cli.segmentation.drawn.motion import moved_shapes
from crnn_cli.segmentation.drawn.next_slice import expected_wrong, next_to_draw
from crnn_cli.segmentation.drawn.series import DrawnSeries, FilledSeries, label_series
from crnn_cli.segmentation.drawn.stack import DrawnStack, FilledStack, FillSettings
from crnn_cli.segmentation.frames import is_closed

CPU = torch.device("cpu")
HEART = {3: "LV", 2: "myo", 1: "RV"}
PARTS = {1: "anterior", 2: "posterior"}
DOUBT_BELOW = 0.75
"""Predicted Dice below which the report of a user warns."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A volume, its slices and their truth; numbers of the structures are those of the manual labels."""

    name: str
    image: Image
    order: SliceOrder
    truth_SYX: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """Slices with a label."""
        return np.flatnonzero(self.truth_SYX.any(axis=(1, 2)))

    def known(self, count: int, where: str) -> np.ndarray:
        """Slices that are drawn, with those that are empty."""
        first, last = self.labelled[0], self.labelled[-1]
        shares = np.linspace(0, 1, count) if where == "ends" else (np.arange(count) + 0.5) / count
        known_S = np.ones(len(self.truth_SYX), bool)
        known_S[first : last + 1] = False
        known_S[np.round(first + shares * (last - first)).astype(int)] = True
        return known_S

    def fill(self, method: FillMethod, known_S: np.ndarray) -> FilledSeries:
        """Label the slices that are not drawn."""
        drawn = np.where(known_S[:, None, None], self.truth_SYX, 0)[None]
        series = DrawnSeries(self.image, self.order, drawn, known_S[None], int(self.truth_SYX.max()))
        return label_series(series, method, FillSettings(series.structures))


def case_of(name: str, image: Path, labels: Path, across: str | int) -> Case:
    """Read a volume and its manual labels."""
    volume = crnn.load(image)
    order = slice_order(volume, across)
    truth = np.asarray(crnn.load(labels).array).round().astype(np.uint8)
    return Case(name, volume, order, np.ascontiguousarray(order.to_slices(truth)))


def dice(found: np.ndarray, true: np.ndarray) -> float | None:
    """Dice of two masks; None where both are empty."""
    size = int(found.sum() + true.sum())
    return 2 * int((found & true).sum()) / size if size else None


def scores(numbers: np.ndarray, truth: np.ndarray, names: dict[int, str]) -> dict[str, float | None]:
    """Dice of each structure."""
    return {name: dice(numbers == value, truth == value) for value, name in names.items()}


def methods_of(model: str | None) -> dict[str, FillMethod]:
    """The methods that are compared."""
    found: dict[str, FillMethod] = {"nearest": NearestSlice(), "distances": InterpolatedDistances()}
    if model is not None:
        found["network"] = RecurrentNetwork(load_drawn(find_bundle(model, "segment-drawn"), CPU), CPU)
    return found


def heart_cases(data: Path, split: str) -> Iterator[Case]:
    """Volumes of a split of ACDC."""
    for each in acdc(data):
        if each.split == split:
            yield case_of(f"{each.subject} {each.phase}", each.image, each.labels, 2)


def hippocampus_cases(data: Path, every: int, plane: str) -> Iterator[Case]:
    """Every so many volumes of the hippocampus."""
    folder = data / "hippocampus"
    for labels in sorted((folder / "labels").glob("*"))[::every]:
        image = next((folder / "images").glob(f"{labels.name.split('.')[0]}*"))
        yield case_of(labels.name.split(".")[0], image, labels, plane)


def measure(cases: Iterator[Case], count: int, names: dict[int, str], methods: dict[str, FillMethod]) -> list[Row]:
    """Dice of slices that are not drawn, by case, place of the drawn slices and method."""
    rows = []
    for case in cases:
        for where in ("inner", "ends"):
            known_S = case.known(count, where)
            open_S = ~known_S
            row: Row = {"case": case.name, "where": where, "slices": len(open_S), "open": int(open_S.sum())}
            for name, method in methods.items():
                began = time.perf_counter()
                made = case.fill(method, known_S)
                row[name] = scores(made.numbers_TSYX[0][open_S], case.truth_SYX[open_S], names)
                if made.certainty is not None:
                    expected = made.certainty[0].expected_dice(open_S)
                    row[f"{name}_expected"] = {label: expected[value - 1] for value, label in names.items()}
                row[f"{name}_seconds"] = round(time.perf_counter() - began, 2)
            rows.append(row)
        print(case.name, {n: _short(rows[-2][n]) for n in methods}, flush=True)
    return rows


def _short(found: dict[str, float | None]) -> list[float | None]:
    return [None if value is None else round(value, 3) for value in found.values()]


def means(rows: list[Row], methods: list[str], title: str) -> None:
    """Print the means as Markdown, and how often, and by how much at most, a method is below the distances."""
    names = list(rows[0][methods[0]])
    print(f"\n| {title} | drawn | {' | '.join(names)} | mean |\n" + "|---" * (3 + len(names)) + "|")
    for where in dict.fromkeys(row["where"] for row in rows):
        of = [row for row in rows if row["where"] == where]
        for method in methods:
            each = [np.mean([row[method][n] for row in of if row[method][n] is not None]) for n in names]
            print(f"| {method} | {where} | {' | '.join(f'{v:.3f}' for v in each)} | {np.mean(each):.3f} |")
        for method in [m for m in methods if m not in ("nearest", "distances") and "distances" in of[0]]:
            lost = [
                row["distances"][n] - row[method][n]
                for row in of for n in names if None not in (row["distances"][n], row[method][n])
            ]  # fmt: skip
            print(f"\n{method}, {where}: {sum(v > 0.01 for v in lost)} of {len(lost)} structures more than 0.01 below "
                  f"the distances, the worst by {max(lost):.3f}\n")  # fmt: skip


def write_config(rows: list[Row], file: Path) -> None:
    """Write the curve of the predicted Dice and the mean Dice of the methods into a bundle's config.json."""
    config = json.loads(file.read_text())
    sha256 = config.pop("sha256")
    pairs = [
        {"expected": row["network_expected"][name], "dice": true}
        for row in rows for name, true in row["network"].items() if true is not None
    ]  # fmt: skip
    expected, true = curve_of(pairs)
    config["quality"] = {"doubt_below": DOUBT_BELOW, "curves": [{"expected": expected, "dice": true}]}
    config["measured"] = {"cases": len({row["case"] for row in rows})} | {
        key: round(float(np.mean([v for row in rows for v in row[method].values() if v is not None])), 3)
        for key, method in {"dice": "network", "nearest": "nearest", "distances": "distances"}.items()
    }
    file.write_text(json.dumps(config | {"sha256": sha256}, indent=2, ensure_ascii=False) + "\n")


def measure_tuned(
    cases: Iterator[Case], count: int, names: dict[int, str], model: str, settings: TuneSettings
) -> list[Row]:
    """The same for the network tuned to each volume, for the structures that it is then used for; inner slices."""
    network, rows = load_drawn(find_bundle(model, "segment-drawn"), CPU), []
    for case in cases:
        known_S = case.known(count, "inner")
        open_S = ~known_S
        drawn = np.where(known_S[:, None, None], case.truth_SYX, 0)[None]
        series = DrawnSeries(case.image, case.order, drawn, known_S[None], int(case.truth_SYX.max()))
        began = time.process_time()
        result = tune(network, [series.stack(0)], settings, CPU)
        better = better_tuned(names, result.trials) if result.used else frozenset()
        row: Row = {"case": case.name, "where": "inner", "used": [names[value] for value in sorted(better)],
                    "steps": result.steps, "best_step": result.best_step, "left_out": [result.before, result.after],
                    "processor_seconds": round(time.process_time() - began, 1)}  # fmt: skip
        tuned = RecurrentNetwork(network, CPU, others=dict.fromkeys(better, result.network))
        all_tuned = RecurrentNetwork(network, CPU, others=dict.fromkeys(names, result.network))
        for name, each in (("distances", InterpolatedDistances()), ("network", RecurrentNetwork(network, CPU)),
                           ("tuned", tuned), ("tuned, all", all_tuned)):  # fmt: skip
            made = case.fill(each, known_S).numbers_TSYX[0]
            row[name] = scores(made[open_S], case.truth_SYX[open_S], names)
        rows.append(row)
        print(*list(row.values())[:7], *(_short(row[name]) for name in ("network", "tuned", "tuned, all")), flush=True)
    return rows


def show_tuned(rows: list[Row], title: str) -> None:
    """Print the means, and how often, and by how much at most, the tuned network is below the untuned one."""
    means(rows, ["distances", "network", "tuned", "tuned, all"], title)
    lost = [
        row["network"][n] - row["tuned"][n]
        for row in rows for n in row["network"] if None not in (row["network"][n], row["tuned"][n])
    ]  # fmt: skip
    print(f"more than 0.01 below untuned: {sum(v > 0.01 for v in lost)} of {len(lost)}, the worst by {max(lost):.3f}")


class MotionAlone:
    """Shapes as the motion carries them through frames, and interpolated distances in a drawn frame."""

    def fill(self, stack: DrawnStack, settings: FillSettings, progress: Callable[[int, int], None]) -> FilledStack:
        """Label a stack."""
        if not stack.over_time:
            return InterpolatedDistances().fill(stack, settings, progress)
        moved = moved_shapes(stack, progress)
        depth_KSYX = np.array([*moved.values()])
        numbers = np.array([*moved])[depth_KSYX.argmax(axis=0)]
        return FilledStack(np.where(depth_KSYX.max(axis=0) > 0, numbers, 0).astype(np.uint8))


def measure_cines(listed: list[Labelled], data: Path, methods: dict[str, FillMethod]) -> list[Row]:
    """End-diastolic labels followed through the cine of each patient: Dice in end systole."""
    rows = []
    for patient in dict.fromkeys(each.subject for each in listed):
        source = data / "acdc_cine" / f"{patient}_4d.nii.gz"
        opened = frames_of(source, [each for each in listed if each.subject == patient]) if source.exists() else None
        if opened is None:
            continue
        cine, ((ed, ed_labels, _), (es, es_labels, _)) = opened
        order = slice_order(cine, 2)
        drawn, truth = (
            np.ascontiguousarray(order.to_slices(np.asarray(each.array).round().astype(np.uint8)))
            for each in (ed_labels, es_labels)
        )
        numbers = np.zeros((cine.frames, *drawn.shape), np.uint8)
        known = np.zeros((cine.frames, len(drawn)), bool)
        numbers[ed], known[ed] = drawn, True
        series = DrawnSeries(cine, order, numbers, known, 3)
        row: Row = {"case": patient, "where": "ED to ES", "frames": cine.frames, "closed": is_closed(cine.array)}
        for name, method in methods.items():
            began = time.process_time()
            made = label_series(series, method, FillSettings(3), bool(row["closed"]))
            row[f"{name}_processor_seconds"] = round(time.process_time() - began, 1)
            row[name] = scores(made.numbers_TSYX[es], truth, HEART)
        rows.append(row)
        seconds = {n: row[f"{n}_processor_seconds"] for n in methods}
        print(patient, cine.array.shape, row["closed"], {n: _short(row[n]) for n in methods}, seconds, flush=True)
    return rows


def proposed(made: FilledSeries, known_S: np.ndarray) -> int | None:
    """The slice to draw next."""
    assert made.certainty is not None
    size_S = (made.numbers_TSYX[0] > 0).sum(axis=(1, 2))
    return next_to_draw(expected_wrong(made.certainty[0].doubtful_S, size_S, known_S), known_S)


def measure_rounds(cases: Iterator[Case], methods: dict[str, FillMethod]) -> list[Row]:
    """Wrong voxels after two proposed slices are drawn, and the gain of the first against random ones."""
    generator, rows = np.random.default_rng(0), []
    method = methods.get("network", methods["distances"])
    for case in cases:
        known_S = case.known(3, "inner")

        def wrong(drawn_S: np.ndarray, case: Case = case) -> tuple[int, FilledSeries]:
            made = case.fill(method, drawn_S)
            return int((made.numbers_TSYX[0] != case.truth_SYX).sum()), made

        first, made = wrong(known_S)
        open_slices = np.flatnonzero(~known_S)
        random = [wrong(_with(known_S, s))[0] for s in generator.permutation(open_slices)[:3]]
        second_S = _with(known_S, proposed(made, known_S))
        after, again = wrong(second_S)
        left = wrong(_with(second_S, proposed(again, second_S)))[0]
        rows.append({
            "case": case.name, "wrong": first, "after_proposed": after, "after_random": random, "after_two": left,
            "left_share": round(left / max(1, first), 3),
        })  # fmt: skip
        print(*rows[-1].values(), flush=True)
    return rows


def _with(known_S: np.ndarray, s: int | None) -> np.ndarray:
    more_S = known_S.copy()
    if s is not None:
        more_S[s] = True
    return more_S


def show_rounds(rows: list[Row]) -> None:
    """Print the means of `measure_rounds`."""
    gain, best = (
        np.mean([(row["wrong"] - after(row)) / max(1, row["wrong"]) for row in rows])
        for after in (lambda row: row["after_proposed"], lambda row: min(row["after_random"]))
    )
    mean = np.mean([(row["wrong"] - np.mean(row["after_random"])) / max(1, row["wrong"]) for row in rows])
    random = f"the best of three random ones {best:.3f}, their mean {mean:.3f}"
    print(f"\nwrong voxels that the proposed slice spares: {gain:.3f} of all; {random}")
    print(f"wrong voxels left after two proposed slices: {np.mean([row['left_share'] for row in rows]):.3f} of all")


def measure_time(model: str | None) -> None:
    """Seconds and memory of the command on 256 x 256 x 12, in processes of their own."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (256, 256, 12)), indexing="ij")
    r = np.hypot(x - 120 - z, y - 130)
    truth = np.where(r < 25 + z, 3, np.where(r < 35 + z, 2, np.where(np.hypot(x - 65, y - 130) < 25, 1, 0)))
    ways = {"untuned": ["--fill", "distances"]} if model is None else {"untuned": [], "tuned": ["--minutes", "2.5"]}
    drawn = truth * np.isin(z, [1, 5, 10])
    _time_command(
        truth, drawn, {title: [*(["--model", model] if model else []), *more] for title, more in ways.items()}
    )


def measure_time_cine(model: str | None) -> None:
    """Seconds and memory of the command on 256 x 256 x 10 x 30, of which the first frame is drawn."""
    x, y, z, t = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (256, 256, 10, 30)), indexing="ij", sparse=True)
    beat = 1 - 0.35 * np.sin(np.pi * t / 30) ** 2
    r = np.hypot(x - 120 - z, y - 130)
    cavity, wall, right = (r < (25 + z) * beat, r < 35 + z, np.hypot(x - 65, y - 130) < 25 * beat)
    truth = np.where(cavity, 3, np.where(wall, 2, np.where(right, 1, 0)))
    way = ["--frames", "1", *(["--model", model] if model else ["--fill", "distances"])]
    _time_command(truth, truth * (t == 0), {"cine": way})


def _time_command(truth: np.ndarray, drawn: np.ndarray, ways: dict[str, list[str]]) -> None:
    """Time the command in some ways, on an image in which the truth can be seen."""
    noise = np.random.default_rng(0).normal(0, 10, truth.shape)
    affine = np.diag([1.4, 1.4, 8.0, 1.0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nib.save(nib.Nifti1Image((100 + 60 * truth + noise).astype(np.float32), affine), folder / "v.nii")
        nib.save(nib.Nifti1Image(drawn.astype(np.uint8), affine), folder / "d.nii")
        for title, more in ways.items():
            began, before = time.perf_counter(), _processor_seconds()
            files = [folder / "v.nii", "--from", folder / "d.nii", "-o", folder / f"{title}.nii.gz"]
            subprocess.run([sys.executable, "-m", "crnn_cli", "-q", "segment", *map(str, files), *more], check=True)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            took = f"{time.perf_counter() - began:.1f} s | {_processor_seconds() - before:.1f} s of processors"
            print(f"| {title} | {took} | peak {peak:.2f} GiB, libraries and all |", flush=True)


def _processor_seconds() -> float:
    """Of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", help="bundle to measure")
    parser.add_argument("--rows", nargs="+", default=["heart", "hippocampus", "cines", "rounds", "time"])
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--every", type=int, default=5, help="of the volumes of the hippocampus")
    parser.add_argument("--plane", default="axial", choices=("axial", "coronal", "sagittal"), help="of the hippocampus")
    parser.add_argument("--patients", type=int, nargs="+", help="of the cines; all of the split")
    parser.add_argument("--minutes", type=float, help="tune to each volume of heart and hippocampus, too")
    parser.add_argument("--steps", type=int, help="steps of this tuning, in place of minutes")
    parser.add_argument(
        "--methods", nargs="+", help="those to be measured of heart, hippocampus and cines; all of them"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--config", type=Path, help="config.json of the bundle to write curve and gain into")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    methods, found = methods_of(arguments.model), {}
    following: dict[str, FillMethod] = {**methods, "motion": MotionAlone()}
    if arguments.methods:
        methods, following = ({n: each[n] for n in arguments.methods if n in each} for each in (methods, following))
    names = list(methods)
    if "heart" in arguments.rows:
        found["heart"] = measure(heart_cases(arguments.data, arguments.split), 3, HEART, methods)
        means(found["heart"], names, f"ACDC {arguments.split}, 3 drawn")
    if "hippocampus" in arguments.rows:
        found["hippocampus"] = measure(
            hippocampus_cases(arguments.data, arguments.every, arguments.plane), 5, PARTS, methods
        )
        means(found["hippocampus"], names, f"hippocampus, {arguments.plane}, 5 drawn")
    if arguments.model and (arguments.minutes or arguments.steps):
        budget = TuneSettings(None if arguments.steps else 60 * arguments.minutes, arguments.steps, 0)
        for row in [each for each in arguments.rows if each in ("heart", "hippocampus")]:
            cases, count, parts = (
                (heart_cases(arguments.data, arguments.split), 3, HEART)
                if row == "heart"
                else (hippocampus_cases(arguments.data, arguments.every, arguments.plane), 5, PARTS)
            )
            found[f"{row}_tuned"] = measure_tuned(cases, count, parts, arguments.model, budget)
            show_tuned(found[f"{row}_tuned"], f"{row}, tuned")
    if "cines" in arguments.rows:
        listed = [each for each in acdc(arguments.data) if each.split == arguments.split]
        if arguments.patients:
            listed = [each for each in listed if int(each.subject[-3:]) in arguments.patients]
        found["cines"] = measure_cines(listed, arguments.data, following)
        means(found["cines"], [*following], f"cines {arguments.split}")
    if "rounds" in arguments.rows:
        found["rounds"] = measure_rounds(heart_cases(arguments.data, arguments.split), methods)
        show_rounds(found["rounds"])
    if "time" in arguments.rows:
        measure_time(arguments.model)
    if "time-cine" in arguments.rows:
        measure_time_cine(arguments.model)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.config:
        write_config([*found["heart"], *found["hippocampus"]], arguments.config)


if __name__ == "__main__":
    main()

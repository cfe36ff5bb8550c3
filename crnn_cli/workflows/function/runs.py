"""Runs of a reconstruction: each is labelled and measured like the images; their spread is a part of the intervals.

The runs are those of `crnn reconstruct --save-runs`. Each is measured at the end-diastolic and the end-systolic frame
of the images: the intervals are of the numbers at these frames, and not of the choice of frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.cardiac.run_spread import FEWEST_RUNS, RunSpread
from crnn_cli.data.input_files import read_small
from crnn_cli.data.saved_runs import FACTS, run_name
from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.workflows.function.cine import label_cine

if TYPE_CHECKING:
    from crnn_cli.cardiac.chambers import Chambers
    from crnn_cli.cardiac.function import CardiacFunction
    from crnn_cli.data.image import Image
    from crnn_cli.workflows.segment.engine import SegmentEngine

_WRITE_THEM = ("write them with ", Param("save_runs"), " of crnn reconstruct")
_LARGEST = 2**16  # bytes of the facts


@dataclass(frozen=True)
class Runs:
    """Runs of a reconstruction, on the grid of its images; one is in memory at a time.

    Attributes
    ----------
    names : of the runs, in messages.
    load : gives a run by its number, from 0.
    left_out : share of the lines that each left out.
    source : what the report says of them.
    """

    names: tuple[str, ...]
    load: Callable[[int], Image]
    left_out: float
    source: dict[str, Any]


def read_runs(folder: Path, image: Image, sha256: str | None = None) -> Runs:
    """Look at the runs in a folder, and check that they belong to images.

    Parameters
    ----------
    folder : as `crnn_cli.workflows.reconstruct.runs` writes it.
    image : the images.
    sha256 : of their file; None where it is not known.

    Raises
    ------
    UnreadableError
        If the folder, or a run in it, is missing or cannot be read.
    UnsupportedDataError
        If there are too few runs, they are of other images, lie on another grid, or have NaN or infinite voxels.
    """
    from crnn_cli.io.atomic_write import digest_tree
    from crnn_cli.io.images import load_image

    facts = _read_facts(folder)
    paths = sorted(folder.glob(run_name(None)))
    if len(paths) != facts["runs"]:
        raise UnreadableError(f"{folder} holds {len(paths)} of {facts['runs']} runs", remedy=_WRITE_THEM)
    if None not in (sha256, facts["images_sha256"]) and sha256 != facts["images_sha256"]:
        raise UnsupportedDataError(
            f"the runs in {folder} are of other images: the sha256 in {FACTS} differs",
            remedy=("give the images as they were written together with the runs",),
        )
    source = {"runs": str(folder), "runs_sha256": digest_tree(folder)}
    names = tuple(str(path) for path in paths)
    runs = Runs(names, lambda k: _on_grid(load_image(paths[k]).image, image, names[k]), facts["left_out"], source)
    _check(runs)
    return runs


def runs_in_memory(images: Sequence[Image], image: Image) -> Runs:
    """Take the runs of `crnn_cli.reconstruct` with ``keep_runs``; parameters and errors as of `read_runs`."""
    from crnn_cli.assessment.uncertainty import LEFT_OUT

    names = tuple(f"run {number}" for number in range(1, len(images) + 1))
    runs = Runs(names, lambda k: _on_grid(images[k], image, names[k]), LEFT_OUT, {})
    _check(runs)
    return runs


def measure_runs(
    runs: Runs, function: CardiacFunction, chambers: Chambers, unknown_size: str, engine: SegmentEngine,
    progress: notices.Progress,
) -> RunSpread:  # fmt: skip
    """Label each run, and measure it at the frames of the images.

    Parameters
    ----------
    function : of the images.
    chambers : what the labels are.
    unknown_size : as of `crnn_cli.cardiac.function.assess_function`.
    engine : the model that labelled the images.
    progress : called with (steps done, steps in all); the images, which were labelled before, are the first part.

    Raises
    ------
    UnsupportedDataError
        If a run cannot be labelled, or has no heart that beats between these frames.
    """
    from crnn_cli.cardiac.function import assess_function

    ed, es, count = function.phases.ed, function.phases.es, len(runs.names)
    measured = []
    for number, name in enumerate(runs.names):
        with notices.recording(notices.Record(silent=True)):  # what is doubtful is told of the images
            labelled = label_cine(runs.load(number), name, engine, part_of(progress, number + 1, count + 1))
        try:
            found = assess_function(labelled.labels, chambers, function.subject, ed, es, unknown_size)
        except UsageError:
            text = f"in {name} the heart is no larger in frame {ed + 1} than in frame {es + 1}, as it is in the images"
            raise UnsupportedDataError(text, remedy=("look at the runs: the reconstruction fails",)) from None
        measured.append(found.numbers())
    names = dict.fromkeys(name for numbers in measured for name in numbers)
    spread = RunSpread({name: [each.get(name) for each in measured] for name in names}, count, runs.left_out)
    _tell_lacking(spread, function)
    return spread


def part_of(progress: notices.Progress, number: int, of: int) -> notices.Progress:
    """Progress of one of several equal parts.

    >>> part_of(lambda done, total: print(done, total), 1, 5)(10, 100)
    110 500
    """
    return lambda done, total: progress(number * total + done, of * total)


def _tell_lacking(spread: RunSpread, function: CardiacFunction) -> None:
    """Tell which numbers have no interval because a run has no such number."""
    from crnn_cli.report.function.table import TITLES

    known = [name for name, value in function.numbers().items() if value is not None and spread.is_measured(name)]
    lacking = [name for name in known if spread.lacks(name) and not name.endswith("_index")]
    if lacking:
        most = max(map(spread.lacks, lacking))
        words = [f"{side} {TITLES[word]}" for side, _, word in (name.partition(".") for name in lacking)]
        text = f"{most} of {spread.runs} runs of the reconstruction lack {', '.join(words)}: no interval is given"
        notices.warn("runs-lack-numbers", text)


def _check(runs: Runs) -> None:
    """Read every run once, before any work is done."""
    if len(runs.names) < FEWEST_RUNS:
        raise UnsupportedDataError(
            f"{len(runs.names)} runs say too little of their spread: {FEWEST_RUNS} are needed",
            remedy=("reconstruct with ", Param("uncertainty_runs", FEWEST_RUNS), " or more"),
        )
    for number, name in enumerate(runs.names):
        runs.load(number).require_finite(name)


def _on_grid(run: Image, image: Image, name: str) -> Image:
    from crnn_cli.data.alignment import turned_to

    turned = turned_to(run, image)
    if turned is None:
        shapes = [" x ".join(map(str, (*each.shape[:3], each.frames))) for each in (run, image)]
        raise UnsupportedDataError(
            f"{name} ({shapes[0]}) and the images ({shapes[1]}) do not lie on one grid (x, y, z, t)",
            remedy=("give the runs that were saved with these images",),
        )
    return turned


def _read_facts(folder: Path) -> dict[str, Any]:
    """What lies beside the runs, checked."""
    if not folder.is_dir():
        there = "is no folder" if folder.exists() else "does not exist"
        raise UnreadableError(f"{folder} {there}: runs lie in a folder", remedy=_WRITE_THEM)
    if not (folder / FACTS).is_file():
        raise UnreadableError(f"{folder} has no {FACTS}: it is no folder of runs", remedy=_WRITE_THEM)
    try:
        facts = json.loads(read_small(folder / FACTS, _LARGEST))
        found = {"runs": int(facts["runs"]), "left_out": float(facts["left_out"])}
        sha256 = facts["images_sha256"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UnreadableError(f"{folder / FACTS} is damaged", remedy=_WRITE_THEM) from None
    if not 0 < found["left_out"] < 1 or not isinstance(sha256, str | None):
        raise UnreadableError(f"{folder / FACTS} is damaged", remedy=_WRITE_THEM)
    return found | {"images_sha256": sha256}

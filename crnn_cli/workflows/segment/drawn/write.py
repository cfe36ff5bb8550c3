"""Files of labels from drawn slices: labels, the report beside them, probabilities, statistics, a picture, a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli.report.provenance import command_facts
from crnn_cli.workflows.segment.drawn.result import DrawnResult, DrawnRun
from crnn_cli.workflows.segment.write import OutputsOfLabels, save_labels

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.io.dicom.seg import Algorithm
    from crnn_cli.workflows.segment.drawn.engine import DrawnEngine


def method_name(engine: DrawnEngine) -> str:
    """The method in a word: the model, or what is done without one."""
    return engine.fill if engine.bundle is None else engine.bundle.name


def algorithm_of(engine: DrawnEngine) -> Algorithm:
    """What a SEG says of how its labels were made."""
    from crnn_cli.io.dicom.seg import Algorithm

    weights = {} if engine.bundle is None else {"weights sha256": engine.bundle.sha256}
    return Algorithm(f"crnn from drawn slices, {method_name(engine)}", weights)


def save_drawn(run: DrawnRun, force: bool) -> dict[str, Any]:
    """Write everything together, or nothing; labels that go to standard output come last.

    Returns
    -------
    The report as written, with ``output``, ``output_format`` and the command.
    """
    result, paths = run.result, run.paths
    assert paths is not None  # of a file
    report = command_facts() | run.report
    if run.adapted is not None:
        from crnn_cli.workflows.segment.drawn.bundle import write_adapted

        report |= {"drawn": report["drawn"] | {"adapted": write_adapted(run.adapted, result, report, force)}}
    outputs = OutputsOfLabels(
        f"{run.report['tool']} {method_name(result.engine)}",
        lambda preview: _picture(preview, result),
        lambda: _seg_outputs(run),
    )
    return save_labels(result, paths, outputs, report, force)


def _seg_outputs(run: DrawnRun) -> list[Output]:
    from crnn_cli.io.dicom.seg import seg_outputs

    result, paths = run.result, run.paths
    assert paths is not None
    assert result.volume.series is not None  # required before the work began
    return seg_outputs(
        result.label_image, result.volume.series, result.labels, algorithm_of(result.engine), paths.seg_name, paths.form
    )


def _picture(preview: Path, result: DrawnResult) -> Output:
    """Outlines by number of the structure, as values may be larger than a picture has room for."""
    from crnn_cli.report.label_montage import labelled_slices, outlines_output

    slices = labelled_slices(result.volume.image, result.numbers_XYZT, result.slices.order)
    drawn_S = np.asarray(result.slices.known_TS.any(axis=0)).tolist()
    marked = replace(slices, marks=["drawn" if drawn else "" for drawn in drawn_S])
    numbers = {label.value: number for number, label in enumerate(result.labels, start=1)}
    labels = [replace(label, value=numbers[label.value]) for label in result.labels]
    rows = [replace(row, value=numbers[row.value]) for row in result.statistics]
    return outlines_output(marked, labels, rows, preview, f"crnn segment, {method_name(result.engine)}")

"""Images of the runs of `--uncertainty`, each without some of the lines: a folder of NIfTI files beside the result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crnn_cli.data.saved_runs import FACTS, run_name

if TYPE_CHECKING:
    from pathlib import Path

    from crnn_cli.io.atomic_write import FolderOutput
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions
    from crnn_cli.workflows.reconstruct.result import ReconstructionRun


def require_runs_folder(target: Path, force: bool) -> None:
    """Refuse a target that cannot become the folder of the runs.

    Raises
    ------
    OutputError
        See `crnn_cli.io.atomic_write.require_replaceable`.
    """
    from crnn_cli.io.atomic_write import require_replaceable

    require_replaceable(target, force, "the runs are written to a folder", (run_name(None), FACTS))


def runs_output(
    run: ReconstructionRun, report: dict[str, Any], description: str, options: ReconstructOptions
) -> list[FolderOutput]:
    """Prepare the folder of the runs for writing; nothing where it was not asked for.

    Each run is written like the images. The facts beside them name the images that they belong to by their sha256
    (null where these went to standard output), and say how much was left out.

    Parameters
    ----------
    report : of the reconstruction, with ``output_sha256`` where it is known.
    description : for the header of the files.
    """
    from crnn_cli.io.atomic_write import FolderOutput, Output
    from crnn_cli.io.nifti.image import image_output
    from crnn_cli.workflows.reconstruct.write import as_written

    folder = options.save_runs
    if folder is None:
        return []
    files = [
        image_output(as_written(image, options), folder / run_name(number), f"{description} run {number}")
        for number, image in enumerate(run.runs, start=1)
    ]
    facts = {key: report[key] for key in ("format", "tool", "not_for")}
    facts |= {"images_sha256": report.get("output_sha256"), "simulated": report["simulated"], "runs": len(files)}
    facts |= {"left_out": report["uncertainty"]["left_out"]}
    return [FolderOutput(folder, (*files, Output(folder / FACTS, (json.dumps(facts, indent=2) + "\n").encode())))]

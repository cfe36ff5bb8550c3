"""``crnn info``: what a file is in our eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console


def info(
    file: Annotated[Path, typer.Argument(help="A NIfTI file, or - for standard input.")],
    axes: Annotated[str | None, typer.Option(help="What the stored axes are, such as x,y,t.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")] = False,
) -> None:
    """Say what a file is: axes, geometry, sampling pattern, doubts, and what to do with it.

    Example: crnn info scan.nii.gz --json
    """
    import dataclasses

    from crnn_cli.io.describe import describe_file

    description = describe_file(file, axes)
    if as_json:
        console.print_json(dataclasses.asdict(description))
        return
    rows = [
        ["format", f"{description.format}, {description.stored_type}"],
        [f"shape ({description.axes})", " x ".join(map(str, description.shape))],
        ["spacing", " x ".join(f"{v:g}" for v in description.spacing_mm) + " mm"],
        ["axes run to", description.orientation],
        ["frame time", "unknown" if description.frame_time_s is None else f"{1000 * description.frame_time_s:g} ms"],
        ["magnitude" if description.complex else "values", f"{description.minimum:g} to {description.maximum:g}"],
    ]
    if description.sampling is not None:
        s = description.sampling
        lines = "-".join(map(str, {min(s.lines_per_frame): 0, max(s.lines_per_frame): 0}))
        rows.append(["sampling", f"{s.acceleration:.2f}x along {s.undersampled_axis}, {lines} lines a frame"])
    rows += [["doubt", doubt] for doubt in description.doubts]
    rows.append(["next", description.next_step])
    console.table(description.file, ["", ""], rows)

"""``crnn reconstruct --stream``: what the command does where frames come one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.cli import console
from crnn_cli.cli.remedies import spell_option
from crnn_cli.errors import UsageError
from crnn_cli.workflows.stream.options import StreamOptions, require_stream

if TYPE_CHECKING:
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions


def require_file(scan: Path | None, stream: StreamOptions) -> Path:
    """Check that a scan is named, and no option of streams is given.

    Raises
    ------
    UsageError
        If not.
    """
    require_stream(stream)
    if scan is None:
        raise UsageError("SCAN is missing", remedy=("name one, as in: crnn reconstruct scan.nii -o images.nii.gz",))
    return scan


def run_streaming(scan: Path | None, options: ReconstructOptions, stream: StreamOptions, as_json: bool) -> None:
    """Reconstruct a stream, or serve the clients that bring one, and tell how it went."""
    from crnn_cli.report.stream_rows import stream_rows
    from crnn_cli.workflows.stream import serve, steps

    plan = steps.plan(scan, options, stream, as_json)
    engine = steps.prepare(options)
    if scan is None:
        serve.serve(plan, engine, lambda report: console.table("crnn", ["", ""], stream_rows(report)), spell_option)
        return
    opened = steps.open_file_or_pipe(plan, engine)
    with console.progress_bar("reconstructing") as progress:
        report, failure = steps.run(plan, engine, opened, progress)
    console.table("crnn reconstruct --stream", ["", ""], stream_rows(report))
    if as_json:
        console.print_json(report)
    if failure is not None:
        raise failure

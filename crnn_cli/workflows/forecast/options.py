"""Options of `crnn forecast`, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crnn_cli.errors import Param, UsageError
from crnn_cli.notices import STREAM

MOST_FRAMES = 100
"""Frames ahead at most."""


@dataclass(frozen=True)
class ForecastOptions:
    """How a series is forecast; see the help of `crnn forecast`.

    frames : to forecast. from_frame : the last frame that is read, from 1; None for the last of the series.
    reference : compare with the frames that follow.
    """

    frames: int = 4
    from_frame: int | None = None
    reference: bool = False
    axes: str | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    model: str | None = None
    device: str = "auto"
    out: Path | None = None
    preview: Path | None = None
    force: bool = False


def check_options(options: ForecastOptions) -> None:
    """Check options against each other.

    Raises
    ------
    UsageError
        If they cannot be.
    """
    if not 1 <= options.frames <= MOST_FRAMES:
        raise UsageError(Param("frames", options.frames), f" cannot be: 1 to {MOST_FRAMES} frames are forecast")
    if options.from_frame is not None and options.from_frame < 1:
        raise UsageError(Param("from_frame", options.from_frame), " cannot be: frames count from 1")
    if options.reference and options.from_frame is None:
        raise UsageError(
            Param("reference"),
            " needs ",
            Param("from_frame"),
            ": after the last frame there is nothing to compare with",
        )


def plan_paths(source: Path, options: ForecastOptions, as_json: bool) -> Path:
    """Check that the source is there and every output can be written.

    Returns
    -------
    Where the forecast goes.

    Raises
    ------
    UsageError, UnreadableError, OutputError
        If not.
    """
    from crnn_cli.io.atomic_write import require_pipe, require_writable
    from crnn_cli.io.formats import NIFTI, require_output_name, stem
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.montage import require_preview_name
    from crnn_cli.report.sidecar import require_apart, require_report_writable

    require_readable(source)
    target = options.out
    if target is None:
        target = STREAM if source == STREAM else stem(source).with_name(f"{stem(source).name}_forecast.nii.gz")
    if target == STREAM:
        if as_json:
            raise UsageError(
                Param("as_json"), " and the forecast cannot both go to standard output",
                remedy=("give ", Param("out", "FILE")),
            )  # fmt: skip
        require_pipe()
    else:
        require_output_name(target, NIFTI)
        require_writable(target, options.force)
        require_report_writable(target, options.force)
    if options.preview is not None:
        require_preview_name(options.preview)
        require_writable(options.preview, options.force)
    require_apart([source], [target, options.preview])
    return target

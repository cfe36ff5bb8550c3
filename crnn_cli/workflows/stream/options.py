"""Options of ``crnn reconstruct --stream``, and which others go with it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from crnn_cli.errors import Param, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.workflows.reconstruct.methods import NETWORK
from crnn_cli.workflows.reconstruct.options import ReconstructOptions

_NOT_OF_STREAMS = (
    "regularisation", "adapt", "adapt_steps", "save_adapted", "generalise", "hold_out_folds", "uncertainty",
    "uncertainty_runs", "save_runs", "max_residual", "min_psnr", "save_maps", "preview", "report", "calibration",
)  # fmt: skip
_OF_FILES = (
    "mask", "phase", "axes", "series", "slice_number", "undersample", "pattern", "centre_lines", "phase_axis", "seed",
    "maps", "phases", "variable", "kind", "view", "drop_empty",
)  # fmt: skip
RENEW_FRAMES = 64
"""Frames after which sensitivities are estimated again, unless another number is asked for."""


@dataclass(frozen=True)
class StreamOptions:
    """Options of a stream by their Python names.

    Attributes
    ----------
    pace : replay a file at its own speed.
    listen : address ``HOST:PORT`` at which an MRD client is waited for; None for none.
    renew_frames : frames after which sensitivities are estimated again; 0 for never, None for `RENEW_FRAMES`.
    """

    pace: bool = False
    listen: str | None = None
    renew_frames: int | None = None


def check_stream(scan: Path | None, options: ReconstructOptions, stream: StreamOptions) -> None:
    """Check that the options go with a stream.

    Parameters
    ----------
    scan : file, or `STREAM`; None where a client is waited for.

    Raises
    ------
    UsageError
        If one does not, or the scan is named twice or not at all.
    """
    default = ReconstructOptions()
    if options.method != NETWORK:
        raise UsageError(Param("method", options.method), " sees all frames, and a stream has one after the other")
    for name in _NOT_OF_STREAMS:
        if getattr(options, name) != getattr(default, name):
            raise UsageError(Param(name), " does not go with ", Param("stream"), ": it needs all frames")
    if options.format_name == "dicom":
        raise UsageError(Param("format_name", "dicom"), " does not go with ", Param("stream"),
                         remedy=("write NIfTI, and use crnn convert",))  # fmt: skip
    if (scan is None) == (stream.listen is None):
        twice = "name a scan, or an address with ", Param("listen", "HOST:PORT"), ", and not both"
        raise UsageError(*twice)
    if stream.pace and (scan is None or scan == STREAM):
        raise UsageError(Param("pace"), " replays a file, and a stream comes at a speed of its own")


def check_mrd(options: ReconstructOptions) -> None:
    """Check that the options go with an MRD stream, of which nothing is known before it comes.

    Raises
    ------
    UsageError
        If one does not.
    """
    default = ReconstructOptions()
    for name in _OF_FILES:
        if getattr(options, name) != getattr(default, name):
            raise UsageError(Param(name), " belongs to scans in files, and this is an MRD stream")


def require_stream(stream: StreamOptions) -> None:
    """Refuse options of streams where none is asked for.

    Raises
    ------
    UsageError
        If one is given.
    """
    for name in (field.name for field in fields(StreamOptions)):
        if getattr(stream, name) not in (None, False):
            raise UsageError(Param(name), " needs ", Param("stream"))

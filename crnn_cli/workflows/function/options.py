"""Options of `crnn function`, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.errors import Param, UsageError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from crnn_cli.cardiac.chambers import Chambers
    from crnn_cli.cardiac.function import Subject

OUTPUTS = ("out", "csv", "plot", "page", "sr")
"""Options that name outputs."""


@dataclass(frozen=True)
class FunctionOptions:
    """How a heart is measured; see the help of `crnn function`.

    labels : convention, or list of values; None: by their names. image : the images of a label map. runs : folder of
    the runs of the reconstruction that a cine is of. ed, es : frames, from 1. height : in cm. weight : in kg. bsa :
    formula of the body surface. heart_rate : per minute.
    slice_tolerance : in mm.
    """

    labels: str | None = None
    image: Path | None = None
    runs: Path | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    ed: int | None = None
    es: int | None = None
    height: float | None = None
    weight: float | None = None
    bsa: str = "mosteller"
    heart_rate: float | None = None
    model: str | None = None
    device: str = "auto"
    out: Path | None = None
    csv: Path | None = None
    plot: Path | None = None
    page: Path | None = None
    sr: Path | None = None
    force: bool = False


def check_options(options: FunctionOptions) -> tuple[Chambers | None, Subject]:
    """Chambers, if they were named, and what was said of the person.

    Raises
    ------
    UsageError
        If options contradict each other or cannot be.
    """
    from crnn_cli.cardiac.body import FORMULAS, body_surface
    from crnn_cli.cardiac.chambers import parse_chambers
    from crnn_cli.cardiac.function import Subject

    if (options.height is None) != (options.weight is None):
        raise UsageError(Param("height"), " and ", Param("weight"), " belong together: the body surface needs both")
    formula = options.bsa
    if formula not in FORMULAS:
        raise UsageError(Param("bsa", formula), " is not known", remedy=(f"use {' or '.join(FORMULAS)}",))
    if options.heart_rate is not None and not 20 <= options.heart_rate <= 300:
        raise UsageError(Param("heart_rate", options.heart_rate), " cannot be: beats per minute, 20 to 300")
    surface = None
    if options.height is not None and options.weight is not None:
        surface = body_surface(options.height, options.weight, formula)
    chambers = None if options.labels is None else parse_chambers(options.labels)
    return chambers, Subject(surface, formula if surface else "", options.heart_rate)


def check_paths(source: Path, options: FunctionOptions, as_json: bool) -> None:
    """Check that the source is there, and every output can be written.

    Raises
    ------
    UsageError, UnreadableError, OutputError
        If not.
    """
    from crnn_cli.io.atomic_write import require_writable
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.sidecar import require_apart, require_report_writable

    require_readable(source)
    targets = [getattr(options, name) for name in OUTPUTS]
    if STREAM in targets:
        remedy = ("print it with ", Param("json")) if not as_json else ()
        raise UsageError("outputs are files: name them", remedy=remedy)
    for path in (options.image, options.runs):
        if path is not None:
            require_readable(path)
    require_apart([source, options.image, options.runs], targets)
    for target, suffix, what in (
        (options.out, ".json", "the report is JSON"), (options.csv, ".csv", "the table is CSV"),
        (options.plot, ".png", "the plot is a PNG picture"), (options.page, ".html", "the page is HTML"),
        (options.sr, ".dcm", "the structured report is DICOM"),
    ):  # fmt: skip
        if target is None:
            continue
        if target.suffix.lower() != suffix:
            raise UsageError(f"cannot write {target}: {what}; give a name that ends in {suffix}")
        if target != options.out:
            require_writable(target, options.force)
    if options.out is not None:
        require_report_writable(options.out, options.force)

"""Rows of the table that `crnn info` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crnn_cli.io.describe import FileDescription
    from crnn_cli.io.dicom.listing import Listing
    from crnn_cli.io.kspace.describe import RawDescription

SERIES_COLUMNS = ("series", "description", "kind", "slices x frames", "spacing (mm)", "frame time")


def image_rows(description: FileDescription) -> list[list[str]]:
    """Names and values of an image."""
    rows = [
        ["format", f"{description.format}, {description.stored_type}"],
        [f"shape ({description.axes})", _times(description.shape)],
        ["spacing", _times(f"{v:g}" for v in description.spacing_mm) + " mm"],
        ["axes run to", description.orientation or "not known"],
        ["frame time", _milliseconds(description.frame_time_s)],
        ["magnitude" if description.complex else "values", f"{description.minimum:g} to {description.maximum:g}"],
    ]
    if description.sampling is not None:
        sampling = description.sampling
        lines = _range(sampling.lines_per_frame)
        rows.append(["sampling", f"{sampling.acceleration:.2f}x along {sampling.phase_encoding_axis}, {lines} a frame"])
    return [*rows, *_remarks(description)]


def raw_rows(description: RawDescription) -> list[list[str]]:
    """Names and values of raw k-space."""
    where = "both axes" if description.n_undersampled_axes == 2 else "one axis"
    lines = _range(description.lines_per_frame)
    apart = ", measured apart" if description.separate_calibration else ""
    return [
        ["format", description.format],
        ["stored", description.stored],
        ["slices, coils, frames", f"{description.slices}, {description.coils}, {description.frames}"],
        ["k-space, lines x samples", _times(description.grid)],
        ["field of view shown", _times(f"{100 * share:g} %" for share in description.field_shown)],
        ["images (x, y, z, t)", _times(description.image_shape)],
        ["spacing", _times(f"{v:g}" for v in description.spacing_mm) + " mm"],
        ["axes run to", description.orientation or "not known"],
        ["frame time", _milliseconds(description.frame_time_s)],
        ["sampling", f"{description.acceleration:.2f}x along {where}, {lines} a frame"],
        ["calibration", f"{description.calibration_lines} lines{apart}"],
        ["noise scan", "yes" if description.noise_scan else "no"],
        *_remarks(description),
    ]


def series_rows(listing: Listing) -> list[list[str]]:
    """A row for each series of a DICOM folder, see `SERIES_COLUMNS`."""
    rows = []
    for series in listing.series:
        spacing = "-" if series.spacing is None else _times(f"{v:.4g}" for v in series.spacing)
        kind = f"{series.modality} {series.kind}, {series.size[1]} x {series.size[0]}"
        time = "-" if series.frame_time is None else f"{1000 * series.frame_time:.4g} ms"
        size = f"{series.slices} x {series.frames}"
        rows.append([str(series.number), series.title or "-", kind, size, spacing, time])
    return rows


def _remarks(description: FileDescription | RawDescription) -> list[list[str]]:
    """Doubts, then facts, each with its code."""
    return [
        *(["doubt", f"{each.text} ({each.code})"] for each in description.doubts),
        *(["note", each.text] for each in description.facts),
    ]


def _times(values: Iterable[object]) -> str:
    return " x ".join(map(str, values))


def _milliseconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{1000 * seconds:g} ms"


def _range(lines: Sequence[int]) -> str:
    """``14 lines`` or ``12-14 lines``."""
    return "-".join(map(str, dict.fromkeys((min(lines), max(lines))))) + " lines"

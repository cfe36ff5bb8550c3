"""``crnn info``: what a file is in our eyes, and which series a DICOM folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.options import SeriesChoice, SliceTolerance, Variable
from crnn_cli.errors import UsageError

if TYPE_CHECKING:
    from crnn_cli.io.describe import FileDescription
    from crnn_cli.io.dicom.series import Listing, Series
    from crnn_cli.io.kspace.describe import RawDescription


def info(
    file: Annotated[Path, typer.Argument(help="NIfTI, - for standard input, DICOM (folder, zip, file), raw k-space.")],
    axes: Annotated[str | None, typer.Option(help="What the stored axes are, such as x,y,t.")] = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    variable: Variable = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")] = False,
) -> None:
    """Say what a file is: axes, geometry, sampling pattern, doubts, and what to do with it.

    Of a DICOM folder, the series in it and what is wrong with each, from the headers alone; --series reads one.

    Of raw k-space, also coils, calibration lines and noise scan; --axes coil,t,ky,kx where the file does not say.

    Examples: crnn info scan.nii.gz --json; crnn info DICOM_FOLDER; crnn info DICOM_FOLDER --series 2;
    crnn info raw.h5; crnn info k.npy --axes coil,t,ky,kx
    """
    import dataclasses

    from crnn_cli.io.kspace.read import is_raw

    if is_raw(file):
        if series is not None:
            raise UsageError(f"--series is for DICOM, and {file} is raw k-space")
        from crnn_cli.io.kspace.describe import describe_raw

        raw = describe_raw(file, axes, variable, slice_tolerance)
        if as_json:
            console.print_json(dataclasses.asdict(raw))
        else:
            _tell_raw(raw)
        return
    if variable is not None:
        raise UsageError(f"--variable is for HDF5 and MATLAB files of raw k-space, and {file} is none")
    from crnn_cli.io.describe import describe_file
    from crnn_cli.io.images import is_dicom, require_readable

    if is_dicom(file) and series is None and axes is None:
        from crnn_cli.io.dicom.read import list_series

        require_readable(file)
        found = list_series(file, uneven=slice_tolerance)
        if as_json:
            console.print_json(listing_as_json(file, found))
        else:
            _tell_listing(file, found)
        return
    description = describe_file(file, axes, series, uneven=slice_tolerance)
    if as_json:
        console.print_json(dataclasses.asdict(description))
    else:
        _tell(description)


def _tell(description: FileDescription) -> None:
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


def _tell_raw(found: RawDescription) -> None:
    lines = "-".join(map(str, {min(found.lines_per_frame): 0, max(found.lines_per_frame): 0}))
    shown = " x ".join(f"{100 * share:g} %" for share in found.field_shown)
    where = "both axes" if found.undersampled_axes == 2 else "one axis"
    time = "unknown" if found.frame_time_s is None else f"{1000 * found.frame_time_s:g} ms"
    rows = [
        ["format", found.format],
        ["stored", found.stored],
        ["slices, coils, frames", f"{found.slices}, {found.coils}, {found.frames}"],
        ["k-space, lines x samples", " x ".join(map(str, found.grid))],
        ["field of view shown", shown],
        ["images (x, y, z, t)", " x ".join(map(str, found.image_shape))],
        ["spacing", " x ".join(f"{v:g}" for v in found.spacing_mm) + " mm"],
        ["axes run to", found.orientation],
        ["frame time", time],
        ["sampling", f"{found.acceleration:.2f}x along {where}, {lines} lines a frame"],
        ["calibration", f"{found.calibration_lines} lines{', measured apart' if found.separate_calibration else ''}"],
        ["noise scan", "yes" if found.noise_scan else "no"],
        *(["note", note] for note in found.notes),
        ["next", found.next_step],
    ]
    console.table(found.file, ["", ""], rows)


def listing_as_json(place: Path, found: Listing) -> dict[str, Any]:
    """Return what a DICOM folder holds as plain values; lengths in mm, times in s."""
    return {
        "file": str(place), "format": "DICOM", "series": [_series_as_json(one) for one in found.series],
        "damaged": found.damaged, "other_files": found.others,
    }  # fmt: skip


def _series_as_json(one: Series) -> dict[str, Any]:
    return {
        "number": one.number, "uid": one.uid, "series_number": one.series_number, "description": one.description,
        "modality": one.modality, "part": one.part, "kind": one.kind, "files": one.files,
        "columns": one.size[1], "rows": one.size[0], "slices": one.slices, "frames": one.frames,
        "spacing_mm": None if one.spacing is None else [round(v, 4) for v in one.spacing],
        "orientation": one.orientation, "ordered_by": one.ordered_by, "frame_time_s": one.frame_time,
        "frame_time_spread_s": one.spread, "problems": list(one.problems), "notes": list(one.notes),
    }  # fmt: skip


def _tell_listing(place: Path, found: Listing) -> None:
    rows = [_row(one) for one in found.series]
    console.table(str(place), ["series", "description", "what", "slices x frames", "mm", "frame time"], rows)
    for one in found.series:
        for problem in one.problems:
            notices.warn(f"series {one.number} cannot be read: {problem}")
        for note in one.notes:
            notices.warn(f"series {one.number}: {note}")
    for name, why in list(found.damaged.items())[:10]:
        notices.warn(f"{name} is damaged: {why}")
    if len(found.damaged) > 10:
        notices.warn(f"and {len(found.damaged) - 10} more damaged files")
    readable = [one for one in found.series if one.grid]
    if readable:
        choice = f" --series {readable[0].number}" if len(readable) > 1 else ""
        step = "reconstruct" if readable[0].frames > 1 else "segment"
        more = " --undersample 8" if step == "reconstruct" else " --slices"
        console.say(f"next: crnn {step} {place}{choice}{more}")


def _row(one: Series) -> list[str]:
    spacing = "" if one.spacing is None else " x ".join(f"{v:.4g}" for v in one.spacing)
    time = "" if one.frame_time is None else f"{1000 * one.frame_time:.4g} ms"
    named = " ".join(word for word in (one.description, one.part) if word) or "-"
    what = f"{one.modality} {one.kind}, {one.size[1]} x {one.size[0]}"
    return [str(one.number), named, what, f"{one.slices} x {one.frames}", spacing, time]

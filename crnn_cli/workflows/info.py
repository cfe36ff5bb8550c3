"""What a file is: an image, raw k-space, or a DICOM folder of several series."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import CrnnError, Param, Spelling, UsageError, spelled
from crnn_cli.io.kspace.choices import NOTHING_CHOSEN, RawChoices
from crnn_cli.notices import Doubt, Fact

if TYPE_CHECKING:
    from crnn_cli.data.raw_scan import RawScan
    from crnn_cli.io.describe import FileDescription, NextStep
    from crnn_cli.io.dicom.listing import Listing
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.io.kspace.describe import RawDescription


PHASES = (30, 25, 20, 16, 12, 10, 8, 6, 5, 4)
"""Numbers of cardiac phases that are proposed, the first that works."""


@dataclass(frozen=True)
class FolderDescription:
    """The series of a DICOM folder, and what can be done with them; see `crnn_cli.workflows.proposals`."""

    file: str
    listing: Listing
    next_step: NextStep = ()


def describe(
    file: Path,
    axes: str | None = None,
    series: str | None = None,
    slice_tolerance: float | None = None,
    variable: str | None = None,
    chosen: RawChoices = NOTHING_CHOSEN,
) -> FileDescription | RawDescription | FolderDescription:
    """Read a file and describe it: raw k-space by headers and one slice, a DICOM folder by headers alone.

    Parameters
    ----------
    series : of a DICOM folder, to look into one series. slice_tolerance : in mm. variable : of HDF5 and MATLAB.
    chosen : what else a file of raw k-space leaves open.

    Raises
    ------
    UsageError
        If a parameter does not belong to what the file is.
    CrnnError
        If the file cannot be read; see `crnn_cli.io.images.load_image`.
    """
    from crnn_cli.io.formats import DICOM_SEG, identify, is_dicom, is_kspace

    if is_kspace(file):
        return _describe_raw(file, axes, series, slice_tolerance, variable, chosen)
    for name, value in ({"variable": variable} | chosen.given()).items():
        if value is not None:
            raise UsageError(Param(name), f" is for files of raw k-space, and {file} is none")
    from crnn_cli.io.images import load_image, require_readable
    from crnn_cli.workflows import proposals
    from crnn_cli.workflows.label_scale import with_label_values

    listed = is_dicom(file) and identify(file, "image", "labels") is not DICOM_SEG
    if listed and series is None and axes is None:
        from crnn_cli.io.dicom.read import list_series

        require_readable(file)
        listing = list_series(file, slice_tolerance=slice_tolerance)
        given = _given(slice_tolerance=slice_tolerance)
        return FolderDescription(str(file), listing, proposals.steps_for_folder(listing, str(file), given))
    from crnn_cli.io.describe import describe_image

    loaded = with_label_values(load_image(file, axes, series, slice_tolerance=slice_tolerance))
    given = _given(axes=axes, series=series, slice_tolerance=slice_tolerance)
    return replace(describe_image(loaded, str(file)), next_step=proposals.steps_for_image(loaded, str(file), given))


def _describe_raw(
    file: Path, axes: str | None, series: str | None, slice_tolerance: float | None, variable: str | None,
    chosen: RawChoices,
) -> RawDescription:  # fmt: skip
    from crnn_cli.io.kspace.describe import describe_raw
    from crnn_cli.io.kspace.read import read_raw
    from crnn_cli.workflows.proposals import steps_for_raw

    if series is not None:
        raise UsageError(Param("series"), f" is for DICOM, and {file} is raw k-space")
    scan = read_raw(file, axes, variable, slice_tolerance=slice_tolerance, chosen=chosen)
    given = _given(axes=axes, variable=variable, slice_tolerance=slice_tolerance, **chosen.given())
    steps = steps_for_raw(scan, str(file), given)
    if any(each.code == "ecg-not-used" for each in scan.remarks):
        gated = _sorted_by_phase(file, variable, slice_tolerance, chosen)
        if gated is not None:
            steps = (*steps_for_raw(gated, str(file), (*given, Param("phases", gated.shape_ZCTYX[2]))), *steps)
    return replace(describe_raw(scan, str(file)), next_step=steps)


def _sorted_by_phase(
    file: Path, variable: str | None, slice_tolerance: float | None, chosen: RawChoices
) -> RawScan | None:
    """The scan sorted into as many cardiac phases as all have lines, of usual numbers; None where none will do."""
    from crnn_cli.io.kspace.read import read_raw

    for phases in PHASES:
        try:
            scan = read_raw(file, None, variable, phases, slice_tolerance, chosen)
            scan.read(scan.shape_ZCTYX[0] // 2)
        except CrnnError:
            continue
        return scan
    return None


def _given(**params: str | float | None) -> tuple[Param, ...]:
    """The parameters that were given, to be given again; flags without a value."""
    return tuple(Param(name, None if value is True else value) for name, value in params.items() if value is not None)


def as_json(description: FileDescription | RawDescription | FolderDescription, spell: Spelling = str) -> dict[str, Any]:
    """The description as plain values; lengths in mm, times in s.

    ``next_step`` is one line, ``next_commands`` the commands in it, both spelled by ``spell``.
    """
    from crnn_cli.io.describe import spell_next_step

    steps = description.next_step
    advice = {
        "next_step": spell_next_step(steps, spell),
        "next_commands": [step.command.spelled(spell) for step in steps if step.command is not None],
    }
    if not isinstance(description, FolderDescription):
        return asdict(replace(description, next_step=())) | advice
    listing = description.listing
    return {
        "file": description.file, "format": "DICOM", "series": [_series_as_json(each) for each in listing.series],
        "damaged": listing.damaged, "other_files": listing.others, "objects": listing.objects,
        "left_out": {each.source.name: each.left_out for each in listing.left_out},
        "stack": None if listing.only_stack is None else listing.only_stack.number,
        "unjoined": [
            {"series": list(each.numbers), "problem": each.problem, "remedy": spelled(each.remedy, spell)}
            for each in listing.unjoined
        ],
    } | advice  # fmt: skip


def _series_as_json(series: Series) -> dict[str, Any]:
    return {
        "number": series.number, "uid": series.uid or None, "series_number": series.series_number,
        "description": series.description, "modality": series.modality, "part": series.part, "kind": series.kind,
        "files": series.files, "columns": series.size[1], "rows": series.size[0], "slices": series.slices,
        "frames": series.frames,
        "spacing_mm": None if series.spacing is None else [round(v, 4) for v in series.spacing],
        "orientation": series.orientation, "ordered_by": series.ordered_by, "frame_time_s": series.frame_time,
        "frame_time_spread_s": series.spread, "problems": list(series.problems),
        "doubts": [asdict(each) for each in series.remarks if isinstance(each, Doubt)],
        "facts": [asdict(each) for each in series.remarks if isinstance(each, Fact)],
        "members": [
            {"number": each.number, "uid": each.uid, "series_number": each.series_number,
             "description": each.description, "frame_time_s": each.frame_time, "files": each.files}
            for each in series.members
        ],
        "not_in_stack": series.not_in_stack,
    }  # fmt: skip


def problems_of(listing: Listing, spell: Spelling = str, most: int = 10) -> list[str]:
    """Sentences about what is wrong in a DICOM folder, with remedies spelled by ``spell``."""
    from crnn_cli.io.dicom.grid.left_out import tally

    texts = []
    for series in listing.series:
        texts += [f"series {series.number} cannot be read: {problem}" for problem in series.problems]
        texts += [f"series {series.number}: {spelled(series.remedy, spell)}"] if series.remedy else []
        remarks = [each.text for each in series.remarks if each.code not in ("dicom-beside", "dicom-files-left-out")]
        texts += [f"series {series.number}: {text}" for text in remarks]
    texts += [f"not in the stack: series {listing.not_in_stack}"] if listing.not_in_stack else []
    for each in listing.unjoined:
        texts.append(each.told + (f" ({spelled(each.remedy, spell)})" if each.remedy else ""))
    texts += [f"{name} was left out: {why}" for name, why in list(listing.damaged.items())[:most]]
    if len(listing.damaged) > most:
        texts.append(f"and {len(listing.damaged) - most} more files that cannot be read")
    beside = tally([each for each in listing.left_out if each.source.name not in listing.damaged], listing.objects)
    return [*texts, *([f"not read: {beside}"] if beside else [])]

"""What a file is: an image, raw k-space, or a DICOM folder of several series."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import Param, Spelling, UsageError, spelled
from crnn_cli.notices import Doubt, Fact

if TYPE_CHECKING:
    from crnn_cli.io.describe import FileDescription
    from crnn_cli.io.dicom.series import Listing, Series
    from crnn_cli.io.kspace.describe import RawDescription


@dataclass(frozen=True)
class FolderDescription:
    """The series of a DICOM folder."""

    file: str
    listing: Listing


def describe(
    file: Path,
    axes: str | None = None,
    series: str | None = None,
    slice_tolerance: float | None = None,
    variable: str | None = None,
) -> FileDescription | RawDescription | FolderDescription:
    """Read a file and describe it: raw k-space by headers and one slice, a DICOM folder by headers alone.

    Parameters
    ----------
    series : of a DICOM folder, to look into one series. slice_tolerance : in mm. variable : of HDF5 and MATLAB.

    Raises
    ------
    UsageError
        If a parameter does not belong to what the file is.
    CrnnError
        If the file cannot be read; see `crnn_cli.io.images.load_image`.
    """
    from crnn_cli.io.formats import is_kspace

    if is_kspace(file):
        if series is not None:
            raise UsageError(Param("series"), f" is for DICOM, and {file} is raw k-space")
        from crnn_cli.io.kspace.describe import describe_raw

        return describe_raw(file, axes, variable, slice_tolerance)
    if variable is not None:
        raise UsageError(Param("variable"), f" is for HDF5 and MATLAB files of raw k-space, and {file} is none")
    from crnn_cli.io.formats import is_dicom
    from crnn_cli.io.images import require_readable

    if is_dicom(file) and series is None and axes is None:
        from crnn_cli.io.dicom.read import list_series

        require_readable(file)
        return FolderDescription(str(file), list_series(file, slice_tolerance=slice_tolerance))
    from crnn_cli.io.describe import describe_file

    return describe_file(file, axes, series, slice_tolerance=slice_tolerance)


def as_json(description: FileDescription | RawDescription | FolderDescription, spell: Spelling = str) -> dict[str, Any]:
    """The description as plain values; lengths in mm, times in s; the next command spelled by ``spell``."""
    if not isinstance(description, FolderDescription):
        from crnn_cli.io.describe import spell_next_step

        return asdict(description) | {"next_step": spell_next_step(description.next_step, spell)}
    listing = description.listing
    return {
        "file": description.file, "format": "DICOM", "series": [_series_as_json(each) for each in listing.series],
        "damaged": listing.damaged, "other_files": listing.others,
    }  # fmt: skip


def _series_as_json(series: Series) -> dict[str, Any]:
    return {
        "number": series.number, "uid": series.uid, "series_number": series.series_number,
        "description": series.description, "modality": series.modality, "part": series.part, "kind": series.kind,
        "files": series.files, "columns": series.size[1], "rows": series.size[0], "slices": series.slices,
        "frames": series.frames,
        "spacing_mm": None if series.spacing is None else [round(v, 4) for v in series.spacing],
        "orientation": series.orientation, "ordered_by": series.ordered_by, "frame_time_s": series.frame_time,
        "frame_time_spread_s": series.spread, "problems": list(series.problems),
        "doubts": [asdict(each) for each in series.remarks if isinstance(each, Doubt)],
        "facts": [asdict(each) for each in series.remarks if isinstance(each, Fact)],
    }  # fmt: skip


def next_series(listing: Listing) -> Series | None:
    """The first series that can be read, to try a command on."""
    return next((each for each in listing.series if each.grid), None)


def problems_of(listing: Listing, spell: Spelling = str, most: int = 10) -> list[str]:
    """Sentences about what is wrong in a DICOM folder, with remedies spelled by ``spell``."""
    texts = []
    for series in listing.series:
        texts += [f"series {series.number} cannot be read: {problem}" for problem in series.problems]
        texts += [f"series {series.number}: {spelled(series.remedy, spell)}"] if series.remedy else []
        texts += [f"series {series.number}: {each.text}" for each in series.remarks]
    texts += [f"{name} is damaged: {why}" for name, why in list(listing.damaged.items())[:most]]
    if len(listing.damaged) > most:
        texts.append(f"and {len(listing.damaged) - most} more damaged files")
    return texts

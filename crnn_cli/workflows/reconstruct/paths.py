"""The place of the images of a reconstruction, decided and checked before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.errors import Param, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import require_report_writable

if TYPE_CHECKING:
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions


def plan_output(
    scan: Path, options: ReconstructOptions, name: Callable[[str, ReconstructOptions], str], as_json: bool
) -> Path:
    """Decide where the images go; check that the scan is there and all outputs can be written.

    Parameters
    ----------
    scan : the input.
    options : with the names of the outputs.
    name : gives the name of the images where the options do not say it.
    as_json : whether the report is printed to standard output.

    Raises
    ------
    UsageError
        If the options contradict each other.
    UnreadableError
        If the scan is missing.
    OutputError
        If an output cannot be written.
    """
    from crnn_cli.io.atomic_write import require_pipe, require_writable
    from crnn_cli.io.formats import NIFTI, require_output_name, stem
    from crnn_cli.io.images import require_readable

    require_readable(scan)
    out, force, format_name = options.out, options.force, options.format_name
    if out is None:
        out = STREAM if scan == STREAM else stem(scan).with_name(name(stem(scan).name, options))
    _check_others(options)
    if format_name not in ("nifti", "dicom"):
        raise UsageError(Param("format_name", format_name), " is not known", remedy=("use nifti or dicom",))
    if format_name == "dicom":
        return _plan_folder(out, force)
    if out == STREAM:
        if as_json:
            both = " and images cannot both go to standard output"
            raise UsageError(Param("as_json"), both, remedy=("give ", Param("out", "FILE")))
        require_pipe()
        return out
    require_output_name(out, NIFTI)
    require_writable(out, force)
    require_report_writable(out, force)
    return out


def _check_others(options: ReconstructOptions) -> None:
    """Check names and places of preview, coil maps and page."""
    from crnn_cli.io.atomic_write import require_writable

    preview, save_maps, force = options.preview, options.save_maps, options.force
    if preview is not None:
        from crnn_cli.report.montage import require_preview_name

        require_preview_name(preview)
        require_writable(preview, force)
    if save_maps is not None:
        from crnn_cli.io.kspace.coil_maps import require_maps_name

        require_maps_name(save_maps)
        require_writable(save_maps, force)
    if options.report is not None:
        from crnn_cli.report.page.html import require_page_name

        require_page_name(options.report)
        require_writable(options.report, force)


def _plan_folder(out: Path, force: bool) -> Path:
    """Check that the folder of a DICOM series can be written."""
    from crnn_cli.io.dicom.folder import require_folder

    if out == STREAM:
        stream = "a DICOM series is a folder and cannot go to standard output"
        raise UsageError(stream, remedy=("give ", Param("out", "FOLDER")))
    require_folder(out, force)
    require_report_writable(out, force)
    return out

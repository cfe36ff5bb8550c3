"""Files of a reconstruction: images, the report beside them, pictures, maps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import report_output
from crnn_cli.workflows.reconstruct.quality import magnitude

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.data.write_set import WriteSet
    from crnn_cli.io.atomic_write import FolderOutput, Output
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions
    from crnn_cli.workflows.reconstruct.result import ReconstructionRun
    from crnn_cli.workflows.reconstruct.scan import Scan


def write_images(
    target: Path,
    run: ReconstructionRun,
    report: dict[str, Any],
    others: Sequence[Output | FolderOutput],
    options: ReconstructOptions,
) -> dict[str, Any]:
    """Write images, report and the other outputs together, or none of them.

    The report comes back with the keys ``output``, ``output_sha256`` and ``output_format``; none are added where the
    images go to standard output, which has no report beside it.

    Parameters
    ----------
    target : file, folder of a DICOM series, or `STREAM`.
    run : the reconstruction.
    report : what is known before anything is written.
    others : pictures and maps.
    options : ``complex_output``, ``format_name`` and ``force`` count here.
    """
    from crnn_cli.data.write_set import WriteSet
    from crnn_cli.io.atomic_write import add_outputs, write_together
    from crnn_cli.io.nifti.image import image_output, write_stream
    from crnn_cli.workflows.reconstruct.runs import runs_output

    image, force = as_written(run.images, options), options.force
    simulated = "SIMULATED " if run.scan.simulated else ""
    description = f"{report['tool']} {_method_name(report)} {simulated}{report['acceleration']:.2f}x"
    if options.format_name == "dicom":
        with WriteSet(force) as files:
            sha256 = _add_series(files, target, image, run.scan, description)
            report = report | {"output": str(target), "output_sha256": sha256, "output_format": "DICOM, derived series"}
            others = [*others, *runs_output(run, report, description, options)]
            add_outputs(files, [report_output(target, report, others, files.temporary(target)), *others])
            files.commit()
    elif target == STREAM:
        write_together([*others, *runs_output(run, report, description, options)], force)
        write_stream(image, sys.stdout.buffer, description)
    else:
        written = image_output(image, target, description)
        report = report | {"output": str(target), "output_sha256": written.sha256(), "output_format": "NIfTI"}
        outputs: list[Output | FolderOutput] = [written, *others, *runs_output(run, report, description, options)]
        write_together([*outputs, report_output(target, report, outputs)], force)
    return report


def as_written(image: Image, options: ReconstructOptions) -> Image:
    """Images as they are written: the magnitude, unless complex ones are asked for."""
    return image if options.complex_output else replace(image, array=magnitude(image.array))


def _add_series(files: WriteSet, target: Path, image: Image, scan: Scan, description: str) -> str:
    """Add images as a DICOM series derived from that of the scan; its sha256 as a source."""
    import math

    from crnn_cli.io.dicom.header_copy import kind_of
    from crnn_cli.io.dicom.write import About, write_derived
    from crnn_cli.io.images import load_image

    series = scan.series
    assert series is not None  # asked for before the work began
    name = f"{series.description[:38]} crnn {'SIMULATED ' if scan.simulated else ''}".strip()
    number = (series.series_number or 0) + 1000
    about = About(name, f"{description}. Not for diagnostic use.", kind_of(series), number)
    write_derived(image, series, about, target, force=True, files=files)
    return str(load_image(files.temporary(target), slice_tolerance=math.inf).source["sha256"])


def _method_name(report: dict[str, Any]) -> str:
    """Name of the model, or of the classical method."""
    named: dict[str, str] = report.get("model") or report["method"]
    return f"{named['name']}{' tuned' if report.get('adapted', {}).get('used') else ''}"


def coil_maps_output(target: Path, scan: Scan) -> Output:
    """Prepare the coil sensitivities that were used for writing, on the k-space grid without readout oversampling.

    (slice, coil, y, x); where a slice has two sets of them, (slice, set, coil, y, x), zero where one has no second.

    Raises
    ------
    UnsupportedDataError
        If one coil was used.
    """
    import numpy as np

    from crnn_cli.report.coil_montage import maps_output

    if scan.raw is None or not scan.raw.estimated_maps:
        raise UnsupportedDataError("there are no sensitivities to save: one coil was used")
    maps = scan.raw.estimated_maps
    sets = max(len(maps_MCYX) for maps_MCYX in maps)
    if sets == 1:
        return maps_output(np.stack([maps_MCYX[0] for maps_MCYX in maps]), target)
    padded = [np.pad(maps_MCYX, [(0, sets - len(maps_MCYX)), *[(0, 0)] * 3]) for maps_MCYX in maps]
    return maps_output(np.stack(padded), target)

"""What `crnn reconstruct` leaves behind: images, a report beside them, a picture, a table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import report_output

if TYPE_CHECKING:
    from crnn_cli.data.image import Array, Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.reconstruction.reconstruct import Reconstruction
    from crnn_cli.workflows.reconstruct.scan import Scan


def measure_quality(data: Scan, result: Reconstruction, network: bool) -> dict[str, Any]:
    """Return what is known after a run: about the data, the residual, the quality if it was simulated.

    network : whether the method was one, which a pattern along both axes may be too much for.
    """
    found = {**data.facts(), "residual": result.residual}
    if network and found["undersampled_axes"] == 2:
        notices.warn(
            "both spatial axes are undersampled, and the models here were trained with one: compare with the start "
            "alone, --iterations 0, or with --method tv"
        )
    if data.truth is not None:
        try:
            found["quality_against_truth"] = _quality(data, result, data.truth)
        except UnsupportedDataError as reason:
            notices.warn(f"the quality against the truth was not measured: {reason}")
    return found


def _quality(data: Scan, result: Reconstruction, truth: Image) -> dict[str, Any]:
    """Return measures of the zero-filled and the reconstructed magnitudes against the fully sampled series."""
    import torch

    from crnn_cli.mri.metrics import quality

    def magnitudes(image: Image) -> torch.Tensor:
        return torch.from_numpy(_magnitude(image.array.transpose(1, 0, 3, 2)).transpose(3, 2, 0, 1))

    reference, found = magnitudes(truth), {}
    for name, images in (("zero_filled", result.zero_filled_ZTYX), ("reconstructed", result.images_ZTYX)):
        found[name] = quality(magnitudes(data.to_image(images)), reference).summary()
    return found


def _magnitude(array: Array) -> Array:
    """Return the magnitudes of (x, y, ...), in a file where they are many."""
    import numpy as np

    from crnn_cli.data.mapped_arrays import apply_by_planes

    return apply_by_planes(np.abs, np.float32, array)


def save(
    target: Path, beside: Sequence[Output], data: Scan, result: Reconstruction, complex_output: bool,
    report: dict[str, Any], force: bool, format_name: str,
) -> None:  # fmt: skip
    """Write images, report and what goes beside them together, or none of it; a DICOM folder first."""
    import math
    from dataclasses import replace

    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.io.nifti.image import image_output, write_stream

    image = data.to_image(result.images_ZTYX)
    if not complex_output:
        image = replace(image, array=_magnitude(image.array))
    simulated = "SIMULATED " if data.truth is not None else ""
    description = f"{report['tool']} {_name(report)} {simulated}{report['acceleration']:.2f}x"
    if format_name == "dicom":
        from crnn_cli.io.dicom.write import About, write_derived
        from crnn_cli.io.images import load_image

        report["output"], report["format"] = str(target), "DICOM, derived series"
        series = data.series
        assert series is not None  # asked for before the work began
        name = f"{series.description[:38]} crnn {simulated}".strip()
        number = (series.series_number or 0) + 1000
        about = About(name, f"{description}. Not for diagnostic use.", series.modality, number)
        write_derived(image, series, about, target, force)
        report["output_sha256"] = load_image(target, slice_tolerance=math.inf).source["sha256"]
        write_together([report_output(target, report, beside), *beside], force)
    elif target == STREAM:
        write_together(beside, force)
        write_stream(image, sys.stdout.buffer, description)
    else:
        outputs = [image_output(image, target, description), *beside]
        report["output"], report["output_sha256"] = str(target), outputs[0].sha256()
        write_together([*outputs, report_output(target, report, outputs)], force)


def _name(report: dict[str, Any]) -> str:
    """Return the name of the model, or of the classical method."""
    named: dict[str, str] = report.get("model") or report["method"]
    return f"{named['name']}{' tuned' if report.get('adapted', {}).get('used') else ''}"


def maps_of(target: Path, data: Scan) -> Output:
    """Return the sensitivities that were used, on the grid of the k-space without readout oversampling."""
    import numpy as np

    from crnn_cli.report.coil_montage import maps_output

    if data.raw is None or not data.raw.maps:
        raise UnsupportedDataError("there are no sensitivities to save: one coil was used")
    return maps_output(np.stack([data.raw.maps[z] for z in sorted(data.raw.maps)]), target)

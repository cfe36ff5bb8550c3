"""Map of the uncertainty of a reconstruction: its options, its calibration, its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crnn_cli.errors import Param, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from crnn_cli.assessment.reliability import SliceReliability
    from crnn_cli.assessment.uncertainty import Map
    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.reconstruction.reconstruct import Reconstruction
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions
    from crnn_cli.workflows.reconstruct.result import ReconstructionRun
    from crnn_cli.workflows.reconstruct.scan import Scan


def plan_uncertainty(options: ReconstructOptions) -> None:
    """Check the options of the map and of its runs, and that they can be written.

    Raises
    ------
    UsageError
        If options do not go together.
    OutputError
        If the file, or the folder of the runs, cannot be written.
    """
    from crnn_cli.io.atomic_write import require_writable
    from crnn_cli.io.formats import NIFTI, require_output_name
    from crnn_cli.workflows.reconstruct.runs import require_runs_folder

    if options.uncertainty is None:
        for name in ("uncertainty_runs", "save_runs"):
            if getattr(options, name) is not None:
                needed = Param("uncertainty", "FILE")
                raise UsageError(Param(name), " belongs to a map of the uncertainty: it needs ", needed)
        return
    if options.hold_out_folds is not None:
        raise UsageError(
            Param("uncertainty"), " leaves lines out in each of its runs, and the residual is measured there",
            remedy=("give it without ", Param("hold_out_folds")),
        )  # fmt: skip
    require_output_name(options.uncertainty, NIFTI)
    require_writable(options.uncertainty, options.force)
    if options.save_runs is not None:
        require_runs_folder(options.save_runs, options.force)


def number_of_runs(options: ReconstructOptions) -> int:
    """Number of runs without some of the lines; 0 where no map is asked for."""
    from crnn_cli.assessment.uncertainty import RUNS

    return 0 if options.uncertainty is None else options.uncertainty_runs or RUNS


def uncertainty_map(
    scan: Scan, result: Reconstruction[SliceReliability], runs: int, share: float, scale: float | None
) -> tuple[Map, dict[str, Any]]:
    """Calibrate the map of all slices, and describe it for the report.

    The map (Z, T, Y, X) is the standard deviation of the magnitude, zero where a slice is empty.

    Parameters
    ----------
    scan, result : the data and their images, with the spread of each slice.
    runs, share : runs without some of the lines, and the share of lines that each left out.
    scale : calibration of the method; None where it was not measured, which counts as 1.
    """
    import numpy as np
    import torch

    from crnn_cli.assessment.uncertainty import DEFINITION, UNSEEN, calibrated_deviation
    from crnn_cli.mri.coverage import body_mask, coverage

    factor = 1.0 if scale is None else scale
    deviation_ZTYX = np.zeros(result.images_ZTYX.shape, np.float32)
    for z, reliability in zip(result.filled, result.assessments, strict=True):
        assert reliability.spread_TYX is not None  # a map was asked for
        deviation_ZTYX[z] = calibrated_deviation(reliability.spread_TYX, factor, reliability.noise_floor)
    magnitude = torch.from_numpy(np.abs(result.images_ZTYX))
    bright = body_mask(magnitude).expand_as(magnitude)
    mean, brightness = (
        float(values[bright].mean()) if bright.any() else 0.0
        for values in (torch.from_numpy(deviation_ZTYX), magnitude)
    )
    facts: dict[str, Any] = {
        "definition": DEFINITION, "cannot_see": UNSEEN, "runs": runs, "left_out": share,
        "scale": factor, "calibrated": scale is not None,
        "noise_floor": max((reliability.noise_floor for reliability in result.assessments), default=0.0),
        "mean_in_bright_parts": float(f"{mean:.6g}"),
        "relative": float(f"{mean / brightness:.6g}") if brightness else None,
    }  # fmt: skip
    if scan.truth is not None:
        images, map_image = scan.to_image(result.images_ZTYX), scan.to_map(deviation_ZTYX)
        facts["against_truth"] = coverage(_zt(images), _zt(scan.truth), _zt(map_image)).summary()
    return deviation_ZTYX, facts


def _zt(image: Image) -> Any:
    """Magnitude of an image as a tensor (Z, T, Y, X)."""
    import torch

    from crnn_cli.data.image import magnitude_of

    return torch.from_numpy(magnitude_of(image.array).transpose(2, 3, 1, 0).copy())


def map_output(target: Path, run: ReconstructionRun) -> tuple[Output, dict[str, Any]]:
    """Prepare the map for writing beside the images: the file, and what the report says about it."""
    from crnn_cli.io.nifti.image import image_output

    assert run.uncertainty is not None  # asked for before the work began
    simulated = "SIMULATED " if run.scan.simulated else ""
    text = f"{run.report['tool']} standard deviation {simulated}{run.report['acceleration']:.2f}x"
    output = image_output(run.uncertainty, target, text)
    return output, run.report["uncertainty"] | {"file": str(target), "sha256": output.sha256()}

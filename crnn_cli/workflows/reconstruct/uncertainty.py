"""What `crnn reconstruct --uncertainty` says and writes: a map of the standard deviation, and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crnn_cli.errors import UsageError
from crnn_cli.workflows.reconstruct.pictures import map_image

if TYPE_CHECKING:
    from crnn_cli.assessment.reliability import AssessedReconstructor
    from crnn_cli.assessment.uncertainty import Map
    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.reconstruction.reconstruct import Reconstruction
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions
    from crnn_cli.workflows.reconstruct.result import ReconstructionRun
    from crnn_cli.workflows.reconstruct.scan import Scan


def plan_uncertainty(options: ReconstructOptions) -> None:
    """Refuse options that do not go together, and a name that cannot be written."""
    from crnn_cli.io.atomic_write import require_writable
    from crnn_cli.io.nifti.image import require_nifti_name

    if options.uncertainty is None:
        if options.uncertainty_runs is not None:
            raise UsageError("--uncertainty-runs belongs to a map of the uncertainty: it needs --uncertainty FILE")
        return
    if options.hold_out_folds is not None:
        raise UsageError(
            "--uncertainty leaves lines out in each of its runs, and the residual is measured there: give it without "
            "--held-out"
        )
    require_nifti_name(options.uncertainty)
    require_writable(options.uncertainty, options.force)


def number_of_runs(options: ReconstructOptions) -> int:
    """Return how often lines are left out for the map; 0 where none is asked for."""
    from crnn_cli.assessment.uncertainty import RUNS

    return 0 if options.uncertainty is None else options.uncertainty_runs or RUNS


def uncertainty_map(
    watched: AssessedReconstructor, result: Reconstruction, scale: float | None, data: Scan
) -> tuple[Map | None, dict[str, Any]]:
    """Return the standard deviation of all slices (Z, T, Y, X), zero where nothing was measured, and the report.

    None and nothing where no map was asked for. scale : of the method, None where it was not measured.
    """
    import numpy as np
    import torch

    from crnn_cli.assessment.uncertainty import DEFINITION, UNSEEN, standard_deviation
    from crnn_cli.mri.coverage import body, coverage

    if not watched.mapped:
        return None, {}
    factor = 1.0 if scale is None else scale
    found = np.zeros(result.images_ZTYX.shape, np.float32)
    for z, one in zip(result.filled, watched.slices, strict=True):
        assert one.spread_TYX is not None  # a map was asked for
        found[z] = standard_deviation(one.spread_TYX, factor, one.floor)
    magnitude = torch.from_numpy(np.abs(result.images_ZTYX))
    bright = body(magnitude).expand_as(magnitude)
    mean, light = (float(one[bright].mean()) if bright.any() else 0.0 for one in (torch.from_numpy(found), magnitude))
    facts: dict[str, Any] = {
        "definition": DEFINITION, "cannot_see": UNSEEN, "runs": watched.folds, "left_out": watched.share,
        "scale": factor, "calibrated": scale is not None,
        "noise_floor": max((one.floor for one in watched.slices), default=0.0),
        "mean_in_bright_parts": float(f"{mean:.6g}"), "relative": float(f"{mean / light:.6g}") if light else None,
    }  # fmt: skip
    if data.truth is not None:
        made, map_of = data.to_image(result.images_ZTYX), map_image(found, data)
        facts["against_truth"] = coverage(_zt(made), _zt(data.truth), _zt(map_of)).summary()
    return found, {"uncertainty": facts}


def _zt(image: Image) -> Any:
    """Return the magnitude of an image as a tensor (Z, T, Y, X)."""
    import numpy as np
    import torch

    return torch.from_numpy(np.abs(image.array).transpose(2, 3, 1, 0).copy())


def map_outputs(options: ReconstructOptions, made: ReconstructionRun) -> list[Output]:
    """Return the map to be written beside the images, if it was asked for; the report then names it."""
    from crnn_cli.io.nifti.image import image_output

    target, report = options.uncertainty, made.report
    if target is None or made.deviation_ZTYX is None:
        return []
    simulated = "SIMULATED " if made.data.truth is not None else ""
    text = f"{report['tool']} standard deviation {simulated}{report['acceleration']:.2f}x"
    output = image_output(map_image(made.deviation_ZTYX, made.data), target, text)
    report["uncertainty"] |= {"file": str(target), "sha256": output.sha256()}
    return [output]

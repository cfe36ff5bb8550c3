"""Quality of a simulated scan's images against the fully sampled series, and doubts about the method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UnsupportedDataError

if TYPE_CHECKING:
    from crnn_cli.assessment.reliability import SliceReliability
    from crnn_cli.bundles.psnr_law import PSNRLaw
    from crnn_cli.data.image import Array, Image
    from crnn_cli.reconstruction.reconstruct import Reconstruction
    from crnn_cli.workflows.reconstruct.scan import Scan


_NOTHING = 1e-9
"""Share of the energy up to which nothing was filled in where nothing was measured."""


def measure_quality(scan: Scan, result: Reconstruction[Any], network: bool) -> dict[str, Any]:
    """Facts for the report: ``quality_against_truth`` of a simulation, nothing of other scans.

    A network on a scan that is undersampled along both axes gives a warning: the models were trained with one.

    Parameters
    ----------
    scan, result : the measured data and its images.
    network : whether the method is a network.
    """
    from crnn_cli.data.sampling_mask import undersampled_axes

    if network and undersampled_axes(result.mask_ZTYX) == 2:
        notices.warn(
            "two-axes-undersampled",
            "both spatial axes are undersampled, and the models here were trained with one: compare with the initial "
            "images (0 iterations), or with the method tv",
        )
    if scan.truth is None:
        return {}
    try:
        return {"quality_against_truth": _quality(scan, result, scan.truth)}
    except UnsupportedDataError as error:
        notices.warn("quality-not-measured", f"the quality against the truth was not measured: {error}")
        return {}


def expect_quality(
    result: Reconstruction[SliceReliability], law: PSNRLaw | None, acceleration: float
) -> dict[str, Any]:
    """Facts for the report: ``expected_quality`` of a model that has a law for it, nothing of others.

    Parameters
    ----------
    result : images of all slices, and the reliability of each.
    law : of the model, as it was used.
    acceleration : all lines over measured lines.
    """
    from crnn_cli.assessment.expected_psnr import error_budget, expected_quality, not_expected

    if law is None:
        return {}
    budget, contrast = error_budget(result.assessments, acceleration), _contrast(result)
    if budget is None or contrast is None:
        reasons = sorted({each.reason for each in result.assessments if each.reason})
        return {"expected_quality": not_expected("; ".join(reasons) or "no errors were found at lines held out")}
    return {"expected_quality": expected_quality(law, budget, contrast).summary()}


def _contrast(result: Reconstruction[SliceReliability]) -> float | None:
    """Peak of the magnitude of all images over their mean energy, in dB; None where they are zero."""
    import math

    import numpy as np

    peak, energy = 0.0, 0.0
    for images_TYX in result.images_ZTYX:
        magnitude_TYX = np.abs(images_TYX)
        peak = max(peak, float(magnitude_TYX.max()))
        energy += float(np.square(magnitude_TYX, dtype=np.float64).sum())
    return 10 * math.log10(peak**2 * result.images_ZTYX.size / energy) if energy else None


def doubt_prediction(reliability: dict[str, Any]) -> None:
    """Warn where lines held out are predicted no better than by zeros, by a method that predicts them at all.

    Warn as well where they are predicted better than the noise that was estimated allows.

    Parameters
    ----------
    reliability : as the report has it.
    """
    held, undetermined = reliability["held_out"].get("overall"), reliability["null_space_energy_fraction"]["overall"]
    predicts = undetermined is None or undetermined > _NOTHING  # zero-filled images are zero there by definition
    if held is not None and held >= 1 and predicts:
        notices.warn(
            "held-out-not-predicted",
            f"lines held out are predicted no better than by zeros (residual {held:.3g}): either they are noise alone, "
            "or axes, sensitivities or the sampling pattern are not what they were taken for",
        )
    if reliability.get("noise_estimate") is not None:
        notices.warn(
            "noise-estimate-too-high",
            f"lines held out are predicted better than the estimated noise allows (residual {held:.3g}): there is less "
            "noise than was estimated, and no residual of noise alone is stated",
        )


def doubt_gate(reliability: dict[str, Any]) -> None:
    """Warn that a threshold says little, where lines were to be held out and none could be.

    Parameters
    ----------
    reliability : as the report has it, of a reconstruction with a threshold of the residual.
    """
    held = reliability["held_out"]
    if held.get("overall") is None:
        notices.warn(
            "threshold-of-samples",
            "no lines could be held out, so that the threshold is compared with the residual at the samples, which is "
            f"small however good the images are: {held['reason']}",
        )


def doubt_field_of_view(result: Reconstruction[Any]) -> None:
    """Doubt a field of view in which the object folds, as the coil sensitivities show; see `crnn_cli.mri.map_sets`."""
    from crnn_cli.mri.map_sets import FOLDED_ENERGY

    sets = {z + 1: facts["map_sets"] for z, facts in enumerate(result.facts)
            if facts.get("folded_energy", 0.0) > FOLDED_ENERGY}  # fmt: skip
    if not sets:
        return
    few = [str(z) for z in list(sets)[:8]] + ["..."] * (len(sets) > 8)
    used = {1: "one set of coil sensitivities is used", 2: "two sets of coil sensitivities are used"}
    notices.warn(
        "field-of-view-small",
        f"the field of view is smaller than the object, which folds in slice{'s' * (len(sets) > 1)} {', '.join(few)}: "
        + " or ".join(used[number] for number in sorted(set(sets.values()))),
    )


def _quality(scan: Scan, result: Reconstruction[Any], truth: Image) -> dict[str, Any]:
    """Measures of the zero-filled and the reconstructed magnitudes against the fully sampled series."""
    import torch

    from crnn_cli.mri.metrics import quality

    def magnitudes(image: Image) -> torch.Tensor:
        return torch.from_numpy(magnitude(image.array.transpose(1, 0, 3, 2)).transpose(3, 2, 0, 1))

    reference = magnitudes(truth)
    images = {"zero_filled": result.zero_filled_ZTYX, "reconstructed": result.images_ZTYX}
    return {
        name: quality(magnitudes(scan.to_image(each)), reference).summary() for name, each in images.items()
    }  # fmt: skip


def magnitude(array: Array) -> Array:
    """Magnitudes of an array (x, y, ...), in a file where they are many."""
    import numpy as np

    from crnn_cli.data.image import magnitude_of
    from crnn_cli.data.mapped_arrays import apply_by_planes

    return apply_by_planes(magnitude_of, np.float32, array)


def as_written(image: Image, complex_output: bool) -> Image:
    """Images as they are written: the magnitude, unless complex ones are asked for."""
    return image if complex_output else replace(image, array=magnitude(image.array))

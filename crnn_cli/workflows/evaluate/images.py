"""Images against a reference: PSNR, SSIM, NMSE and HFEN, and coverage by an uncertainty map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli import notices
from crnn_cli.data.image import Image, magnitude_of
from crnn_cli.errors import CrnnError
from crnn_cli.workflows.evaluate.options import EvaluateOptions
from crnn_cli.workflows.evaluate.pair import Candidate, Pair

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.mri.metrics import Quality


def measure_images(
    pair: Pair, options: EvaluateOptions, uncertainty: Candidate | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Measure the tested image of a pair; complex images are compared by magnitude.

    Parameters
    ----------
    uncertainty : standard deviation of the tested image, on its grid, see `uncertainty.align_uncertainty`.

    Returns
    -------
    Measures, thresholds and measures of each frame, as in the report; and what was missed of the thresholds, in words.
    """
    from crnn_cli.mri.metrics import quality
    from crnn_cli.workflows.evaluate.mismatch import doubt_mismatch
    from crnn_cli.workflows.evaluate.uncertainty import coverage_facts

    tested, reference = (frames_of(each) for each in (pair.tested, pair.reference))
    measured = quality(tested, reference, "least-squares" if options.fit_scale else "none")
    doubt_mismatch(tested, reference, options.fit_scale)
    missed = _missed(measured, options)
    report = measured.summary() | {
        "required": {"psnr_db": _finite(options.require_psnr), "ssim": _finite(options.require_ssim)},
        "passed": not missed if options.requires_quality else None,
    }
    if uncertainty is not None:
        facts = coverage_facts(tested, reference, frames_of(uncertainty), measured.scale)
        report["uncertainty"] = {"file": uncertainty.name, **facts}
    return report | {"frames": measured.frames()}, missed


def frames_of(candidate: Candidate) -> Tensor:
    """Magnitude as a tensor (Z, T, Y, X), float32, with a note of what was done to get there.

    Raises
    ------
    UnsupportedDataError
        If voxels are NaN or infinite.
    """
    import torch

    image, name = candidate.image, candidate.name
    image.require_finite(name)
    array = image.array
    if image.is_complex:
        notices.note("magnitude-taken", f"{name} is complex: its magnitude is compared")
        array = np.abs(array)
    else:
        array = array.astype(np.float32, copy=False)
    if bool(np.less(array, 0).any()):
        notices.warn("negative-values", f"{name} has negative values; they are compared as they are, not as magnitudes")
    if array.ndim == 3 and array.shape[2] > 1:
        text = f"{name} is 3-D: each of its {array.shape[2]} slices along the third axis is one frame"
        notices.note("slices-as-frames", text)
    return torch.from_numpy(_to_frames(array))


def _to_frames(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Array (z, t, y, x) of one (x, y, z) or (x, y, z, t)."""
    series = array[..., None] if array.ndim == 3 else array
    return np.ascontiguousarray(series.transpose(2, 3, 1, 0))


def magnitude_frames(image: Image) -> np.ndarray[Any, Any]:
    """Magnitudes (Z, T, Y, X) of an image."""
    return _to_frames(magnitude_of(image.array))


def image_quality(tested: Image, reference: Image, fit_scale: bool) -> dict[str, Any]:
    """PSNR (``psnr_db``, None where identical) and SSIM of the magnitude; empty, with a warning, where undefined.

    Parameters
    ----------
    reference : of the shape of ``tested``.
    fit_scale : multiply ``tested`` by the factor that fits best first.
    """
    import torch

    from crnn_cli.mri.metrics import quality

    tensors = [torch.from_numpy(magnitude_frames(each)) for each in (tested, reference)]
    try:
        summary = quality(tensors[0], tensors[1], "least-squares" if fit_scale else "none").summary()
    except CrnnError as reason:
        notices.warn("quality-not-measured", f"the quality was not measured: {reason}")
        return {}
    return {"psnr_db": summary["psnr_db"], "ssim": summary["ssim"]}


def _finite(threshold: float | None) -> float | None:
    """A threshold for JSON, which has no infinity and nothing that is not a number."""
    return threshold if threshold is not None and math.isfinite(threshold) else None


def _missed(measured: Quality, options: EvaluateOptions) -> list[str]:
    psnr, ssim = measured.psnr.whole, measured.ssim.whole
    missed = []
    if options.require_psnr is not None and not psnr >= options.require_psnr:
        missed.append(f"PSNR is {psnr:.4g} dB, {options.require_psnr:g} dB or more was required")
    if options.require_ssim is not None and not ssim >= options.require_ssim:
        missed.append(f"SSIM is {ssim:.4g}, {options.require_ssim:g} or more was required")
    return missed

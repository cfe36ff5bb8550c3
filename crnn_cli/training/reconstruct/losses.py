"""Losses of reconstruction, on complex images x against the truth r; d = x - r.

    log             log(mean |d| + root mean |d|^2)
    log_frames      the same of each frame, mean over the frames
    l1              mean |d|
    l2              mean |d|^2
    ssim            1 - mean SSIM(|x|, |r|) of the frames
    perpendicular   mean of P + | |x| - |r| |, P = |r| |sin a|, beyond a right angle |r| (2 - |sin a|)
    kspace          mean |m F x - y| / root mean |y|^2 over the measured samples y, of all coils

a is the angle between x and r. For images scaled so that their bright parts are about 1, all are of order 1 or below,
but for ``log``, which falls to -9 at d = 0. Gradients are finite everywhere, also at images of zeros.

Legend: B batch, T frame, Y phase encoding, X readout, F = B * T, N measured sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.metrics import WINDOW, ssim_per_frame
from crnn_cli.mri.multicoil import MultiCoilConsistency

Data = SingleCoilConsistency | MultiCoilConsistency
ImageLoss = Callable[[Tensor, Tensor, Data], Tensor]

_SMALL = 0.01  # |x| / |r| below which the angle between them fades out
_NOTHING = 1e-6  # stands for the size of a truth or of data that are zero


def reconstruction_loss(image_BTYX: Tensor, truth_BTYX: Tensor) -> Tensor:
    """Compute log(mean |d| + root mean |d|^2) of the complex error d.

    The first term is robust, the second is the one that PSNR sees. The logarithm lets easy and hard items count alike,
    as they do in a mean of decibels. At d = 0 it is -9.1, not minus infinity.

    >>> round(float(reconstruction_loss(torch.ones(1, 2, 4, 4) + 0j, torch.zeros(1, 2, 4, 4) + 0j)), 3)
    0.693
    """
    squared = torch.view_as_real(image_BTYX - truth_BTYX).square().sum(-1)
    return torch.log((squared + 1e-8).sqrt().mean() + (squared.mean() + 1e-10).sqrt())


def frame_loss(image_BTYX: Tensor, truth_BTYX: Tensor) -> Tensor:
    """Compute the mean over the frames of `reconstruction_loss`: early and late frames of a stream count alike."""
    squared = torch.view_as_real(image_BTYX - truth_BTYX).square().sum(-1)
    mean_BT, rms_BT = (squared + 1e-8).sqrt().mean((-2, -1)), (squared.mean((-2, -1)) + 1e-10).sqrt()
    return torch.log(mean_BT + rms_BT).mean()


def l1_loss(image_BTYX: Tensor, truth_BTYX: Tensor) -> Tensor:
    """Compute mean |d|, d complex: real and imaginary part count together.

    >>> float(l1_loss(torch.tensor([3 + 4j]), torch.tensor([0j])))
    5.0
    """
    return (image_BTYX - truth_BTYX).abs().mean()


def l2_loss(image_BTYX: Tensor, truth_BTYX: Tensor) -> Tensor:
    """Compute mean |d|^2, d complex.

    >>> float(l2_loss(torch.tensor([3 + 4j]), torch.tensor([0j])))
    25.0
    """
    return torch.view_as_real(image_BTYX - truth_BTYX).square().sum(-1).mean()


def ssim_loss(image_BTYX: Tensor, truth_BTYX: Tensor) -> Tensor:
    """Compute 1 - mean structural similarity of the magnitudes of the frames, from 0 to 2; the phase does not count.

    Windows and constants are those of `crnn_cli.mri.metrics.ssim`; the data range of a sequence is max |r| over it.

    Raises
    ------
    UnsupportedDataError
        If Y or X is below 11, the width of the window.
    """
    if min(image_BTYX.shape[-2:]) < WINDOW:
        raise UnsupportedDataError(
            f"frames are {image_BTYX.shape[-1]} x {image_BTYX.shape[-2]} pixels (x, y); the ssim loss needs at least "
            f"{WINDOW} both ways"
        )
    x_BTYX, r_BTYX = image_BTYX.abs(), truth_BTYX.abs()
    peak_B1YX = r_BTYX.amax((1, 2, 3), keepdim=True).clamp_min(_NOTHING)
    peak_FYX = peak_B1YX.expand(-1, x_BTYX.shape[1], -1, -1).flatten(0, 1)
    return 1 - ssim_per_frame(x_BTYX.flatten(0, 1), r_BTYX.flatten(0, 1), peak_FYX).mean()


def perpendicular_loss(image_BTYX: Tensor, truth_BTYX: Tensor) -> Tensor:
    """Compute the perpendicular loss, which weighs magnitudes too small and too large alike; the L2 loss does not.

    Mean over pixels of P + | |x| - |r| |. P = |Re x Im r - Im x Re r| / |x| is the distance of r from the line through
    x: it depends on the angle between them, not on |x|. Beyond a right angle it is 2 |r| - P, so that it grows up to 2
    |r| at opposite signs.

    The angle is undefined where x is zero. For |x| < 0.01 |r|, P is multiplied by |x| / (0.01 |r|): continuous, with
    gradients of at most some hundred.

    References
    ----------
    Terpstra, Maspero, Sbrizzi, van den Berg: "Perp-loss: a symmetric loss function for magnetic resonance imaging
    reconstruction and image registration with deep learning", Medical Image Analysis 80, 2022. There the magnitudes are
    compared by their squared difference or SSIM; the absolute difference is that of the first form (ISMRM 2021, 1751).
    """
    size_x, size_r = image_BTYX.abs(), truth_BTYX.abs()
    product = image_BTYX * truth_BTYX.conj()
    across = product.imag.abs()
    turned = torch.where(product.real < 0, 2 * size_x * size_r - across, across)
    least = (_SMALL * size_r).clamp_min(torch.finfo(size_r.dtype).tiny)
    return (turned / torch.maximum(size_x, least) + (size_x - size_r).abs()).mean()


def kspace_loss(image_BTYX: Tensor, consistency: Data) -> Tensor:
    """Compute mean |m F x - y| over the measured samples, in units of the root mean square of y; no truth is needed.

    Behind hard data consistency of one coil it is zero whatever the network does. Samples of several coils are fitted
    jointly, and none exactly.
    """
    difference_N, data_N = consistency.at_samples(image_BTYX)
    number = max(1, data_N.numel())
    unit = (data_N.abs().square().sum() / number).sqrt().clamp_min(_NOTHING)
    return difference_N.abs().sum() / (number * unit)


IMAGE_LOSSES: dict[str, ImageLoss] = {
    "log": lambda image, truth, _: reconstruction_loss(image, truth),
    "log_frames": lambda image, truth, _: frame_loss(image, truth),
    "l1": lambda image, truth, _: l1_loss(image, truth),
    "l2": lambda image, truth, _: l2_loss(image, truth),
    "ssim": lambda image, truth, _: ssim_loss(image, truth),
    "perpendicular": lambda image, truth, _: perpendicular_loss(image, truth),
    "kspace": lambda image, _, consistency: kspace_loss(image, consistency),
}


def image_loss(weights: Mapping[str, float], image_BTYX: Tensor, truth_BTYX: Tensor, consistency: Data) -> Tensor:
    """Compute the weighted sum of losses.

    Parameters
    ----------
    weights : by names of `IMAGE_LOSSES`.
    image_BTYX, truth_BTYX : complex.
    consistency : operator with the measured data, for losses in k-space.
    """
    terms = [weight * IMAGE_LOSSES[name](image_BTYX, truth_BTYX, consistency) for name, weight in weights.items()]
    return torch.stack(terms).sum()

"""Classical reconstruction methods for dynamic Cartesian scans with one coil or several: baselines of the networks.

Each method is a function (encoding, data, weight, iterations, progress) -> image. The table `METHODS` holds them with
their papers and defaults; `run_method` scales the data so that weights are relative to the brightness of the image.

Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.mri.conjugate_gradient import sense
from crnn_cli.mri.consistency import energy_weighted_rms, share_views
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.low_rank import llr, low_rank_plus_sparse
from crnn_cli.mri.total_variation.admm import tv
from crnn_cli.notices import Progress, no_progress

Reconstruct = Callable[[Encoding, Tensor, float, int, Progress], Tensor]
"""(encoding, data_BCTYX, weight, iterations, progress) -> image_BTYX, for data whose image has scale 1."""


@dataclass(frozen=True)
class ClassicalMethod:
    """A classical reconstruction method with its defaults.

    Attributes
    ----------
    run : the reconstruction.
    title, paper : for reports.
    weight_meaning : meaning of the regularisation weight; empty where the method has none.
    weight, iterations : defaults; iterations 0 where the method does not iterate.
    min_frames : smallest number of frames.
    weight_per_sigma : slope of the default weight over sigma, the standard deviation of the noise of a sample relative
        to the bright parts of the image; fitted over many noise levels (`benchmarks/weights.py`).
    """

    run: Reconstruct
    title: str
    paper: str
    weight_meaning: str = ""
    weight: float = 0.0
    iterations: int = 0
    min_frames: int = 1
    weight_per_sigma: float = 0.0

    def default_weight(self, sigma: float = 0.0) -> float:
        """Regularisation weight for noise of standard deviation ``sigma`` relative to the bright parts of the image."""
        return self.weight + self.weight_per_sigma * sigma


def zero_filled(
    encoding: Encoding, data_BCTYX: Tensor, weight: float = 0.0, iterations: int = 0, progress: Progress = no_progress
) -> Tensor:
    """Zero-filled image A^H y, (B, T, Y, X): aliased or blurred, but without any assumption."""
    return encoding.adjoint(data_BCTYX)


def sliding_window(
    encoding: Encoding, data_BCTYX: Tensor, weight: float = 0.0, iterations: int = 0, progress: Progress = no_progress
) -> Tensor:
    """Sliding-window image, (B, T, Y, X): missing samples are weighted averages over the other frames.

    A sample missing in frame t becomes sum_s v(t - s) m_s y_s / sum_s v(t - s) m_s, v(d) = 1 / (1 + |d|)^2. Suited to
    slow motion; fast motion blurs in time.

    References
    ----------
    Markl & Hennig, MRM 45, 2001 (view sharing).
    """
    return share_views(encoding, data_BCTYX)


METHODS: dict[str, ClassicalMethod] = {
    "zero-filled": ClassicalMethod(zero_filled, "Zero-filled", ""),
    "sliding-window": ClassicalMethod(sliding_window, "Sliding window", "Markl & Hennig, MRM 45, 2001", min_frames=2),
    "sense": ClassicalMethod(
        sense,
        "CG-SENSE",
        "Pruessmann et al., MRM 46, 2001",
        "Tikhonov, relative to A^H A",
        0.001,
        50,
    ),
    "tv": ClassicalMethod(
        tv,
        "Total variation in time and space",
        "Feng et al., MRM 70, 2013",
        "length of a change in time, relative to the bright parts",
        0.001,
        40,
        weight_per_sigma=0.3,
    ),
    "llr": ClassicalMethod(
        llr,
        "Locally low rank",
        "Zhang, Pauly, Levesque, MRM 73, 2015",
        "deviation of noise in a block, relative to the bright parts",
        0.0005,
        100,
        2,
        weight_per_sigma=0.12,
    ),
    "l+s": ClassicalMethod(
        low_rank_plus_sparse,
        "Low rank plus sparse",
        "Otazo, Candes, Sodickson, MRM 73, 2015",
        "length of a temporal frequency, relative to the bright parts",
        0.004,
        100,
        2,
        weight_per_sigma=0.3,
    ),
}


def run_method(
    name: str,
    encoding: Encoding,
    kspace_BCTYX: Tensor,
    weight: float | Callable[[float], float] | None = None,
    iterations: int | None = None,
    progress: Progress = no_progress,
) -> Tensor:
    """Reconstruct k-space by a method of `METHODS`, each batch item on its own.

    Each item is divided by the `energy_weighted_rms` of its view-shared image, reconstructed, and multiplied back. So
    weights are relative to the brightness, twice the data gives twice the image, and items do not affect each other.

    Parameters
    ----------
    name : a key of `METHODS`.
    kspace_BCTYX : measured k-space, complex; values outside the mask are ignored.
    weight, iterations : None for the defaults of the method. The weight may be a function of the scale of the item.
    progress : called with (iterations done, iterations in all) over all items.

    Returns
    -------
    (B, T, Y, X) complex, in the scale of the k-space; zero for an item of zeros. With several sets of sensitivities B
    are the components of the one item.

    Raises
    ------
    UsageError
        If the method is unknown, the weight is negative, or the iterations are below 1.
    UnsupportedDataError
        If the method needs more frames than there are.
    """
    method = _find_method(name)
    weight = method.default_weight() if weight is None else weight
    iterations = method.iterations if iterations is None else iterations
    if not callable(weight) and not 0 <= weight < float("inf"):
        raise UsageError(f"weight {weight:g} of {name}: give 0 or more; the default is {method.weight:g}")
    if method.iterations and iterations < 1:
        raise UsageError(f"{iterations} iterations of {name}: give at least 1; the default is {method.iterations}")
    items, _, frames = kspace_BCTYX.shape[:3]
    if frames < method.min_frames:
        usable = ", ".join(other for other, entry in METHODS.items() if entry.min_frames <= frames)
        raise UnsupportedDataError(
            f"{name} needs {method.min_frames} frames or more, there is {frames}", remedy=("choose ", usable)
        )
    images = []
    for item in range(items):

        def on_progress(done: int, total: int, before: int = item) -> None:
            progress(before * total + done, items * total)

        problem = _select_item(encoding, item), kspace_BCTYX[item : item + 1]
        images.append(_run_item(method, *problem, weight, iterations, on_progress))
    return torch.cat(images)


def _run_item(
    method: ClassicalMethod, encoding: Encoding, kspace_BCTYX: Tensor, weight: float | Callable[[float], float],
    iterations: int, progress: Progress,
) -> Tensor:  # fmt: skip
    data = encoding.to_data_space(kspace_BCTYX)
    scale = energy_weighted_rms(share_views(encoding, data), encoding.map_sets)
    if not bool(scale > 0):
        return torch.zeros_like(encoding.adjoint(data))
    weight = weight(float(scale)) if callable(weight) else weight
    data /= scale[:, None]  # in place: `to_data_space` copied
    return method.run(encoding, data, weight, iterations, progress) * scale


def _find_method(name: str) -> ClassicalMethod:
    if name not in METHODS:
        raise UsageError(f"unknown method {name}: use {', '.join(METHODS)}")
    return METHODS[name]


def _select_item(encoding: Encoding, item: int) -> Encoding:
    """Encoding of one batch item; of several sets of sensitivities there is one."""
    if encoding.map_sets > 1:
        return encoding
    mask = encoding.mask_BTYX if encoding.mask_BTYX.shape[0] == 1 else encoding.mask_BTYX[item : item + 1]
    maps = encoding.maps_BCYX
    if maps is not None and maps.shape[0] > 1:
        maps = maps[item : item + 1]
    return Encoding(mask, maps)

"""Classical reconstructions of a dynamic Cartesian scan, with one coil or several: what a network has to beat.

Each is a function (encoding, data, weight, iterations, progress) -> image on `Encoding` and its prepared data; the
table `METHODS` says what each is and its defaults, and `run_method` brings data of any scale to what weights mean.
Legend: B batch, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.mri.conjugate_gradient import Progress, no_progress, sense
from crnn_cli.mri.consistency import energy_weighted_rms, share_views
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.low_rank import llr, low_rank_plus_sparse
from crnn_cli.mri.total_variation import tv

Reconstruct = Callable[[Encoding, Tensor, float, int, Progress], Tensor]


@dataclass(frozen=True)
class ClassicalMethod:
    """A classical reconstruction.

    Attributes
    ----------
    run : (encoding, data_BCTYX, weight, iterations, progress) -> image_BTYX, of data whose image has scale 1.
    title, paper, good_at : for people.
    weighs : what the weight is; empty where there is none.
    weight, iterations : defaults; iterations 0 where it does not iterate.
    frames : at least so many.
    noisy : the default weight is weight + noisy * sigma, sigma the deviation of the noise of a sample
        over the bright parts of the image; what was best for noise of many levels (`benchmarks/weights.py`).
    """

    run: Reconstruct
    title: str
    paper: str
    good_at: str
    weighs: str = ""
    weight: float = 0.0
    iterations: int = 0
    frames: int = 1
    noisy: float = 0.0

    def default_weight(self, sigma: float = 0.0) -> float:
        """Return the weight for noise of deviation ``sigma``, relative to the bright parts of the image."""
        return self.weight + self.noisy * sigma


def zero_filled(
    encoding: Encoding, data_BCTYX: Tensor, weight: float = 0.0, iterations: int = 0, progress: Progress = no_progress
) -> Tensor:
    """Return A^H y: zeros where nothing was measured. Blurred or aliased, but nothing is assumed."""
    return encoding.adjoint(data_BCTYX)


def sliding_window(
    encoding: Encoding, data_BCTYX: Tensor, weight: float = 0.0, iterations: int = 0, progress: Progress = no_progress
) -> Tensor:
    """Return S^H of the coils' images, each sample that a frame lacks averaged from other frames, near ones most.

    A sample missing in frame t becomes sum_s v(t - s) m_s y_s / sum_s v(t - s) m_s, v(d) = 1 / (1 + |d|)^2. Good where
    little moves; motion blurs in time. View sharing in the sense of Markl & Hennig, MRM 45, 2001.
    """
    return share_views(encoding, data_BCTYX)


METHODS: dict[str, ClassicalMethod] = {
    "zero-filled": ClassicalMethod(zero_filled, "Zero-filled", "", "a look at the data, nothing assumed"),
    "sliding-window": ClassicalMethod(
        sliding_window, "Sliding window", "Markl & Hennig, MRM 45, 2001", "slow motion, at once", frames=2
    ),
    "sense": ClassicalMethod(
        sense,
        "CG-SENSE",
        "Pruessmann et al., MRM 46, 2001",
        "several coils, few-fold acceleration, static or dynamic",
        "Tikhonov, relative to A^H A",
        0.001,
        50,
    ),
    "tv": ClassicalMethod(
        tv,
        "Total variation in time and space",
        "Feng et al., MRM 70, 2013",
        "cine and perfusion, strong undersampling",
        "length of a change in time, relative to the bright parts",
        0.001,
        40,
        noisy=0.3,
    ),
    "llr": ClassicalMethod(
        llr,
        "Locally low rank",
        "Zhang, Pauly, Levesque, MRM 73, 2015",
        "perfusion and parameter maps; fine motion",
        "deviation of noise in a block, relative to the bright parts",
        0.0005,
        100,
        2,
        noisy=0.12,
    ),
    "l+s": ClassicalMethod(
        low_rank_plus_sparse,
        "Low rank plus sparse",
        "Otazo, Candes, Sodickson, MRM 73, 2015",
        "still background with periodic or brief changes",
        "length of a temporal frequency, relative to the bright parts",
        0.004,
        100,
        2,
        noisy=0.3,
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
    """Return the image of a method in the scale of the k-space, (B, T, Y, X) complex.

    Each batch item alone: divided by the `energy_weighted_rms` of its view-shared image, reconstructed, multiplied
    back. So weights are relative, twice the data gives twice the image, and an item knows nothing of its neighbours.

    Parameters
    ----------
    kspace_BCTYX : measured k-space, zero or not outside the mask, both axes in k-space.
    weight, iterations : of `METHODS` where None. The weight may be a function of the brightness divided by.
    progress : called with (iterations done, iterations in all) of all items.

    Raises
    ------
    UsageError
        If there is no such method, the weight is negative or there are no iterations.
    UnsupportedDataError
        If the method needs more frames than there are.
    """
    method = _known(name)
    weight = method.default_weight() if weight is None else weight
    iterations = method.iterations if iterations is None else iterations
    if not callable(weight) and not 0 <= weight < float("inf"):
        raise UsageError(f"weight {weight:g} of {name}: give 0 or more; the default is {method.weight:g}")
    if method.iterations and iterations < 1:
        raise UsageError(f"{iterations} iterations of {name}: give at least 1; the default is {method.iterations}")
    items, _, frames = kspace_BCTYX.shape[:3]
    if frames < method.frames:
        fit = ", ".join(other for other, its in METHODS.items() if its.frames <= frames)
        raise UnsupportedDataError(f"{name} needs {method.frames} frames or more, there is {frames}: choose {fit}")
    images = []
    for item in range(items):

        def shown(done: int, total: int, before: int = item) -> None:
            progress(before * total + done, items * total)

        alone = _item(encoding, item), kspace_BCTYX[item : item + 1]
        images.append(_one(method, *alone, weight, iterations, shown))
    return torch.cat(images)


def _one(
    method: ClassicalMethod, encoding: Encoding, kspace_BCTYX: Tensor, weight: float | Callable[[float], float],
    iterations: int, progress: Progress,
) -> Tensor:  # fmt: skip
    data = encoding.to_data_space(kspace_BCTYX)
    scale = energy_weighted_rms(share_views(encoding, data))
    if not bool(scale > 0):
        return torch.zeros_like(encoding.adjoint(data))
    weight = weight(float(scale)) if callable(weight) else weight
    data /= scale[:, None]  # a copy already
    return method.run(encoding, data, weight, iterations, progress) * scale


def _known(name: str) -> ClassicalMethod:
    if name not in METHODS:
        raise UsageError(f"unknown method {name}: use {', '.join(METHODS)}")
    return METHODS[name]


def _item(encoding: Encoding, item: int) -> Encoding:
    """Return the encoding of one batch item."""
    mask = encoding.mask_BTYX if encoding.mask_BTYX.shape[0] == 1 else encoding.mask_BTYX[item : item + 1]
    maps = encoding.maps_BCYX
    if maps is not None and maps.shape[0] > 1:
        maps = maps[item : item + 1]
    return Encoding(mask, maps)

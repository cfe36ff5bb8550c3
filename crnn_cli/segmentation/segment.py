"""Segmentation of an image slice by slice, with a network that walks through the slices.

Each frame goes through the network on its own: intensities are normalised, slices are put in anatomical order and
resampled in their plane to the network's pixel spacing (see `crnn_cli.segmentation.preprocessing`). The class
probabilities are resampled back onto the input's grid, settled with those of neighbouring frames where that is asked
for (see `crnn_cli.segmentation.frames`), and become labels.

Legend: S slice, Y row, X column, K class (0 background).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.data.geometry import SliceOrder, shortest_axis, slice_order, thickest_axis
from crnn_cli.data.image import Array, Image
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.labels.base_rule import BaseRule
from crnn_cli.labels.components import keep_near_largest
from crnn_cli.labels.predicted_dice import expected_dice
from crnn_cli.notices import Doubt
from crnn_cli.segmentation.base_slices import drop_over_frames
from crnn_cli.segmentation.frames import FrameWindow, smooth_over_frames
from crnn_cli.segmentation.preprocessing import (
    SlicePreprocessing,
    normalise_intensity,
    resample_slices,
    to_network_grid,
)


class SliceNetwork(Protocol):
    """Segmentation network for stacks of slices, such as `crnn_cli.networks.slice_clstm.SliceCLSTM`."""

    def label(self, image_SYX: Tensor, progress: Callable[[int, int], None] = ...) -> Tensor:
        """Class probabilities (S, K, Y, X) of a stack.

        Parameters
        ----------
        image_SYX : normalised slices in anatomical order, on the network's device.
        progress : called with (steps done, steps in all).
        """
        ...


@dataclass(frozen=True)
class Segmentation:
    """Labels on the image's grid, and the probabilities that they were made from.

    Attributes
    ----------
    labels : (x, y, z) or (x, y, z, t); 0 is background.
    probabilities : of the classes, (K, x, y, z) or (K, x, y, z, t), where they were kept; 0 in slices left out.
    expected_dice : of each frame, of each structure 1, 2, ...; see `crnn_cli.labels.predicted_dice`.
    removed : voxels that were removed as pieces far from the largest one, by label value, of all frames together.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None
    expected_dice: tuple[tuple[float, ...], ...] = ()
    removed: dict[int, int] = field(default_factory=dict)


def choose_order(image: Image, plane: str | None, trained_plane: str | None) -> tuple[SliceOrder, list[Doubt]]:
    """Choose the axis along which the slices of an image follow each other.

    Parameters
    ----------
    plane : a plane of `data.geometry.PLANES`. None for automatic: across the axis whose spacing is much the widest; if
        none is, in the plane the model was trained on; if that has no plane of its own, across the axis with much the
        fewest samples.
    trained_plane : plane of the slices that the model was trained on; None if they lay across the widest spacing.

    Returns
    -------
    The order of the slices, and doubts about it. A wrong plane gives bad labels without an error.

    Raises
    ------
    UnsupportedDataError
        If nothing tells which axis the slices follow each other along.
    """
    thickest, shortest = thickest_axis(image), shortest_axis(image)
    doubts: list[Doubt] = []
    if plane is not None:
        order = slice_order(image, plane)
        if trained_plane is None and thickest is not None and order.axes[0] != thickest:
            text = f"{plane} slices cut through the thick slices of this stack; the model was trained on those"
            doubts.append(Doubt("cuts-thick-slices", text))
    elif thickest is not None:
        order = slice_order(image, thickest)
    elif trained_plane is not None:
        order = slice_order(image, trained_plane)
    elif shortest is not None:
        order = slice_order(image, shortest)
        text = f"no spacing is the widest; slices are taken across {'xyz'[shortest]}, the axis with the fewest"
        doubts.append(Doubt("slice-axis-guessed", text))
    else:
        raise UnsupportedDataError(
            f"nothing tells how this volume of {' x '.join(map(str, image.shape[:3]))} voxels of "
            f"{' x '.join(f'{v:.4g}' for v in image.spacing)} mm is sliced",
            remedy=("say ", Param("slices", "axial"), ", coronal or sagittal"),
        )
    if trained_plane is not None and order.plane != trained_plane:
        text = f"the model was trained on {trained_plane} slices, these are nearest to {order.plane}"
        doubts.append(Doubt("other-plane", text))
    return order, doubts


def segment(
    image: Image,
    order: SliceOrder,
    network: SliceNetwork,
    preprocessing: SlicePreprocessing,
    device: torch.device,
    *,
    threshold: float = 0.5,
    span: slice = slice(None),
    window: FrameWindow | None = None,
    keep_within: float | None = None,
    class_weights: Sequence[float] = (),
    base_rule: BaseRule | None = None,
    keep_probabilities: bool = False,
    bfloat16: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Segmentation:
    """Segment every frame of an image.

    Parameters
    ----------
    image : (x, y, z) or (x, y, z, t), finite.
    order : see `choose_order`.
    network : on ``device``, in evaluation mode.
    threshold : see `labels_from_probabilities`.
    span : slices to segment, along the slice axis of the array; the others are not looked at, and stay 0.
    window : settle each frame with its neighbours; None: label each on its own.
    keep_within : remove pieces farther than this from the largest one, in mm, in each frame; None: keep all.
    class_weights : see `weighted`, which is applied to each frame first; none: the probabilities stay.
    base_rule : see `crnn_cli.labels.doubtful_base`, and of a cine `drop_over_frames`; None: nothing is dropped.
    keep_probabilities : return the class probabilities as well.
    bfloat16 : convolutions in bfloat16: faster, and a few voxels differ.
    progress : called with (steps done, steps in all).

    Raises
    ------
    UnsupportedDataError
        As in `class_probabilities`.
    """
    labels = np.zeros(image.shape, np.uint8)
    frames, probabilities = image.frames, None
    expected: dict[int, tuple[float, ...]] = {}
    removed: dict[int, int] = {}
    axis = order.axes[0]
    x, y, z = (span if each == axis else slice(None) for each in range(3))
    places = [(x, y, z) if image.array.ndim == 3 else (x, y, z, t) for t in range(frames)]

    def computed(t: int) -> NDArray[np.float32]:
        def frame_progress(done: int, total: int) -> None:
            progress(t * total + done, frames * total)

        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            frame = class_probabilities(image.array[places[t]], order, network, preprocessing, device, frame_progress)
        return weighted(frame, class_weights) if class_weights else frame

    every = (computed(t) for t in range(frames))
    settled = enumerate(every) if window is None else smooth_over_frames(every, window)
    labelled = ((t, labels_from_probabilities(frame, threshold), frame) for t, frame in settled)
    for t, made, frame in labelled if base_rule is None else drop_over_frames(labelled, axis, base_rule, window):
        index = places[t]
        labels[index], expected[t], lost = _without_far(made, frame, image.spacing, keep_within)
        removed = {value: removed.get(value, 0) + lost.get(value, 0) for value in sorted({*removed, *lost})}
        if keep_probabilities:
            if probabilities is None:
                probabilities = np.zeros((frame.shape[0], *image.shape), np.float32)
            probabilities[(slice(None), *index)] = frame
    return Segmentation(labels, probabilities, tuple(expected[t] for t in range(frames)), removed)


def class_probabilities(
    volume: Array,
    order: SliceOrder,
    network: SliceNetwork,
    preprocessing: SlicePreprocessing,
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Class probabilities (K, x, y, z) of one frame, on its own grid.

    Parameters
    ----------
    volume : (x, y, z), finite; of a complex one the magnitude is used.
    order : see `choose_order`.
    network : on ``device``, in evaluation mode.
    progress : called with (steps done, steps in all).

    Raises
    ------
    UnsupportedDataError
        If the spacing is absurd, or the probabilities come out not finite.
    """
    values = np.abs(volume) if np.iscomplexobj(volume) else volume
    slices = torch.from_numpy(np.ascontiguousarray(order.to_slices(normalise_intensity(values, preprocessing))))
    with torch.no_grad():
        on_grid_SYX = to_network_grid(slices, order, preprocessing.spacing)
        network_SKYX = network.label(on_grid_SYX.to(device), progress).cpu()
        probabilities_SKYX = resample_slices(network_SKYX, (slices.shape[1], slices.shape[2]))
    if not bool(probabilities_SKYX.isfinite().all()):
        raise UnsupportedDataError("the network produced values that are not finite: the input's range is not usable")
    classes = range(probabilities_SKYX.shape[1])
    return np.stack([order.from_slices(probabilities_SKYX[:, k].numpy()) for k in classes])


def _without_far(
    labels: NDArray[np.uint8], probabilities_K: NDArray[np.float32], spacing: Sequence[float], keep_within: float | None
) -> tuple[NDArray[np.uint8], tuple[float, ...], dict[int, int]]:
    """Labels of a frame without pieces far off; expected Dice; voxels removed from each label that lost any."""
    if keep_within is None:
        return labels, expected_dice(probabilities_K, labels), {}
    kept, lost = keep_near_largest(labels, spacing, keep_within)
    return kept, expected_dice(probabilities_K, kept, kept != labels), lost


def weighted(probabilities_K: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """Class probabilities as they would be if each structure were as frequent as a weight says, by Bayes' rule.

    A network that labels more of a structure than annotators do gets less of it by a weight below 1.

    >>> weighted(np.array([[0.4], [0.6]], np.float32), [2 / 3]).round(3).tolist()
    [[0.5], [0.5]]

    Parameters
    ----------
    probabilities_K : (K, ...), class 0 is the background, whose weight is 1.
    weights : of the structures 1, 2, ..., above 0.
    """
    factors_K = np.array([1, *weights], np.float32).reshape(-1, *[1] * (probabilities_K.ndim - 1))
    made: NDArray[np.float32] = probabilities_K * factors_K
    made /= made.sum(axis=0)
    return made


def labels_from_probabilities(probabilities_K: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Label map of class probabilities.

    A voxel is labelled where all structures together reach the threshold, with the likeliest of them, which need not be
    likelier than the background alone. Of equally likely structures the first is taken.

    Parameters
    ----------
    probabilities_K : (K, ...), class 0 is the background.
    threshold : above 0, up to 1.
    """
    foreground = probabilities_K[1:]
    likeliest = foreground.argmax(axis=0) + 1
    return np.where(foreground.sum(axis=0) >= threshold, likeliest, 0).astype(np.uint8)

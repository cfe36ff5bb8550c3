"""Training items for slice-sequence segmentation: labelled volumes, and random augmented sequences from them.

Augmentation is MONAI's, the same for all slices of a sequence where it moves anything. Legend: B sequence, S slice,
Y row, X column, K class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.image import Image
from crnn_cli.io.nifti import read_image
from crnn_cli.segmentation import SliceRecipe, choose_order, network_size, normalised, to_network_grid

_MARGIN = 1.5  # side of what is cut out over the side of the item, so that turning it leaves no empty corners


@dataclass(frozen=True)
class Pair:
    """A labelled volume on disk. subject : whose it is; subjects are never divided between training and test."""

    name: str
    subject: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class Case:
    """A labelled volume on the network's grid: raw intensities and label values (S, Y, X)."""

    name: str
    image_SYX: NDArray[np.float32]
    labels_SYX: NDArray[np.uint8]


@dataclass(frozen=True)
class ItemSize:
    """Sequences of a batch, slices of a sequence, rows and columns of a slice."""

    sequences: int
    slices: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Augmentation:
    """How items vary. Shares are probabilities.

    turn : largest rotation in degrees. any_turn : share of items rotated by any angle at all. scale : largest relative
    change of size, of rows and columns each. shear : largest tangent. bent : share that is bent by moving the lines of
    a grid of 5 x 5 cells; bend : largest change of a cell's width, relative.
    mirror : share mirrored along the columns. reverse : share turned over, slices and columns reversed together, which
    is a rotation of the body. foreground : share of items centred in the labels. cut : share that loses the edges of
    the field of view.
    """

    turn: float = 20.0
    any_turn: float = 0.0
    scale: float = 0.2
    shear: float = 0.1
    bent: float = 0.5
    bend: float = 0.15
    mirror: float = 0.0
    reverse: float = 0.0
    foreground: float = 0.8
    cut: float = 0.1


def find_pairs(folder: Path) -> list[Pair]:
    """Return the labelled volumes of a folder, by name.

    Two layouts: ``images/NAME.nii.gz`` with ``labels/NAME.nii.gz`` (or imagesTr, labelsTr), each volume a subject of
    its own; or ``SUBJECT/NAME.nii.gz`` with ``SUBJECT/NAME_gt.nii.gz``.

    Raises
    ------
    UnreadableError
        If there are none.
    """
    pairs = []
    for images, labels in (("images", "labels"), ("imagesTr", "labelsTr")):
        for label in sorted((folder / labels).glob("[!.]*.nii.gz")):
            name = label.name.removesuffix(".nii.gz")
            pairs.append(Pair(name, name, folder / images / label.name, label))
    for label in sorted(folder.glob("*/[!.]*_gt.nii.gz")):
        name = label.name.removesuffix("_gt.nii.gz")
        pairs.append(Pair(name, label.parent.name, label.with_name(f"{name}.nii.gz"), label))
    if not pairs:
        raise UnreadableError(f"{folder} holds neither images/ with labels/ nor NAME.nii.gz with NAME_gt.nii.gz")
    return pairs


def split_pairs(pairs: Sequence[Pair], fold: int, folds: int) -> tuple[list[Pair], list[Pair]]:
    """Return (training, test) pairs: every ``folds``-th subject by name, from number ``fold``, is for the test."""
    subjects = sorted({pair.subject for pair in pairs})
    test = set(subjects[fold::folds])
    return [p for p in pairs if p.subject not in test], [p for p in pairs if p.subject in test]


def load_pair(pair: Pair) -> tuple[Image, NDArray[np.uint8]]:
    """Return image and label values on the image's grid.

    Raises
    ------
    UnsupportedDataError
        If the two lie on different grids, or the labels are not whole numbers from 0 to 255.
    """
    image, labels = read_image(pair.image), read_image(pair.labels)
    if image.shape != labels.shape or not np.allclose(image.affine, labels.affine, atol=1e-3):
        raise UnsupportedDataError(f"{pair.labels} lies on another grid than {pair.image}")
    values = labels.array.astype(np.uint8)
    if not np.array_equal(values, labels.array):
        raise UnsupportedDataError(f"{pair.labels} holds values that are no labels: whole numbers from 0 to 255")
    if image.array.ndim != 3:
        raise UnsupportedDataError(f"{pair.image} is a series {image.shape}; pairs are volumes, x, y, z")
    image.require_finite(str(pair.image))
    return image, values


def load_case(pair: Pair, plane: str | None, recipe: SliceRecipe) -> Case:
    """Return a labelled volume on the network's grid; labels by nearest neighbour."""
    image, labels = load_pair(pair)
    order, _ = choose_order(image, None, plane)
    values = torch.from_numpy(np.ascontiguousarray(order.to_slices(image.array)))
    on_grid = to_network_grid(values, order, recipe.spacing)
    slices = torch.from_numpy(np.ascontiguousarray(order.to_slices(labels)))
    size = network_size(slices.shape, order, recipe.spacing)
    nearest = F.interpolate(slices[:, None].float(), size, mode="nearest-exact")[:, 0]
    return Case(pair.name, on_grid.numpy().astype(np.float32), nearest.numpy().astype(np.uint8))


class Items:
    """Random batches from cases; the batch of a seed is always the same.

    Parameters
    ----------
    classes : with the background.
    """

    def __init__(self, cases: Sequence[Case], recipe: SliceRecipe, augmentation: Augmentation, classes: int) -> None:
        self.cases, self.recipe, self.augmentation, self.classes = cases, recipe, augmentation, classes
        self._places = [np.argwhere(case.labels_SYX > 0) for case in cases]

    def draw(self, size: ItemSize, seed: int) -> tuple[Tensor, Tensor]:
        """Return image_BSYX and one-hot labels_BSKYX of a seed."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.cases))
        chosen = [int(order[k % len(order)]) for k in range(size.sequences)]
        moved = _moving(self.augmentation, size)
        moved.set_random_state(seed=int(rng.integers(2**31)))
        shades = _shading()
        shades.set_random_state(seed=int(rng.integers(2**31)))
        images, labels = [], []
        for index in chosen:
            image, label = self._sequence(index, size, rng)
            out = moved({"image": image, "labels": label})
            image_SYX, label_SYX = out["image"].as_tensor(), out["labels"].as_tensor()
            image_SYX, label_SYX = _turned_over(image_SYX, label_SYX, self.augmentation, rng)
            images.append(_without_edges(shades(image_SYX), self.augmentation.cut, rng))
            labels.append(label_SYX)
        image_BSYX = torch.stack([torch.as_tensor(i) for i in images]).float()
        one_hot = F.one_hot(torch.stack(labels).round().long(), self.classes)
        return image_BSYX, one_hot.permute(0, 1, 4, 2, 3).float()

    def _sequence(self, index: int, size: ItemSize, rng: np.random.Generator) -> tuple[Any, Any]:
        """Return a stretch of slices around a random place, larger than the item, and its labels."""
        case, places = self.cases[index], self._places[index]
        slices, rows, columns = case.image_SYX.shape
        first = int(rng.integers(0, max(1, slices - size.slices + 1)))
        taken = [min(max(first + k, 0), slices - 1) for k in range(size.slices)]
        wanted = (size.rows, size.columns)
        centre = rng.integers(0, (rows, columns))
        if len(places) and rng.random() < self.augmentation.foreground:
            centre = places[rng.integers(len(places))][1:]
        inside = [_inside(int(c), n, side) for c, n, side in zip(centre, (rows, columns), wanted, strict=True)]
        centre = np.array(inside) + rng.integers(-4, 5, 2)
        window = [_around(int(c), math.ceil(n * _MARGIN)) for c, n in zip(centre, wanted, strict=True)]
        image = _cut_out(case.image_SYX[taken], window)
        labels = _cut_out(case.labels_SYX[taken], window, fill=0)
        like = image if rng.random() < 0.5 else case.image_SYX
        return normalised(image, self.recipe, like), labels.astype(np.float32)


def _inside(centre: int, length: int, side: int) -> int:
    """Return the place nearest to ``centre`` at which a window of ``side`` lies within ``length``, else the middle."""
    low, high = side // 2, length - side + side // 2
    return min(max(centre, low), high) if low <= high else length // 2


def _around(centre: int, length: int) -> tuple[int, int]:
    return centre - length // 2, centre - length // 2 + length


def _cut_out(array: NDArray[Any], window: list[tuple[int, int]], fill: int | None = None) -> NDArray[Any]:
    """Return (S, y0:y1, x0:x1); what lies outside repeats the edge, or is ``fill``."""
    pads, parts = [(0, 0)], [slice(None)]
    for (start, stop), n in zip(window, array.shape[1:], strict=True):
        low, high = min(max(start, 0), n - 1), max(min(stop, n), 1)
        pads.append((low - start if start < low else 0, stop - high if stop > high else 0))
        parts.append(slice(low, high))
    if fill is None:
        return np.pad(array[tuple(parts)], pads, mode="edge")
    return np.pad(array[tuple(parts)], pads, constant_values=fill)


def _moving(how: Augmentation, size: ItemSize) -> Any:
    """Return the transform that turns, scales, shears, bends and mirrors image and labels."""

    def turned(turn: float) -> Any:
        return mt.RandAffined(
            ("image", "labels"), prob=1, rotate_range=turn, scale_range=(how.scale, how.scale),
            shear_range=(how.shear, how.shear), spatial_size=(size.rows, size.columns), mode=("bilinear", "nearest"),
            padding_mode="border",
        )  # fmt: skip

    bent = mt.RandGridDistortiond(
        ("image", "labels"), num_cells=5, prob=how.bent, distort_limit=(-how.bend, how.bend),
        mode=("bilinear", "nearest"), padding_mode="border",
    )  # fmt: skip
    turns = mt.OneOf([turned(math.radians(how.turn)), turned(math.pi)], weights=[1 - how.any_turn, how.any_turn])
    return mt.Compose([turns, bent, mt.RandFlipd(("image", "labels"), prob=how.mirror, spatial_axis=1)])


def _shading() -> Any:
    """Return the transform of intensities: contrast, shading, blur, noise, brightness."""
    return mt.Compose([
        mt.RandHistogramShift(num_control_points=(4, 8), prob=0.2),
        mt.RandAdjustContrast(prob=0.4, gamma=(0.6, 1.7)),
        mt.RandBiasField(prob=0.25, coeff_range=(-0.15, 0.15)),
        mt.RandGaussianSmooth(prob=0.2, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0)),
        mt.RandGaussianNoise(prob=0.4, std=0.06),
        mt.RandScaleIntensity(prob=0.5, factors=0.25),
        mt.RandShiftIntensity(prob=0.5, offsets=0.1),
    ])  # fmt: skip


def _turned_over(image: Tensor, labels: Tensor, how: Augmentation, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    if rng.random() >= how.reverse:
        return image, labels
    return image.flip(0, 2), labels.flip(0, 2)


def _without_edges(image_SYX: Any, share: float, rng: np.random.Generator) -> Tensor:
    """Return the item with strips of a random width on its sides set to the darkest value, now and then."""
    image: Tensor = torch.as_tensor(image_SYX.as_tensor() if hasattr(image_SYX, "as_tensor") else image_SYX).clone()
    if rng.random() < share:
        rows, columns = image.shape[1:]
        top, bottom, left, right = (int(v) for v in rng.integers(0, (rows // 5, rows // 5, columns // 5, columns // 5)))
        inside = torch.zeros(rows, columns, dtype=torch.bool)
        inside[top : rows - bottom, left : columns - right] = True
        image[:, ~inside] = image.min()
    return image

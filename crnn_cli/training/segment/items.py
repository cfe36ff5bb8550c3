"""Training items for slice-sequence segmentation: labelled volumes, and random augmented sequences from them.

Augmentation is that of MONAI, imported where it begins: settings are read without it. Where it moves anything, it is
the same for all slices of a sequence.

Legend: B sequence, S slice, Y row, X column, K class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crnn_cli.segmentation.preprocessing import SlicePreprocessing, network_size, normalise_intensity, to_network_grid
from crnn_cli.segmentation.segment import choose_order
from crnn_cli.training.datasets.sets import Pair, load_pair
from crnn_cli.training.segment.partial import model_labels, structure_values
from crnn_cli.training.segment.scanner import rescanned
from crnn_cli.training.settings import setting

Item = tuple[Tensor, Tensor, Tensor]
"""Image, one-hot labels, and which classes are labelled."""

_MARGIN = 1.5  # side of what is cut out over the side of the item, so that turning it leaves no empty corners


@dataclass(frozen=True)
class Case:
    """A labelled volume on the network's grid.

    Attributes
    ----------
    name : of the volume.
    image_SYX : intensities, not scaled yet.
    labels_SYX : label values of the model.
    values : the label values that the volume has labels of; None for all of them.
    """

    name: str
    image_SYX: NDArray[np.float32]
    labels_SYX: NDArray[np.uint8]
    values: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ItemSize:
    """Size of an item.

    Attributes
    ----------
    sequences : of a batch.
    slices : of a sequence.
    rows, columns : of a slice.
    """

    sequences: int
    slices: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation; shares are probabilities."""

    turn: float = setting(20.0, "largest rotation in degrees")
    any_turn: float = setting(0.0, "share of items rotated by any angle at all")
    scale: float = setting(0.2, "largest relative change of size, of rows and columns each")
    shear: float = setting(0.1, "largest tangent")
    bent: float = setting(0.5, "share that is bent by moving the lines of a grid of 5 x 5 cells")
    bend: float = setting(0.15, "largest change of a cell's width, relative")
    mirror: float = setting(0.0, "share mirrored along the columns")
    reverse: float = setting(0.0, "share turned over, slices and columns together, which is a rotation of the body")
    foreground: float = setting(0.8, "share centred in the labels")
    cut: float = setting(0.1, "share that loses the edges of the field of view")
    rescan: float = setting(0.0, "share that looks as a poorer scan would: resolution, ghosts, motion, lines left out")
    gain: float = setting(0.0, "largest relative change of brightness from slice to slice")
    gaps: float = setting(0.0, "share that takes every second slice only, as a stack with wide gaps has them")

    def __post_init__(self) -> None:
        shares = (self.any_turn, self.bent, self.mirror, self.reverse, self.foreground, self.cut,
                  self.rescan, self.gaps)  # fmt: skip
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("shares must be from 0 to 1")
        sizes = (self.scale, self.shear, self.bend, self.gain)
        if not 0 <= self.turn <= 180 or not all(0 <= v < 1 for v in sizes):
            raise ValueError("turn must be from 0 to 180 degrees, scale, shear, bend and gain from 0 to below 1")


def load_case(pair: Pair, plane: str | None, recipe: SlicePreprocessing, names: Sequence[str] = ()) -> Case:
    """Read a labelled volume and resample it to the network's grid, labels by nearest neighbour.

    Parameters
    ----------
    pair : the volume.
    plane : of the slices; None for across the widest spacing.
    recipe : the network's grid and intensities.
    names : of the structures 1, 2, ... of the model; needed for partial labels only.
    """
    image, labels = load_pair(pair)
    values = structure_values(pair.structures, names) if pair.structures else None
    labels = labels if values is None else model_labels(labels, values)
    order, _ = choose_order(image, None, plane)
    intensities = torch.from_numpy(np.ascontiguousarray(order.to_slices(image.array)))
    on_grid = to_network_grid(intensities, order, recipe.spacing)
    slices = torch.from_numpy(np.ascontiguousarray(order.to_slices(labels)))
    size = network_size(slices.shape, order, recipe.spacing)
    nearest = F.interpolate(slices[:, None].float(), size, mode="nearest-exact")[:, 0]
    return Case(pair.name, on_grid.numpy().astype(np.float32), nearest.numpy().astype(np.uint8), values)


class Items:
    """Random items from cases; the item of a seed is always the same.

    Parameters
    ----------
    cases : the volumes.
    recipe : intensities of the network.
    augmentation : its settings.
    classes : with the background.
    """

    def __init__(
        self, cases: Sequence[Case], recipe: SlicePreprocessing, augmentation: Augmentation, classes: int
    ) -> None:
        self.cases, self.recipe, self.augmentation, self.classes = cases, recipe, augmentation, classes
        self._places = [np.argwhere(case.labels_SYX > 0)[:, 1:].astype(np.int16) for case in cases]

    def numbered(self, size: ItemSize, seed: Sequence[int], number: int) -> Item:
        """Draw item ``number`` of an endless sequence, in which every case comes once an epoch, in random order.

        Parameters
        ----------
        size : of the item.
        seed : of the sequence, some integers.
        number : of the item.

        Returns
        -------
        image_SYX, one-hot labels_SKYX, and labelled_K: which classes the volume has labels of.
        """
        return self.item(self.case_of(seed, number), size, np.random.default_rng([*seed, number]))

    def case_of(self, seed: Sequence[int], number: int) -> int:
        """Index of the case that item ``number`` is made from."""
        epoch, place = divmod(number, len(self.cases))
        return int(np.random.default_rng([*seed, epoch]).permutation(len(self.cases))[place])

    def item(self, index: int, size: ItemSize, rng: np.random.Generator) -> Item:
        """Draw an item from a case.

        Parameters
        ----------
        index : of the case.
        size : of the item.
        rng : random numbers.

        Returns
        -------
        image_SYX, scaled intensities; one-hot labels_SKYX; labelled_K, which classes the volume has labels of.
        """
        image, label = self._sequence(index, size, rng)
        moved, shades = _moving(self.augmentation, size), _shading()
        moved.set_random_state(seed=int(rng.integers(2**31)))
        shades.set_random_state(seed=int(rng.integers(2**31)))
        out = moved({"image": image, "labels": label})
        image_SYX, label_SYX = out["image"].as_tensor(), out["labels"].as_tensor()
        image_SYX, label_SYX = _turned_over(image_SYX, label_SYX, self.augmentation, rng)
        shaded = _without_edges(shades(image_SYX), self.augmentation.cut, rng)
        shaded = _measured_again(shaded, self.augmentation, rng)
        one_hot = F.one_hot(torch.as_tensor(label_SYX).round().long(), self.classes)
        return torch.as_tensor(shaded).float(), one_hot.permute(0, 3, 1, 2).float(), self._labelled(index)

    def _labelled(self, index: int) -> Tensor:
        values = self.cases[index].values
        return torch.tensor([k == 0 or values is None or k in values for k in range(self.classes)])

    def _sequence(self, index: int, size: ItemSize, rng: np.random.Generator) -> tuple[Any, Any]:
        """Slices around a random position, larger than the item, and their labels."""
        case, places = self.cases[index], self._places[index]
        slices, rows, columns = case.image_SYX.shape
        step = 2 if self.augmentation.gaps and rng.random() < self.augmentation.gaps else 1
        first = int(rng.integers(0, max(1, slices - step * (size.slices - 1))))
        taken = [min(first + step * k, slices - 1) for k in range(size.slices)]
        wanted = (size.rows, size.columns)
        centre = rng.integers(0, (rows, columns))
        if len(places) and rng.random() < self.augmentation.foreground:
            centre = places[rng.integers(len(places))]
        inside = [_inside(int(c), n, side) for c, n, side in zip(centre, (rows, columns), wanted, strict=True)]
        centre = np.array(inside) + rng.integers(-4, 5, 2)
        window = [_around(int(c), math.ceil(n * _MARGIN)) for c, n in zip(centre, wanted, strict=True)]
        image = _cut_out(case.image_SYX[taken], window)
        labels = _cut_out(case.labels_SYX[taken], window, fill=0)
        like = image if rng.random() < 0.5 else case.image_SYX
        return normalise_intensity(image, self.recipe, like), labels.astype(np.float32)


def collate_items(items: Sequence[Item]) -> Item:
    """Stack items to a batch: image_BSYX, labels_BSKYX and labelled_BK."""
    image, labels, labelled = (torch.stack(parts) for parts in zip(*items, strict=True))
    return image, labels, labelled


def _inside(centre: int, length: int, side: int) -> int:
    """Position nearest to ``centre`` at which a window of ``side`` lies within ``length``; if none does, the middle."""
    low, high = side // 2, length - side + side // 2
    return min(max(centre, low), high) if low <= high else length // 2


def _around(centre: int, length: int) -> tuple[int, int]:
    return centre - length // 2, centre - length // 2 + length


def _cut_out(array: NDArray[Any], window: list[tuple[int, int]], fill: int | None = None) -> NDArray[Any]:
    """Cut out (S, y0:y1, x0:x1); outside the array the edge is repeated, or ``fill`` is taken."""
    pads, parts = [(0, 0)], [slice(None)]
    for (start, stop), n in zip(window, array.shape[1:], strict=True):
        low, high = min(max(start, 0), n - 1), max(min(stop, n), 1)
        pads.append((low - start if start < low else 0, stop - high if stop > high else 0))
        parts.append(slice(low, high))
    if fill is None:
        return np.pad(array[tuple(parts)], pads, mode="edge")
    return np.pad(array[tuple(parts)], pads, constant_values=fill)


def _moving(how: Augmentation, size: ItemSize) -> Any:
    """Transform that rotates, scales, shears, bends and mirrors image and labels."""
    import monai.transforms as mt  # noqa: PLC0415 (an extra)

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
    """Transform of intensities: contrast, shading, blur, noise, brightness."""
    import monai.transforms as mt  # noqa: PLC0415 (an extra)

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


def _measured_again(image_SYX: Tensor, how: Augmentation, rng: np.random.Generator) -> Tensor:
    """Now and then another scan of the same anatomy: brightness by slice, artefacts of the scanner."""
    if how.gain:
        gain_S = 1 + rng.uniform(-how.gain, how.gain, len(image_SYX)).astype(np.float32)
        image_SYX = image_SYX * torch.from_numpy(gain_S)[:, None, None]
    if how.rescan and rng.random() < how.rescan:
        image_SYX = torch.from_numpy(rescanned(image_SYX.numpy().astype(np.float32), rng))
    return image_SYX


def _without_edges(image_SYX: Any, share: float, rng: np.random.Generator) -> Tensor:
    """Now and then set strips of random width along the sides to the darkest value."""
    image: Tensor = torch.as_tensor(image_SYX.as_tensor() if hasattr(image_SYX, "as_tensor") else image_SYX).clone()
    if rng.random() < share:
        rows, columns = image.shape[1:]
        top, bottom, left, right = (int(v) for v in rng.integers(0, (rows // 5, rows // 5, columns // 5, columns // 5)))
        inside = torch.zeros(rows, columns, dtype=torch.bool)
        inside[top : rows - bottom, left : columns - right] = True
        image[:, ~inside] = image.min()
    return image

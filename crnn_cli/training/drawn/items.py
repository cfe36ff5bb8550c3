"""Training items for drawn slices: a structure of a stack, of which some slices are drawn, moved and shaded at random.

    source    a labelled volume, regions of an image (`regions`), or random shapes (`shapes`)
    slices    neighbours in space; or one slice that beats, as a frame of a cine does
    moved     turned, scaled, bent, slices shifted against each other
    shaded    contrast, even reversed, brightness by slice, shading, blur, noise, artefacts of the scanner
    drawn     one to three slices; of a beating one the first frame, or the first and the last

Legend: S slice, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from crnn_cli.labels.shape_interpolation import interpolate_distances
from crnn_cli.segmentation.preprocessing import normalise_intensity
from crnn_cli.segmentation.structure_grid import INTENSITY
from crnn_cli.training.drawn.shapes import random_shapes, smooth_noise
from crnn_cli.training.drawn.stack import Stack
from crnn_cli.training.segment.scanner import rescanned
from crnn_cli.training.settings import setting

Mask = NDArray[np.bool_]
_FARTHEST = -1e4  # distance in pixels to a structure that is not there


@dataclass(frozen=True)
class DrawnItemSettings:
    """Settings of the items; shares are probabilities."""

    slices: int = setting(8, "of a stack")
    side: int = setting(96, "of a slice, pixels")
    least: float = setting(28.0, "pixels along the longer side of a structure")
    most: float = setting(76.0, "pixels along the longer side of a structure")
    shapes: float = setting(0.35, "share that is random shapes; the rest are volumes")
    regions: float = setting(0.4, "share of the volumes whose structure is a region of the image")
    beating: float = setting(0.25, "share that shows one slice over time")
    ring: float = setting(0.15, "share that is drawn as a ring around the structure")
    merged: float = setting(0.1, "share that is merged with a neighbour")
    beside: float = setting(0.5, "share that knows of other structures beside it")

    def __post_init__(self) -> None:
        shares = (self.shapes, self.regions, self.beating, self.ring, self.merged, self.beside)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("shares must be from 0 to 1")
        if self.slices < 2 or self.side < 32 or self.side % 8 or not 8 <= self.least <= self.most <= self.side:
            raise ValueError("slices from 2, side from 32 in steps of 8, and 8 <= least <= most <= side")


@dataclass(frozen=True)
class DrawnItem:
    """A stack to learn from.

    Attributes
    ----------
    image_SYX : intensities.
    target_SYX : the structure.
    known_S : the drawn slices.
    distance_SYX, others_SYX : signed distances in pixels, interpolated; see `crnn_cli.networks.drawn_clstm`.
    """

    image_SYX: Tensor
    target_SYX: Tensor
    known_S: Tensor
    distance_SYX: Tensor
    others_SYX: Tensor


@dataclass(frozen=True)
class DrawnItems:
    """Random items; the item of a seed and number is always the same.

    Attributes
    ----------
    labelled : volumes with labels. regions : the same or other volumes with their regions.
    settings : of the items.
    """

    labelled: Sequence[Stack]
    regions: Sequence[Stack] = ()
    settings: DrawnItemSettings = field(default_factory=DrawnItemSettings)

    def numbered(self, seed: Sequence[int], number: int) -> DrawnItem:
        """Draw item ``number`` of an endless sequence."""
        rng = np.random.default_rng([*seed, number])
        while True:
            found = self._item(rng)
            if found is not None:
                return found

    def _item(self, rng: np.random.Generator) -> DrawnItem | None:
        """An item; None where the structure got lost on the way."""
        how = self.settings
        stack = self._source(rng)
        beating = rng.random() < how.beating
        taken = self._slices_of_structure(stack, beating, rng)
        if taken is None:
            return None
        image, own, others = taken
        moved = _moved(image, own, others, how, beating, rng)
        image, own, others = moved
        known = _drawn_slices(how.slices, beating, rng)
        if not own[known].any() or not own[~known].any():
            return None
        shaded = _shaded(image, beating, rng)
        distance = interpolate_distances(own, known)
        beside = interpolate_distances(others, known) if others.any() else np.full(own.shape, _FARTHEST, np.float32)
        return DrawnItem(
            torch.from_numpy(shaded), torch.from_numpy(own.astype(np.float32)), torch.from_numpy(known),
            torch.from_numpy(distance), torch.from_numpy(beside),
        )  # fmt: skip

    def _source(self, rng: np.random.Generator) -> Stack:
        how = self.settings
        if not self.labelled or rng.random() < how.shapes:
            return random_shapes(how.slices, rng)
        pool = self.regions if self.regions and rng.random() < how.regions else self.labelled
        return pool[int(rng.integers(len(pool)))]

    def _slices_of_structure(
        self, stack: Stack, beating: bool, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Mask, Mask] | None:
        """Slices around a structure, the structure, and others beside it."""
        how, structures = self.settings, stack.structures()
        if not structures:
            return None
        number = int(rng.choice(structures))
        own = stack.labels_SYX == number
        near = _neighbours(own, stack.labels_SYX)
        if near and rng.random() < how.merged:
            own = own | (stack.labels_SYX == near.pop(int(rng.integers(len(near)))))
        with_it = np.flatnonzero(own.any(axis=(1, 2)))
        if beating:
            areas = own.sum(axis=(1, 2))
            s = int(rng.choice(np.flatnonzero(areas >= areas.max() / 4)))
            index = np.full(how.slices, s)
        else:
            first = int(rng.integers(max(0, with_it[0] - 2), with_it[-1] + 1)) - int(rng.integers(0, how.slices // 2))
            index = np.clip(np.arange(first, first + how.slices), 0, len(own) - 1)
        others = np.zeros_like(own)
        if near and rng.random() < how.beside:
            others = (
                np.isin(stack.labels_SYX, rng.choice(near, int(rng.integers(1, len(near) + 1)), replace=False)) & ~own
            )
        if rng.random() < how.ring:
            own, within = _ring(own, others, rng)
            others = within if rng.random() < how.beside else np.zeros_like(own)
        return stack.image_SYX[index], own[index], others[index]


def collate_drawn(items: Sequence[DrawnItem]) -> list[Tensor]:
    """Stack items: image, target, distance, others (B, S, Y, X), and known (B, S)."""
    names = ("image_SYX", "target_SYX", "distance_SYX", "others_SYX", "known_S")
    return [torch.stack([getattr(item, name) for item in items]) for name in names]


def _neighbours(own: Mask, labels_SYX: NDArray[np.uint16]) -> list[int]:
    """Numbers of the structures that share an edge with this one within a slice."""
    around = np.zeros_like(own)
    for axis in (1, 2):
        for step in (-1, 1):
            around |= np.roll(own, step, axis)
    return [int(v) for v in np.unique(labels_SYX[around & ~own]) if v]


def _ring(own: Mask, others: Mask, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """A ring of random width around a structure, and the structure itself as the one beside it."""
    width = int(rng.integers(3, 9))
    disc = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), width)
    wider = np.stack([ndimage.binary_dilation(each, disc) for each in own])
    return wider & ~own, own | (others & ~wider)


def _drawn_slices(slices: int, beating: bool, rng: np.random.Generator) -> Mask:
    known = np.zeros(slices, bool)
    if beating:
        known[0] = True
        known[-1] = rng.random() < 0.5
        return known if rng.random() < 0.5 else known[::-1].copy()
    known[rng.choice(slices, int(rng.choice([1, 2, 3], p=[0.25, 0.45, 0.3])), replace=False)] = True
    return known


def _moved(
    image: NDArray[np.float32], own: Mask, others: Mask, how: DrawnItemSettings, beating: bool, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Mask, Mask]:
    """Image and structures on the grid of an item, turned, scaled and bent; of a beating slice each frame otherwise."""
    slices, side = how.slices, how.side
    places = np.argwhere(own.any(axis=0))
    low, high = places.min(axis=0), places.max(axis=0)
    size = rng.uniform(how.least, how.most) / max(8.0, float((high - low).max()))
    centre = (low + high) / 2 + rng.normal(0, 6, 2) / size
    y, x = np.meshgrid(*[np.arange(side, dtype=np.float32) - (side - 1) / 2] * 2, indexing="ij")
    bend = rng.uniform(0, 5)
    shape = (slices, side, side)
    y, x = (np.broadcast_to(v, shape) + bend * smooth_noise(shape, (2, 5, 5), rng) for v in (y, x))
    if beating:
        y, x = _beating(y, x, max(1.0, size * float((high - low).max()) / 2), rng)
    elif rng.random() < 0.3:
        y, x = (v + rng.normal(0, 1.5, (slices, 1, 1)).astype(np.float32) for v in (y, x))
    angle = rng.normal(0, 0.4) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
    stretch = np.exp(rng.normal(0, 0.1))
    rows = (np.cos(angle) * y - np.sin(angle) * x) / (size * stretch) + centre[0]
    columns = (np.sin(angle) * y + np.cos(angle) * x) * stretch / size + centre[1]
    if rng.random() < 0.5:
        columns = 2 * centre[1] - columns
    height, width = image.shape[1:]
    grid = torch.from_numpy(
        np.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], -1).astype(np.float32)
    )
    layers = torch.from_numpy(np.stack([image, own, others], axis=1).astype(np.float32))
    if size < 1:  # averaged where pixels get coarser
        layers = torch.cat([_blurred(layers[:, :1], 0.5 / size), layers[:, 1:]], dim=1)
    found = F.grid_sample(layers, grid, padding_mode="border", align_corners=True).numpy()
    return found[:, 0], found[:, 1] > 0.5, found[:, 2] > 0.5


def _beating(
    y: NDArray[np.float32], x: NDArray[np.float32], radius: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places of a slice that contracts and relaxes: within a circle towards its centre, outside so that areas stay."""
    slices = len(y)
    phase = np.linspace(0, rng.choice([1.0, 0.5, 0.3]), slices) ** rng.uniform(0.7, 1.4)
    beat = np.sin(np.pi * np.clip(phase, 0, 1)).astype(np.float32)[:, None, None]
    shrink = 1 - float(rng.uniform(-0.15, 0.5)) * beat
    inner = radius * float(rng.uniform(0.4, 1.0))
    away = rng.normal(0, radius / 5, 2)
    dy, dx = y - away[0], x - away[1]
    r = np.hypot(dy, dx) + 1e-3
    inside = r / shrink
    outside = np.sqrt(np.maximum(r**2 + inner**2 * (1 - shrink**2), 1e-3))
    source = np.where(r < shrink * inner, inside, outside)
    factor = 1 + (source / r - 1) * np.exp(-((np.maximum(r - inner, 0) / (1.5 * radius)) ** 2))
    drift = beat * rng.uniform(0, 4)
    shape = (2, *y.shape[1:])
    fields = [smooth_noise(shape, (2, 4, 4), rng)[:1] for _ in range(2)]
    jitter = [0.5 * smooth_noise(y.shape, (slices, 4, 4), rng) for _ in range(2)]
    return away[0] + dy * factor + drift * fields[0] + jitter[0], away[1] + dx * factor + drift * fields[1] + jitter[1]


def _blurred(image_NCYX: Tensor, sigma: float) -> Tensor:
    """Gaussian blur in the slice; sigma in pixels, at most 6."""
    sigma = min(sigma, 6.0)
    reach = max(1, int(2.5 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    padded = F.pad(image_NCYX, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[..., None]), kernel[:, :, None])


def _shaded(image: NDArray[np.float32], beating: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    """Intensities of another scan of the same slices, scaled as those of a user are."""
    image = normalise_intensity(image, INTENSITY)
    if rng.random() < 0.2:
        image = (1 - image).astype(np.float32)
    if rng.random() < 0.5:
        image = np.sign(image) * np.abs(image) ** np.float32(rng.uniform(0.5, 2.0))
    if rng.random() < 0.4:
        image = image * (1 + np.float32(rng.uniform(0, 0.35)) * smooth_noise(image.shape, (2, 3, 3), rng))
    if rng.random() < 0.4:
        spread = 0.03 if beating else 0.12
        image = image * (1 + rng.normal(0, spread, (len(image), 1, 1)).astype(np.float32))
    if rng.random() < 0.3:
        image = _blurred(torch.from_numpy(image)[:, None], float(rng.uniform(0.4, 1.2)))[:, 0].numpy()
    if rng.random() < 0.15:
        image = rescanned(image, rng)
    if rng.random() < 0.6:
        image = image + np.float32(rng.uniform(0, 0.08)) * rng.standard_normal(image.shape, np.float32)
    return normalise_intensity(image, INTENSITY)

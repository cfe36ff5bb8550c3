"""A volume with two nested structures that change from slice to slice, and slices of it that are drawn."""

from __future__ import annotations

import numpy as np
import torch

from crnn_cli.bundles.store import write_bundle
from crnn_cli.data.image import Image
from crnn_cli.networks.drawn_clstm import DrawnCLSTM, DrawnCLSTMConfig

SETTINGS = {"width": 8, "hidden": 8, "keys": 4}
CONFIG = {
    "task": "segment-drawn", "network": "drawn-clstm", "settings": SETTINGS, "licence": "CC0-1.0",
    "summary": "untrained, for tests",
}  # fmt: skip
AFFINE = np.array([[-1.2, 0, 0, 60.0], [0, -1.2, 0, 40.0], [0, 0, 6.0, -20.0], [0, 0, 0, 1]])


def truth(shape=(28, 32, 9)):
    """Return labels (x, y, z): a core of 2 in a shell of 5, in all slices but the first and the last."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    r = np.hypot(x - shape[0] / 2 - 0.3 * z, y - shape[1] / 2)
    size = 5 + 5 * np.sin(np.pi * z / (shape[2] - 1))
    inside = (z > 0) & (z < shape[2] - 1)
    return np.where(inside & (r < size / 2), 2, np.where(inside & (r < size), 5, 0)).astype(np.uint8)


def image_of(labels, seed=0, affine=AFFINE):
    """Return an image in which the labels can be seen, with a little noise."""
    noise = 10 * np.random.default_rng(seed).normal(size=labels.shape)
    return Image((100 + 40 * labels + noise).astype(np.float32), affine, frame_time=0.03 if labels.ndim == 4 else None)


def drawn_in(labels, slices, axis=2):
    """Return the labels in some slices, counted from 0, and 0 elsewhere."""
    found, index = np.zeros_like(labels), [slice(None)] * labels.ndim
    index[axis] = list(slices)
    found[tuple(index)] = labels[tuple(index)]
    return found


def beating(frames=8, slices=9):
    """Return labels (x, y, z, t) of a cycle: the structures get smaller and wider again."""
    whole = truth((28, 32, slices))
    moved = []
    for t in range(frames):
        factor = 1 + 0.35 * np.sin(np.pi * t / frames) ** 2
        x, y = (np.clip(((np.arange(n) - n / 2) * factor + n / 2).round().astype(int), 0, n - 1) for n in (28, 32))
        moved.append(whole[np.ix_(x, y, np.arange(slices))])
    return np.stack(moved, axis=-1)


def small_network(seed=0):
    """Return an untrained network that does more than to interpolate distances."""
    torch.manual_seed(seed)
    network = DrawnCLSTM(DrawnCLSTMConfig(**SETTINGS)).eval()
    with torch.no_grad():
        network.correct.weight.normal_(0, 0.3)
    return network


def small_bundle(folder, **more):
    """Write a bundle of it, and return its folder."""
    return write_bundle(folder, CONFIG | more, small_network().state_dict(), "# small\n").folder

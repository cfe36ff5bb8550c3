"""Series of several beats, and a bundle of a small untrained forecaster, which forecasts the mean of what it knows."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch

from crnn_cli.bundles.store import write_bundle
from crnn_cli.networks.forecaster import CineForecaster, ForecasterConfig

SMALL = ForecasterConfig(hidden=4, hidden_above=4, readout=4)


def beating(frames=40, period=10, size=(24, 20), noise=0.01, seed=0, phases=None):
    """Return a series (x, y, t): a disc that beats on a textured body; ``phases`` in beats override the rhythm."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]), indexing="ij")
    body = (x**2 + y**2 < 0.9) * (1 + 0.2 * np.sin(7 * x) * np.cos(5 * y))
    phases = np.arange(frames) / period if phases is None else np.asarray(phases)
    radius = 0.45 + 0.15 * np.sin(2 * np.pi * phases) + 0.05 * np.sin(4 * np.pi * phases + 1)
    disc = np.clip((radius - np.hypot(x - 0.1, y)[..., None]) * 12, 0, 1)
    noisy = body[..., None] + 1.5 * disc + noise * rng.normal(size=(*size, len(phases)))
    return (100 * np.abs(noisy)).astype(np.float32)


def small_network():
    """Return an untrained forecaster."""
    torch.manual_seed(0)
    return CineForecaster(SMALL).eval()


def small_bundle(folder):
    """Write a bundle of it."""
    config = {
        "task": "forecast", "network": "cine-forecaster", "settings": asdict(SMALL), "frames_ahead": 4,
        "licence": "CC0-1.0", "summary": "untrained, for tests",
    }  # fmt: skip
    return write_bundle(folder, config, small_network().state_dict(), "# tiny\n").folder

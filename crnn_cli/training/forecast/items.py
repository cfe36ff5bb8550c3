"""Items that a forecaster is trained on: a short piece of a beating series, and what memory recalls of it.

Legend: T frame read, R frame read in a step, W frame after which is forecast, K frame ahead, S source, Y, X pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.forecasting.intensity import intensity_scale
from crnn_cli.forecasting.memory import FrameMemory
from crnn_cli.training.forecast.play import Variation, beat_places, displace, play, slow, with_noise
from crnn_cli.training.forecast.settings import ForecastSettings
from crnn_cli.training.reconstruct.scenes import SceneRandom, SceneSize, from_cine, random_scene

ITEMS_OF_SERIES = 16
_FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))  # of time and of rows, in (noisy and clean, T, Y, X)
_MARGIN = 4  # pixels about a view, so that what is moved in is real


@dataclass(frozen=True)
class ForecastItem:
    """What the network reads, and what it should say.

    Attributes
    ----------
    read_TRYX : of the encoder's steps.
    starts : steps after which is forecast, rising.
    sources_WKSYX : of the forecaster's steps.
    truth_WKYX : the frames, without the noise that was added.
    """

    read_TRYX: Tensor
    starts: tuple[int, ...]
    sources_WKSYX: Tensor
    truth_WKYX: Tensor


def draw_items(cines: Sequence[Tensor], settings: ForecastSettings, seed: int) -> list[ForecastItem]:
    """Draw items from one cine, or from one scene: turned by right angles, mirrored, and backwards in time.

    Parameters
    ----------
    cines : magnitudes (T, Y, X) of one beat each; without any, all items are scenes.
    settings : shares and sizes.
    seed : of everything random.

    Returns
    -------
    `ITEMS_OF_SERIES` items.
    """
    rng = SceneRandom(seed)
    real = bool(cines) and rng.chance(settings.real_share)
    both = torch.stack(_played_cine(cines, settings, rng) if real else _scene(settings, rng))
    items = []
    for number in range(ITEMS_OF_SERIES):
        turned = torch.rot90(both.flip(_FLIPS[number // 4]), number % 4, (2, 3))
        noisy, clean = turned * (rng.log_uniform(0.6, 1.6) / intensity_scale(turned[0, 0]))
        first = settings.history if rng.chance(0.75) else rng.integer(0, settings.history)
        items.append(cut_item(noisy, clean, first, settings, rng))
    return items


def cut_item(
    noisy_TYX: Tensor, clean_TYX: Tensor, first: int, settings: ForecastSettings, rng: SceneRandom
) -> ForecastItem:
    """Cut an item out of a series.

    Parameters
    ----------
    noisy_TYX, clean_TYX : the series as it is read, and as it is to be forecast.
    first : frames before the first that the network reads; memory holds them.
    settings, rng : sizes; starts are random, but for the last frame read.
    """
    memory, read, sources, truth = FrameMemory(), [], [], []
    drawn = torch.randperm(settings.frames - 1, generator=rng.generator)[: settings.starts - 1]
    starts = (*sorted(int(s) for s in drawn), settings.frames - 1)
    for t in range(first + settings.frames):
        memory.add(noisy_TYX[t])
        if t < first:
            continue
        read.append(memory.read())
        if t - first in starts:
            sources.append(torch.stack([memory.sources(k) for k in range(1, settings.ahead + 1)]))
            truth.append(clean_TYX[t + 1 : t + 1 + settings.ahead])
    return ForecastItem(torch.stack(read), starts, torch.stack(sources), torch.stack(truth))


def _played_cine(cines: Sequence[Tensor], settings: ForecastSettings, rng: SceneRandom) -> tuple[Tensor, Tensor]:
    """A random view of a random cine, played with random variation: with noise, and without."""
    cine = cines[rng.integer(0, len(cines) - 1)]
    side = settings.side + 2 * _MARGIN
    view = from_cine(cine, SceneSize(len(cine), side, side), rng)
    step = len(cine) / rng.log_uniform(12, 42)
    places = beat_places(settings.length, len(cine), step, rng.uniform(0, 0.12), rng)
    if rng.chance(0.08):
        places = _with_early_beat(places, len(cine), rng)
    noisy, clean = play(view, places, random_variation(rng), rng)
    return noisy[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN], clean[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _scene(settings: ForecastSettings, rng: SceneRandom) -> tuple[Tensor, Tensor]:
    """A random scene with random sway: with noise, and without."""
    side = settings.side + 2 * _MARGIN
    scene = random_scene(SceneSize(settings.length, side, side), rng)
    variation, frames = random_variation(rng), settings.length
    sway = torch.stack([variation.sway * slow(frames, rng) for _ in range(2)], dim=1)
    moved = displace(scene, sway, math.radians(variation.turn) * slow(frames, rng))
    clean = moved[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    clean = clean / clean.amax().clamp_min(1e-3)
    return with_noise(clean, variation.noise, rng), clean


def random_variation(rng: SceneRandom) -> Variation:
    """Draw how the beats of an item differ."""
    sway = rng.uniform(0, 3) if rng.chance(0.7) else 0.0
    return Variation(0.0, sway, rng.uniform(0, 3), rng.uniform(0, 0.08), rng.log_uniform(0.002, 0.05))


def _with_early_beat(places_T: Tensor, beat: int, rng: SceneRandom) -> Tensor:
    """Let one beat break off, at some place in the series, for the next to begin early."""
    at = rng.integer(len(places_T) // 3, len(places_T) - 1)
    left = beat - float(places_T[at]) % beat
    return places_T + left * (torch.arange(len(places_T)) >= at)

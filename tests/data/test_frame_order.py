"""Frames that were shuffled make a longer way; those of real hearts, also few of them, do not."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.frame_order import MOST, TOO_LONG, detour, image_distances, label_distances
from tests.cardiac.hearts import heart
from tests.support.cines import moving_cine
from tests.support.data import ROOT, data_file


def between(distances, array):
    """Distances of every two frames over all slices of (x, y, z, t)."""
    return np.sum([distances(array[:, :, z]) for z in range(array.shape[2])], axis=0)


def cuts(frames, count):
    """Some frames of a cycle: even ones, and the first ones."""
    return np.round(np.arange(count) * frames / count).astype(int), np.arange(count)


@pytest.mark.parametrize("frames", [5, 6, 8, 11, 20])
def test_the_best_way_is_found(frames):
    """Against all ways of a few frames, and the true one of many on a circle."""
    rng = np.random.default_rng(frames)
    angle = np.sort(rng.uniform(0, 2 * np.pi, frames))
    ring = np.abs(np.exp(1j * angle)[:, None] - np.exp(1j * angle))
    shuffle = rng.permutation(frames)
    length = lambda order: ring[order, np.roll(order, -1)].sum()  # noqa: E731
    best = length(np.arange(frames))
    if frames < 8:
        best = min(length(np.array([0, *rest])) for rest in itertools.permutations(range(1, frames)))
    assert detour(ring) == pytest.approx(0, abs=1e-9)
    assert detour(ring[np.ix_(shuffle, shuffle)]) == pytest.approx(length(shuffle) / best - 1)


@pytest.mark.parametrize("frames", [6, 8, 12, 20])
def test_hearts_of_simple_shapes(frames):
    labels, cine = heart(frames=frames).array, np.abs(moving_cine(32, 32, 3, frames))
    for distances, array in ((label_distances, labels), (image_distances, cine)):
        assert detour(between(distances, array)) < 0.02
        mixed = np.arange(frames).reshape(2, -1).T.ravel() if frames > 6 else np.array([0, 3, 1, 4, 2, 5])
        assert detour(between(distances, array[..., mixed])) > TOO_LONG


@pytest.mark.parametrize("frames", [5, 8, 20])
def test_noise_and_stillness_are_in_order(frames):
    noise = 100 + np.random.default_rng(0).normal(size=(64, 64, frames))
    assert detour(image_distances(noise)) < TOO_LONG
    assert detour(image_distances(np.ones((8, 8, frames)))) == 0


def real_cines():
    yield ROOT / "sample_data" / "pig_cine.nii.gz"
    for patient in ("015", "022", "041", "046", "062", "085"):
        yield ("acdc_cine", f"patient{patient}_4d.nii.gz")


@pytest.mark.parametrize("where", [*real_cines()], ids=lambda each: each[-1][:10] if isinstance(each, tuple) else "pig")
def test_real_cines_cut_to_few_frames(where):
    array = nib.load(data_file(*where) if isinstance(where, tuple) else where).get_fdata(dtype=np.float32)
    all_TT = between(image_distances, array)
    assert detour(all_TT) < 0.05
    shuffle = np.random.default_rng(7)
    for count in range(6, 12):
        for cut in cuts(array.shape[3], count):
            assert detour(all_TT[np.ix_(cut, cut)]) < TOO_LONG
            if count >= 9:
                mixed = shuffle.permutation(cut)
                assert detour(all_TT[np.ix_(mixed, mixed)]) > TOO_LONG


def test_more_frames_than_can_be_searched_are_not_judged():
    place = np.random.default_rng(0).permutation(MOST + 1).astype(float)
    distances_TT = np.abs(place[:, None] - place)
    assert detour(distances_TT) == 0
    assert detour(distances_TT[:MOST, :MOST]) > 1

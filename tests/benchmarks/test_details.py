"""Details put into cines: where they are put, and what is said of images in which they are changed in a known way."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def details(monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import details

    return details


def beating(frames=12, lines=72, columns=64):
    """Return a body with a disc that grows and shrinks, beside the middle."""
    y, x = np.mgrid[:lines, :columns]
    radius = 9 + 3 * np.sin(2 * np.pi * np.arange(frames) / frames)[:, None, None]
    disc = np.hypot(y - 30, x - 36) < radius
    texture = 0.05 * np.random.default_rng(0).random((lines, columns))
    return (0.3 + 0.5 * disc + texture).astype(np.float32)


def test_two_places_lie_in_the_region_that_changes_and_two_around_it(details):
    truth = beating()
    box, found = details.heart_box(truth), details.places(truth)
    assert all(part.start < middle < part.stop for part, middle in zip(box, (30, 36), strict=True))
    inside = [all(part.start <= at < part.stop for part, at in zip(box, place, strict=True)) for place in found]
    assert inside == [True, True, False, False]
    distances = [max(abs(a - b) for a, b in zip(p, q, strict=True)) for p in found for q in found if p != q]
    assert min(distances) >= details.APART
    changes = [truth[:, y, x].std() for y, x in found]
    assert changes[0] > 10 * changes[1]


@pytest.mark.parametrize("kind", ["lesion", "permanent", "absence"])
def test_contrast_and_leakage_are_those_of_a_known_change(details, kind):
    truth = beating()
    added = details.inserted(truth, kind, 1, details.places(truth)[1])
    there = added != 0
    assert there.any((1, 2)).sum() == (12 if kind == "permanent" else 3)
    assert there.any(0).sum() == 9
    size = np.sqrt((added[there] ** 2).mean())
    contrast, other, largest, around = details.judge(0.7 * added, added)
    assert contrast == pytest.approx(0.7)
    assert around == 0
    assert (other, largest) == (0, 0) or kind == "permanent"
    spread = 0.7 * added + 0.1 * size * there.any(0)
    if kind != "permanent":
        assert details.judge(spread, added)[1:3] == pytest.approx((0.1, 0.1))
    assert details.judge(added + 0.2 * size * ~there, added)[3] == pytest.approx(0.2)


def test_of_images_that_change_by_half_a_quarter_of_the_energy_is_left(details):
    truth = beating()
    mean = truth.mean(0)
    half = (mean + 0.5 * (truth - mean)).astype(np.float32)
    found, same = details.whole("a", "b", half, truth, 0.0), details.whole("a", "b", truth, truth, 0.0)
    assert (same.change_nmse, same.change_energy, same.hfen) == (0, 1, 0)
    assert found.change_energy == pytest.approx(0.25, rel=1e-4)
    assert found.change_nmse == pytest.approx(0.25, rel=1e-4)
    assert found.hfen > 0.02

"""Items for drawn slices follow from their seed, and are what they claim."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.labels.shape_interpolation import interpolate_distances
from crnn_cli.training.drawn.items import DrawnItems, DrawnItemSettings, collate_drawn
from crnn_cli.training.drawn.job import drawn_loss
from crnn_cli.training.drawn.regions import watershed_regions
from crnn_cli.training.drawn.shapes import random_shapes
from crnn_cli.training.drawn.stack import Stack

SMALL = DrawnItemSettings(slices=5, side=48, least=16, most=30)


def volume(seed=0):
    """Two touching cylinders that lean, brighter than what is around them."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:7, :64, :64]
    labels = np.zeros(z.shape, np.uint16)
    labels[(y - 25 - z) ** 2 + (x - 30) ** 2 < 144] = 1
    labels[(y - 40 - z) ** 2 + (x - 30) ** 2 < 64] = 2
    image = 0.2 + 0.3 * labels + 0.05 * rng.random(labels.shape)
    return Stack(image.astype(np.float32), labels, "cylinders")


def items(**settings):
    return DrawnItems([volume()], [], replace(SMALL, **settings))


@pytest.mark.parametrize("kind", [{"shapes": 1.0}, {"shapes": 0.0}, {"beating": 1.0}, {"ring": 1.0}, {"merged": 1.0}])
def test_an_item_follows_from_its_seed_and_number(kind):
    made = items(**kind)
    first, again, other = made.numbered((3,), 5), made.numbered((3,), 5), made.numbered((3,), 6)
    for name in ("image_SYX", "target_SYX", "distance_SYX", "others_SYX", "known_S"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.image_SYX, other.image_SYX)


@pytest.mark.parametrize("kind", [{"shapes": 1.0}, {"shapes": 0.0}, {"beating": 1.0}, {"ring": 1.0}])
def test_distances_are_those_of_the_drawn_slices_alone(kind):
    for number in range(6):
        item = items(**kind).numbered((0,), number)
        target, known = item.target_SYX.numpy() > 0.5, item.known_S.numpy()
        assert 1 <= known.sum() <= 3
        assert target[known].any()
        assert target[~known].any()
        np.testing.assert_array_equal(item.distance_SYX.numpy(), interpolate_distances(target, known))
        assert ((item.others_SYX.numpy() > 0) & target & known[:, None, None]).sum() == 0
        assert item.image_SYX.isfinite().all()
        assert float(item.image_SYX.min()) >= -0.25
        assert float(item.image_SYX.max()) <= 1.5


def test_the_structure_has_a_size_that_is_asked_for():
    sides = []
    for number in range(40):
        target = items(shapes=0.0, beating=0.0, ring=0.0, merged=0.0, regions=0.0).numbered((1,), number).target_SYX
        places = torch.nonzero(target.amax(0))
        sides.append(float((places.max(0).values - places.min(0).values).max()))
    assert 12 <= np.median(sides) <= 34


def test_a_beating_slice_shows_the_same_structure_in_all_frames_with_other_areas():
    for number in range(6):
        item = items(shapes=0.0, beating=1.0, ring=0.0).numbered((2,), number)
        areas = item.target_SYX.sum((1, 2))
        assert bool((areas > 0).all())
        assert float(areas.std()) > 0
        assert bool(item.known_S[0]) or bool(item.known_S[-1])


def test_the_image_shows_the_structure_where_its_labels_are():
    """A structure that differs from its neighbourhood still does once moved and shaded."""
    contrasts = []
    for number in range(20):
        item = items(shapes=0.0, ring=0.0, merged=0.0).numbered((4,), number)
        own = item.target_SYX > 0.5
        wider = torch.nn.functional.max_pool2d(item.target_SYX[:, None], 9, 1, 4)[:, 0] > 0.5
        contrasts.append(abs(float(item.image_SYX[own].mean() - item.image_SYX[wider & ~own].mean())))
    assert np.median(contrasts) > 0.15


def test_collate_stacks_what_the_network_takes():
    image, target, distance, others, known = collate_drawn([items().numbered((0,), n) for n in range(3)])
    assert image.shape == target.shape == distance.shape == others.shape == (3, 5, 48, 48)
    assert known.shape == (3, 5)


@pytest.mark.parametrize("wrong", [{"shapes": 1.5}, {"side": 50}, {"slices": 1}, {"least": 40.0, "most": 20.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"shares|slices"):
        replace(SMALL, **wrong)


def test_random_shapes_have_several_structures_and_textures():
    stack = random_shapes(6, np.random.default_rng(0))
    assert stack.image_SYX.shape == stack.labels_SYX.shape == (6, 128, 128)
    assert stack.image_SYX.dtype == np.float32
    assert len(stack.structures()) >= 3


def test_regions_of_an_image_follow_its_edges():
    stack = volume()
    regions = watershed_regions(stack.image_SYX, 0.3)
    best = 0.0
    for number in range(1, regions.max() + 1):
        mask = regions == number
        for label in (1, 2):
            own = stack.labels_SYX == label
            best = max(best, 2 * (mask & own).sum() / (mask.sum() + own.sum()))
    assert best > 0.85


def test_the_loss_does_not_look_at_drawn_slices_and_is_least_at_the_truth():
    target = torch.zeros(1, 3, 16, 16)
    target[:, :, 4:9, 4:9] = 1
    known = torch.tensor([[True, False, False]])
    right = 20 * (target - 0.5)
    assert float(drawn_loss(right, target, known)) < 0.01
    spoiled = right.clone()
    spoiled[:, 0] = -right[:, 0]
    assert float(drawn_loss(spoiled, target, known)) == pytest.approx(float(drawn_loss(right, target, known)))
    assert float(drawn_loss(-right, target, known)) > 1
    assert float(drawn_loss(torch.zeros_like(right), target, known)) > 0.5


def test_a_structure_that_is_nowhere_else_still_costs_what_is_labelled_wrongly():
    target = torch.zeros(1, 3, 16, 16)
    target[:, 0, 4:9, 4:9] = 1
    known = torch.tensor([[True, False, False]])
    nothing, something = torch.full((1, 3, 16, 16), -10.0), torch.full((1, 3, 16, 16), 3.0)
    assert float(drawn_loss(nothing, target, known)) < 0.01 < float(drawn_loss(something, target, known))


def test_a_structure_of_one_pixel_beats_too():
    labels_SYX = np.zeros((8, 40, 40), np.uint16)
    labels_SYX[:, 20, 20] = 1
    image_SYX = np.random.default_rng(0).random(labels_SYX.shape, np.float32)
    alone = DrawnItems([Stack(image_SYX, labels_SYX)], (), DrawnItemSettings(shapes=0.0, beating=1.0, ring=0.0))
    with np.errstate(all="raise", under="ignore"):
        for number in range(4):
            assert torch.isfinite(alone.numbered((3,), number).image_SYX).all()

"""Items for slice sequences follow from their seed and are what they claim."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from tests.training.datasets.test_sets import arrays, pair_of

pytest.importorskip("monai", reason="training needs the extra train")

import monai.transforms as mt

from crnn_cli.training.segment import items as slices
from crnn_cli.training.segment.items import Augmentation, Case, Items, ItemSize, collate_items, load_case

RECIPE = SlicePreprocessing(1.0, "percentiles", 1.0, 99.0)
STILL = Augmentation(turn=0, scale=0, shear=0, bent=0, foreground=0, cut=0)
WILD = Augmentation(any_turn=0.3, bent=1.0, mirror=0.5, reverse=0.5, cut=0.5)


def random_case(name="a", seed=0, shape=(7, 40, 36)):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 8:20, 8:30], labels[3:6, 22:30, 8:30] = 1, 2
    return Case(name, (100 * labels + 20 * rng.random(shape)).astype(np.float32), labels)


def ramp_items(axis, augmentation, side=120):
    """Return items from an image that ascends by 1 / side a pixel along an axis (1 row, 2 column)."""
    ramp = np.arange(side, dtype=np.float32).reshape([1, -1, 1] if axis == 1 else [1, 1, -1])
    image = np.broadcast_to(ramp, (3, side, side))
    return Items([Case("ramp", image, np.zeros(image.shape, np.uint8))], window(side), augmentation, 2)


def window(high):
    return SlicePreprocessing(1.0, "window", 0.0, float(high))


def draw(items, size, seed):
    """Return images and labels of a batch as training draws its first one."""
    return collate_items([items.numbered(size, (seed,), number) for number in range(size.sequences)])[:2]


def slopes(axis, augmentation, seed, side=120):
    """Return the pixels of the case that one pixel of the item spans along its rows' axis and its columns'."""
    image = draw(ramp_items(axis, augmentation, side), ItemSize(1, 2, 24, 20), seed)[0][0]
    inner = side * image[0, 4:-4, 4:-4]
    return float(inner.diff(dim=0).median()), float(inner.diff(dim=1).median())


@pytest.fixture
def unshaded(monkeypatch):
    """Leave intensities as they are."""
    monkeypatch.setattr(slices, "_shading", lambda: mt.Compose([mt.Identity()]))


def test_the_batch_of_a_seed_is_always_the_same():
    """Whatever was drawn before, and whatever state the global generators are in."""
    size = ItemSize(3, 4, 24, 20)
    cases = [random_case(str(k), k) for k in range(2)]
    first, second = Items(cases, RECIPE, WILD, 3), Items(cases, RECIPE, WILD, 3)
    for seed in range(3):
        drawn = draw(first, size, seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        draw(second, size, 77)
        again, other = draw(second, size, seed), draw(second, size, seed + 100)
        assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
        assert not torch.equal(drawn[0], other[0])


@pytest.mark.parametrize("how", [WILD, Augmentation()])
def test_shapes_and_one_hot_labels(how):
    """Odd sizes, sequences longer than the case, slices larger than it."""
    items = Items([random_case()], RECIPE, how, 4)
    for seed, size in enumerate([ItemSize(2, 4, 24, 20), ItemSize(1, 9, 17, 23), ItemSize(1, 1, 50, 44)]):
        image, labels = draw(items, size, seed)
        assert image.shape == (size.sequences, size.slices, size.rows, size.columns)
        assert labels.shape == (size.sequences, size.slices, 4, size.rows, size.columns)
        assert image.dtype == labels.dtype == torch.float32
        assert type(image) is type(labels) is torch.Tensor
        assert torch.isfinite(image).all()
        assert set(labels.unique().tolist()) == {0, 1}
        assert (labels.sum(2) == 1).all()
        assert not labels[:, :, 3].any()


@pytest.mark.usefixtures("unshaded")
def test_every_case_comes_before_one_comes_twice():
    cases = [Case(str(k), np.full((3, 30, 30), k, np.float32), np.zeros((3, 30, 30), np.uint8)) for k in range(4)]
    items = Items(cases, window(3), STILL, 2)
    image, _ = draw(items, ItemSize(4, 2, 10, 10), 5)
    assert sorted((3 * image.mean((1, 2, 3))).round().int().tolist()) == [0, 1, 2, 3]


def test_numbered_items_visit_every_case_once_an_epoch():
    """And follow from seed and number alone, whichever process draws them."""
    cases = [random_case(str(k), k) for k in range(5)]
    items, others = Items(cases, RECIPE, WILD, 3), Items(cases, RECIPE, WILD, 3)
    rows = [[items.case_of((seed, 0), number) for number in range(15)] for seed in range(2)]
    for row in rows:
        for epoch in range(3):
            assert sorted(row[5 * epoch : 5 * epoch + 5]) == list(range(5))
        assert row[:5] != row[5:10] or row[5:10] != row[10:]
    assert rows[0] != rows[1]
    size = ItemSize(1, 2, 16, 12)
    for number in (3, 9):
        drawn = items.numbered(size, (0, 1), number)
        others.numbered(size, (0, 1), number + 1)
        for a, b, c in zip(
            drawn, others.numbered(size, (0, 1), number), items.numbered(size, (0, 2), number), strict=True
        ):
            assert torch.equal(a, b)
            assert not torch.equal(a, c) or a is not drawn[0]


@pytest.mark.usefixtures("unshaded")
def test_without_augmentation_an_item_is_a_piece_of_the_case():
    for seed in range(3):
        assert slopes(1, STILL, seed) == pytest.approx((1, 0), abs=1e-3)
        assert slopes(2, STILL, seed) == pytest.approx((0, 1), abs=1e-3)


@pytest.mark.usefixtures("unshaded")
def test_rows_and_columns_both_vary_in_size():
    how = Augmentation(turn=0, scale=0.25, shear=0, bent=0, foreground=0, cut=0)
    found = np.array([(slopes(1, how, seed)[0], slopes(2, how, seed)[1]) for seed in range(24)])
    assert (found.min(axis=0) < 0.88).all()
    assert (found.max(axis=0) > 1.12).all()
    assert found.min() > 0.74
    assert found.max() < 1.34  # 1 / 0.75
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.7  # each on its own


@pytest.mark.usefixtures("unshaded")
def test_turns_keep_to_their_range():
    how = Augmentation(turn=20, scale=0, shear=0, bent=0, foreground=0, cut=0)
    angles = [np.degrees(np.arctan2(*slopes(1, how, seed)[::-1])) for seed in range(12)]
    assert max(np.abs(angles)) < 20.5
    assert max(angles) > 5
    assert min(angles) < -5
    anyhow = Augmentation(turn=0, any_turn=1, scale=0, shear=0, bent=0, foreground=0, cut=0)
    angles = [np.degrees(np.arctan2(*slopes(1, anyhow, seed)[::-1])) for seed in range(12)]
    assert max(np.abs(angles)) > 90


@pytest.mark.usefixtures("unshaded")
@pytest.mark.parametrize(("name", "turned_over"), [("mirror", False), ("reverse", True)])
def test_mirrored_along_columns_and_turned_over_with_the_slices(name, turned_over):
    how = Augmentation(turn=0, scale=0, shear=0, bent=0, foreground=0, cut=0, **{name: 1.0})
    for seed in range(3):
        assert slopes(1, how, seed) == pytest.approx((1, 0), abs=1e-3)
        assert slopes(2, how, seed) == pytest.approx((0, -1), abs=1e-3)
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32).reshape(6, 1, 1), (6, 40, 40))
    items = Items([Case("z", ramp, np.zeros(ramp.shape, np.uint8))], window(5), how, 2)
    image, _ = draw(items, ItemSize(1, 6, 9, 9), 0)
    expected = [5, 4, 3, 2, 1, 0] if turned_over else [0, 1, 2, 3, 4, 5]
    assert (5 * image.mean((0, 2, 3))).round().int().tolist() == expected


@pytest.mark.usefixtures("unshaded")
def test_image_and_labels_move_together():
    """A cone, labelled inside; the image is the distance from its axis over its radius, so the edge lies at 1."""
    y, x = np.meshgrid(np.arange(64) - 30, np.arange(60) - 28, indexing="ij")
    radius = np.arange(8, 20, 2).reshape(-1, 1, 1)
    image = (np.hypot(y, x) / radius).astype(np.float32)
    how = Augmentation(any_turn=0.3, bent=1.0, mirror=0.5, reverse=0.5, foreground=1.0, cut=0)
    items = Items([Case("cone", image, (image < 1).astype(np.uint8))], window(1), how, 2)
    both = 0
    for seed in range(12):
        image_BSYX, labels_BSKYX = draw(items, ItemSize(1, 4, 32, 32), seed)
        inside = labels_BSKYX[:, :, 1]
        assert (inside[image_BSYX < 0.8] == 1).all()
        assert (inside[image_BSYX > 1.2] == 0).all()
        both += bool(inside.any() and not inside.all())
    assert both > 6


def test_items_are_centred_in_the_labels_if_asked():
    labels = np.zeros((4, 90, 90), np.uint8)
    labels[:, 60:64, 30:34] = 1
    case = Case("small", np.random.default_rng(0).random(labels.shape, np.float32), labels)
    for share, least, most in ((1.0, 12, 12), (0.0, 0, 4)):
        how = Augmentation(turn=0, scale=0, shear=0, bent=0, foreground=share, cut=0)
        drawn = [draw(Items([case], RECIPE, how, 2), ItemSize(1, 2, 20, 20), seed)[1] for seed in range(12)]
        assert least <= sum(bool(y[:, :, 1].any()) for y in drawn) <= most


@pytest.mark.usefixtures("unshaded")
def test_edges_of_the_field_of_view_are_lost_if_asked():
    case = Case("ones", np.full((3, 60, 60), 2, np.float32), np.zeros((3, 60, 60), np.uint8))
    case.image_SYX[:, 30, 30] = 1
    how = Augmentation(turn=0, scale=0, shear=0, bent=0, foreground=0, cut=1)
    widths = []
    for seed in range(8):
        image = draw(Items([case], window(2), how, 2), ItemSize(1, 3, 60, 60), seed)[0][0]
        dark = image < 0.75
        assert dark.all(0).eq(dark.any(0)).all()  # the same in all slices
        assert not dark[:, 12:25, 12:25].any()
        widths.append(int(dark[0].sum()))
    assert max(widths) > 200
    assert len(set(widths)) > 4


def test_a_case_lies_on_the_networks_grid(tmp_path):
    image, labels = arrays()
    pair = pair_of(tmp_path, image, labels)
    case = load_case(pair, None, RECIPE)  # 16 x 1.0 mm along x, 12 x 1.25 mm along y
    assert case.image_SYX.shape == case.labels_SYX.shape
    assert sorted(case.image_SYX.shape) == [5, 15, 16]
    assert case.image_SYX.shape[0] == 5
    assert set(np.unique(case.labels_SYX)) == {0, 1, 2}
    thick = load_case(pair, "sagittal", RECIPE)  # thick slices are taken as they were acquired, as in `segment`
    np.testing.assert_array_equal(thick.image_SYX, case.image_SYX)
    for k in (0, 1, 2):  # the two still match
        inner = case.image_SYX[case.labels_SYX == k]
        assert abs(np.median(inner) - 50 * k) < 2


@pytest.mark.usefixtures("unshaded")
def test_gaps_skip_every_second_slice_of_image_and_labels():
    image = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None, None], (9, 30, 30))
    case = Case("steps", image, image.astype(np.uint8) % 2)
    items = Items([case], window(8), replace(STILL, gaps=1.0), 2)
    firsts = set()
    for seed in range(12):
        shown, labels = draw(items, ItemSize(1, 4, 10, 10), seed)
        slices = (8 * shown[0].mean((1, 2))).round().int().tolist()
        assert np.diff(slices).tolist() == [2, 2, 2]
        np.testing.assert_array_equal(labels[0, :, 1, 5, 5], [k % 2 for k in slices])
        firsts.add(slices[0])
    assert firsts == {0, 1, 2}


@pytest.mark.usefixtures("unshaded")
def test_brightness_differs_from_slice_to_slice_within_its_range():
    case = Case("ones", np.full((5, 30, 30), 2, np.float32), np.zeros((5, 30, 30), np.uint8))
    gains = [draw(Items([case], window(2), replace(STILL, gain=0.2), 2), ItemSize(1, 5, 10, 10), seed)[0].mean((2, 3))
             for seed in range(8)]  # fmt: skip
    assert all(0.8 <= float(gain.min()) < float(gain.max()) <= 1.2 for gain in gains)
    assert max(float(gain.max()) for gain in gains) > 1.15


@pytest.mark.usefixtures("unshaded")
def test_a_share_of_the_items_is_scanned_again_and_their_labels_stay():
    case = random_case()
    plain, again = (Items([case], RECIPE, replace(STILL, rescan=share), 3) for share in (0.0, 0.5))
    changed = []
    for seed in range(16):
        first, second = (draw(items, ItemSize(1, 3, 24, 20), seed) for items in (plain, again))
        changed.append(not torch.equal(first[0], second[0]))
        assert torch.equal(first[1], second[1])
    assert 3 < sum(changed) < 13

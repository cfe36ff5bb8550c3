"""Items for slice sequences follow from their seed and are what they claim; a stopped training goes on unchanged."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig
from crnn_cli.segmentation import SliceRecipe
from crnn_cli.training.run import RunFolder, follow
from tests.conftest import save

pytest.importorskip("monai", reason="training needs the extra train")

from crnn_cli.training import segmentation as training
from crnn_cli.training import slices
from crnn_cli.training.segmentation import MIXED, TASKS, Stage, Task, Trainer, dice_table
from crnn_cli.training.slices import (
    Augmentation,
    Case,
    Items,
    ItemSize,
    Pair,
    find_pairs,
    load_case,
    load_pair,
    split_pairs,
)

AFFINE = np.diag([1.0, 1.25, 4.0, 1])
RECIPE = SliceRecipe(1.0, "percentiles", 1.0, 99.0)
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
    return SliceRecipe(1.0, "window", 0.0, float(high))


def slopes(axis, augmentation, seed, side=120):
    """Return the pixels of the case that one pixel of the item spans along its rows' axis and its columns'."""
    image = ramp_items(axis, augmentation, side).draw(ItemSize(1, 2, 24, 20), seed)[0][0]
    inner = side * image[0, 4:-4, 4:-4]
    return float(inner.diff(dim=0).median()), float(inner.diff(dim=1).median())


@pytest.fixture
def unshaded(monkeypatch):
    """Leave intensities as they are."""
    monkeypatch.setattr(slices, "_shading", lambda: slices.mt.Compose([slices.mt.Identity()]))


def test_the_batch_of_a_seed_is_always_the_same():
    """Whatever was drawn before, and whatever state the global generators are in."""
    size = ItemSize(3, 4, 24, 20)
    cases = [random_case(str(k), k) for k in range(2)]
    first, second = Items(cases, RECIPE, WILD, 3), Items(cases, RECIPE, WILD, 3)
    for seed in range(3):
        drawn = first.draw(size, seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        second.draw(size, 77)
        again, other = second.draw(size, seed), second.draw(size, seed + 100)
        assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
        assert not torch.equal(drawn[0], other[0])


@pytest.mark.parametrize("name", TASKS)
def test_shapes_and_one_hot_labels(name):
    """Odd sizes, sequences longer than the case, slices larger than it."""
    items = Items([random_case()], RECIPE, TASKS[name].augmentation, 4)
    for seed, size in enumerate([ItemSize(2, 4, 24, 20), ItemSize(1, 9, 17, 23), ItemSize(1, 1, 50, 44)]):
        image, labels = items.draw(size, seed)
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
    image, _ = items.draw(ItemSize(4, 2, 10, 10), 5)
    assert sorted((3 * image.mean((1, 2, 3))).round().int().tolist()) == [0, 1, 2, 3]


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
    image, _ = Items([Case("z", ramp, np.zeros(ramp.shape, np.uint8))], window(5), how, 2).draw(ItemSize(1, 6, 9, 9), 0)
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
        image_BSYX, labels_BSKYX = items.draw(ItemSize(1, 4, 32, 32), seed)
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
        drawn = [Items([case], RECIPE, how, 2).draw(ItemSize(1, 2, 20, 20), seed)[1] for seed in range(12)]
        assert least <= sum(bool(y[:, :, 1].any()) for y in drawn) <= most


@pytest.mark.usefixtures("unshaded")
def test_edges_of_the_field_of_view_are_lost_if_asked():
    case = Case("ones", np.full((3, 60, 60), 2, np.float32), np.zeros((3, 60, 60), np.uint8))
    case.image_SYX[:, 30, 30] = 1
    how = Augmentation(turn=0, scale=0, shear=0, bent=0, foreground=0, cut=1)
    widths = []
    for seed in range(8):
        image = Items([case], window(2), how, 2).draw(ItemSize(1, 3, 60, 60), seed)[0][0]
        dark = image < 0.75
        assert dark.all(0).eq(dark.any(0)).all()  # the same in all slices
        assert not dark[:, 12:25, 12:25].any()
        widths.append(int(dark[0].sum()))
    assert max(widths) > 200
    assert len(set(widths)) > 4


# Pairs on disk


def pair_of(folder, image, labels, affine=AFFINE, label_affine=None):
    paths = folder / "v.nii.gz", folder / "v_gt.nii.gz"
    save(paths[0], image, affine=affine)
    save(paths[1], labels, affine=affine if label_affine is None else label_affine)
    return Pair("v", "s", *paths)


def arrays(seed=0):
    labels = np.zeros((16, 12, 5), np.uint8)
    labels[4:9, 3:8, 1:4], labels[9:12, 3:8, 2:4] = 1, 2
    return (50 * labels + np.random.default_rng(seed).random(labels.shape)).astype(np.float32), labels


@pytest.mark.parametrize("suffix", ["", "Tr"])
def test_pairs_of_two_folders(tmp_path, suffix):
    for kind in ("images", "labels"):
        (tmp_path / f"{kind}{suffix}").mkdir()
        for name in ("b.nii.gz", "a.nii.gz", "._a.nii.gz"):
            (tmp_path / f"{kind}{suffix}" / name).touch()
    found = find_pairs(tmp_path)
    assert [(p.name, p.subject) for p in found] == [("a", "a"), ("b", "b")]
    assert found[0].image == tmp_path / f"images{suffix}" / "a.nii.gz"
    assert found[0].labels == tmp_path / f"labels{suffix}" / "a.nii.gz"


def test_pairs_of_a_folder_per_subject(tmp_path):
    for subject in ("p2", "p1"):
        (tmp_path / subject).mkdir()
        for name in ("f01.nii.gz", "f01_gt.nii.gz", "f12.nii.gz", "f12_gt.nii.gz", "4d.nii.gz", "._f01_gt.nii.gz"):
            (tmp_path / subject / name).touch()
    found = find_pairs(tmp_path)
    assert [(p.name, p.subject) for p in found] == [("f01", "p1"), ("f12", "p1"), ("f01", "p2"), ("f12", "p2")]
    assert all(p.image == p.labels.with_name(f"{p.name}.nii.gz") for p in found)


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(UnreadableError, match="holds neither"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_cover_all_and_divide_no_subject(tmp_path, folds):
    pairs = [Pair(f"v{k}", f"s{k % 7}", tmp_path, tmp_path) for k in range(17)]
    tested = []
    for fold in range(folds):
        training_pairs, test_pairs = split_pairs(pairs, fold, folds)
        assert not {p.subject for p in training_pairs} & {p.subject for p in test_pairs}
        assert sorted(p.name for p in training_pairs + test_pairs) == sorted(p.name for p in pairs)
        assert abs(len({p.subject for p in test_pairs}) - 7 / folds) < 1
        tested += test_pairs
    assert sorted(p.name for p in tested) == sorted(p.name for p in pairs)


def test_a_pair_is_read_as_it_is(tmp_path):
    image, labels = arrays()
    found, values = load_pair(pair_of(tmp_path, image, labels))
    np.testing.assert_array_equal(found.array, image)
    np.testing.assert_array_equal(values, labels)
    assert values.dtype == np.uint8


def test_pairs_that_are_none_are_refused(tmp_path):
    image, labels = arrays()
    moved = AFFINE.copy()
    moved[0, 3] = 1
    half, negative, large, broken = (labels.astype(np.float32) for _ in range(4))
    half[0, 0, 0], negative[0, 0, 0], large[0, 0, 0] = 0.5, -1, 256
    broken[0, 0, 0] = np.nan
    nan = image.copy()
    nan[0, 0, 0] = np.nan
    with pytest.raises(UnsupportedDataError, match="another grid"):
        load_pair(pair_of(tmp_path, image, labels, label_affine=moved))
    with pytest.raises(UnsupportedDataError, match="another grid"):
        load_pair(pair_of(tmp_path, image, labels[:-1]))
    for wrong in (half, negative, large):
        with pytest.raises(UnsupportedDataError, match="no labels"):
            load_pair(pair_of(tmp_path, image, wrong))
    with pytest.raises(UnsupportedDataError, match="pairs are volumes"):
        load_pair(pair_of(tmp_path, np.stack([image] * 2, -1), np.stack([labels] * 2, -1)))
    with pytest.raises(UnsupportedDataError, match="NaN"):
        load_pair(pair_of(tmp_path, nan, labels))


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


# Training


TASK = Task(
    structures=(("a", (1, 2, 3)), ("b", (4, 5, 6))),
    plane=None,
    recipe=RECIPE,
    config=SliceCLSTMConfig(classes=3, width=2, scales=2, hidden=2),
    augmentation=WILD,
    stages=(Stage(3, 0, ItemSize(2, 3, 14, 12), MIXED, 1e-2), Stage(3, 2, ItemSize(1, 4, 13, 12), MIXED, 1e-2)),
    in_slice=(0.5, 2),
    between_slices=(3, 5),
    folds=2,
)


class StoppedError(Exception):
    """The run was killed."""


def trained(folder, stops=(), task=TASK):
    """Train to the end; each of ``stops`` kills the run after so many steps, and a new one goes on."""
    items = Items([random_case(str(k), k) for k in range(2)], RECIPE, task.augmentation, 3)
    for stop in (*stops, None):
        trainer, done = Trainer(task, items, RunFolder(folder), seed=1), []

        def counted(stage, trainer=trainer, stop=stop, done=done):
            if len(done) == stop:
                raise StoppedError
            done.append(1)
            return Trainer._train_step(trainer, stage)

        trainer._train_step = counted
        if stop is None:
            trainer.run()
        else:
            with pytest.raises(StoppedError):
                trainer.run()
    return trainer


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("every", "stops"), [(1, (2,)), (1, (3,)), (1, (1, 3)), (2, (1, 4)), (250, (2, 5))])
def test_a_stopped_run_goes_on_bit_for_bit(monkeypatch, tmp_path, uninterrupted, every, stops):
    """Stopped within a stage, between the two, more than once, and with steps lost since the last checkpoint."""
    monkeypatch.setattr(training, "SAVE_EVERY", every)
    again = trained(tmp_path, stops)
    for part in ("network", "averaged"):
        found, expected = (getattr(t, part).state_dict() for t in (again, uninterrupted))
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert torch.equal(found[name], value), (part, name)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint.pt", "weights.safetensors"]


def test_a_finished_run_that_is_started_again_stays_as_it_is(uninterrupted):
    again = trained(uninterrupted.folder.folder)
    for name, value in uninterrupted.averaged.state_dict().items():
        assert torch.equal(again.averaged.state_dict()[name], value)


def test_the_recurrent_part_is_attached_to_the_averaged_cnn(uninterrupted):
    torch.manual_seed(3)
    before = SliceCLSTM(SliceCLSTMConfig(classes=3, width=2, scales=2, hidden=2, directions=0))
    items = Items([random_case()], RECIPE, WILD, 3)
    trainer = Trainer(TASK, items, RunFolder(uninterrupted.folder.folder), seed=1)
    trainer.start_stage(1, before)
    assert (trainer.stage, trainer.step) == (1, 0)
    for network in (trainer.network, trainer.averaged):
        assert len(network.cells) == 2
        for name, value in before.state_dict().items():
            assert torch.equal(network.state_dict()[name], value)
        assert not any(readout.weight.any() for readout in network.readout)


def test_training_moves_every_weight(uninterrupted):
    torch.manual_seed(2)
    fresh = SliceCLSTM(TASK.config)
    for (name, p), q in zip(uninterrupted.network.named_parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(p, q), name
    assert all(readout.weight.any() for readout in uninterrupted.network.readout)


def test_the_average_follows():
    """Early it takes most of the new, later little of it; whole numbers are copied."""
    averaged, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        averaged.weight.fill_(1)
        network.weight.fill_(3)
        network.running_mean.fill_(10)
        network.num_batches_tracked.fill_(7)
    follow(averaged, network, 0, 0.995)
    assert averaged.weight.tolist() == pytest.approx([0.1 * 1 + 0.9 * 3] * 2)
    assert averaged.running_mean.tolist() == pytest.approx([9] * 2)
    assert int(averaged.num_batches_tracked) == 7
    with torch.no_grad():
        averaged.weight.fill_(1)
    follow(averaged, network, 10_000, 0.995)
    assert averaged.weight.tolist() == pytest.approx([1 + 0.005 * 2] * 2)
    assert network.weight.tolist() == [3, 3]
    for _ in range(5000):
        follow(averaged, network, 10_000, 0.995)
    torch.testing.assert_close(averaged.weight, network.weight, rtol=1e-4, atol=0)


def test_a_run_folder_leaves_nothing_half_written(tmp_path):
    folder = RunFolder(tmp_path / "a" / "b")
    assert folder.state() is None
    folder.describe({"seed": 0})
    for k in range(2):
        folder.log({"step": k})
        folder.save({"step": k}, {"w": torch.arange(6.0).view(2, 3).t()})
    assert sorted(f.name for f in folder.folder.iterdir()) == [
        "checkpoint.pt", "log.jsonl", "run.json", "weights.safetensors",
    ]  # fmt: skip
    assert folder.state() == {"step": 1}
    assert [json.loads(line) for line in (folder.folder / "log.jsonl").read_text().splitlines()] == [
        {"step": 0}, {"step": 1},
    ]  # fmt: skip
    assert json.loads((folder.folder / "run.json").read_text()) == {"seed": 0}


def test_a_failed_save_leaves_the_last_one(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save({"step": 1}, {"w": torch.zeros(1)})
    with pytest.raises(Exception, match="pickle"):
        folder.save({"step": lambda: 2}, {"w": torch.zeros(1)})
    assert folder.state() == {"step": 1}


def test_the_table_holds_the_dice_on_the_images_grid(tmp_path):
    """A network that reads the labels off the image, measured against them, others and none."""

    class Reader(nn.Module):
        def label(self, image_SYX, progress=lambda done, total: None):
            values = (image_SYX * 2).round().long().clamp(0, 2)
            return nn.functional.one_hot(values, 3).permute(0, 3, 1, 2).float()

    _, labels = arrays()
    pair = pair_of(tmp_path, labels.astype(np.float32), labels, affine=np.diag([1.0, 1.0, 4.0, 1]))
    task = Task(**{**vars(TASK), "recipe": window(2)})
    assert dice_table(Reader(), task, [pair]) == {"v": [1, 1]}
    other = labels.copy()
    other[other == 2] = 0
    other[4:9, 3:8, 1] = 0  # a third of the first structure
    pair = pair_of(tmp_path, labels.astype(np.float32), other, affine=np.diag([1.0, 1.0, 4.0, 1]))
    assert dice_table(Reader(), task, [pair])["v"] == pytest.approx([2 * 50 / (75 + 50), 0])
    pair = pair_of(tmp_path, (labels == 1).astype(np.float32), (labels == 1).astype(np.uint8))
    assert dice_table(Reader(), task, [pair])["v"][1] is None


def test_the_next_stage_goes_on_from_the_averaged_weights(tmp_path):
    items = Items([random_case("a", 0)], RECIPE, WILD, 3)
    trainer = Trainer(TASK, items, RunFolder(tmp_path), seed=1)
    trainer._run_stage(TASK.stages[0])
    before = {name: value.clone() for name, value in trainer.averaged.state_dict().items()}
    trainer._run_stage = lambda stage: None
    trainer.run()
    after = trainer.network.state_dict()
    assert trainer.stage == 1
    assert set(before) < set(after)
    for name, value in before.items():
        assert torch.equal(after[name], value), name

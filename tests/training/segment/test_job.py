"""The segmentation job: stages, losses, validation on the images' own grids, and what the data decide."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from crnn_cli.data.image import Image
from crnn_cli.errors import DeviceError, UnsupportedDataError
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from tests.training.datasets.test_sets import arrays, pair_of

pytest.importorskip("monai", reason="training needs the extra train")

from crnn_cli.training.datasets.sets import Pair
from crnn_cli.training.job import TrainingPlan
from crnn_cli.training.loop import TrainingLoop
from crnn_cli.training.memory import step_bytes
from crnn_cli.training.processes import Processes
from crnn_cli.training.run import RunFolder
from crnn_cli.training.segment.items import ItemSize, load_case
from crnn_cli.training.segment.job import SegmentJob, dice_table, load_cases
from crnn_cli.training.segment.losses import supervised_loss
from crnn_cli.training.segment.run import LabelledData
from crnn_cli.training.segment.settings import (
    Labels,
    SegmentationNetworkSettings,
    SegmentSettings,
    Slicing,
    StageSettings,
    Task,
    resolve_settings,
)
from crnn_cli.training.session import TrainingRun, require_memory
from tests.training.segment.test_items import RECIPE, WILD, random_case, window

CPU = torch.device("cpu")
SETTINGS = SegmentSettings(
    epochs=3,
    network=SegmentationNetworkSettings(width=2, scales=2, hidden=2),
    cnn=StageSettings(share=0.5, sequences=2),
    recurrent=StageSettings(share=0.25, sequences=1, rate=0.5, frozen_norm=True),
    augmentation=WILD,
)
TASK = Task(
    ("a", "b"), None, RECIPE, SETTINGS, (ItemSize(2, 3, 14, 12), ItemSize(1, 4, 13, 12)), (0.5, 2), (3, 5)
)  # fmt: skip


def job(task=TASK, cases=2, held_out=(), seed=1):
    return SegmentJob(task, [random_case(str(k), k) for k in range(cases)], held_out, seed)


def grid(shape, spacing, flip=False):
    affine = np.diag([*spacing, 1.0])
    if flip:
        affine[:, [0, 2]] = affine[:, [2, 0]]
    return Image(np.broadcast_to(np.float32(0), shape), affine)


def trained(folder, task=TASK):
    own = job(task)
    plan = TrainingPlan(task.stages(2), task.settings.optimiser, seed=1, validations=2)
    loop = TrainingLoop(own, plan, RunFolder(folder), Processes(CPU), lambda report: None)
    loop.run()
    return loop


def test_stages_follow_from_epochs_shares_and_batches():
    """80 epochs of 30 volumes: two thirds of 2400 sequences in batches of 2, one third one by one."""
    stages = replace(TASK, settings=replace(SETTINGS, epochs=80)).stages(30)
    assert [(s.steps, s.batch) for s in stages] == [(800, 2), (800, 1)]
    assert [s.learning_rate for s in stages] == [1.5e-3, 0.75e-3]
    alone = replace(
        TASK, settings=replace(SETTINGS, epochs=80, network=SegmentationNetworkSettings(directions=0))
    ).stages(30)
    assert [(s.name, s.steps) for s in alone] == [("CNN", 1200)]


def test_the_recurrent_part_is_attached_to_the_cnn():
    before = job().network(0, None)
    after = job().network(1, before)
    assert before.config.directions == 0
    assert after.config.directions == 2
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    assert not any(readout.weight.any() for readout in after.readout)
    image = torch.rand(1, 3, 16, 16)
    before.eval()
    after.eval()
    torch.testing.assert_close(before(image)[0], after(image)[0])


def test_training_moves_every_weight(tmp_path):
    loop = trained(tmp_path)
    torch.manual_seed(1)
    fresh = dict(job().network(1, job().network(0, None)).named_parameters())
    for name, p in loop.network.named_parameters():
        assert not torch.equal(p, fresh[name]), name
    assert all(readout.weight.any() for readout in loop.network.readout)


def test_frozen_normalisation_keeps_its_statistics():
    own = job()
    network = own.network(1, None)
    for stage, frozen in ((0, False), (1, True)):
        own.set_mode(stage, network)
        assert network.training
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {m.training for m in norms} == {not frozen}
        before = norms[0].running_mean.clone()
        for loss in own.losses(stage, network, [own.item(stage, 0)], CPU):
            loss.backward()
        assert torch.equal(norms[0].running_mean, before) == frozen
        assert all(p.grad is not None for p in norms[0].parameters())


def test_the_loss_is_the_supervised_loss_of_the_batch():
    own = job()
    network = own.network(0, None).eval()
    items = [own.item(0, k) for k in range(2)]
    image, labels, labelled = (torch.stack(parts) for parts in zip(*items, strict=True))
    assert labelled.all()
    (loss,) = own.losses(0, network, items, CPU)
    torch.testing.assert_close(loss, supervised_loss({"jaccard": 1.0, "ce": 0.5}, network(image), labels))


def test_weights_to_begin_from_are_taken():
    torch.manual_seed(5)
    start = job().network(1, None)
    begun = SegmentJob(TASK, [random_case()], (), 1, start)
    for stage in (0, 1):
        for name, value in begun.network(stage, None).state_dict().items():
            assert torch.equal(value, start.state_dict()[name]), name


def test_the_recurrent_part_to_begin_from_survives_the_first_stage():
    torch.manual_seed(5)
    start = job().network(1, None)
    for readout in start.readout:
        nn.init.normal_(readout.weight)
    begun = SegmentJob(TASK, [random_case()], (), 1, start)
    cnn = begun.network(0, None)
    nn.init.zeros_(cnn.cnn.side[0].weight)
    after = begun.network(1, cnn).state_dict()
    assert not after["cnn.side.0.weight"].any()
    for name, value in start.state_dict().items():
        if name.startswith(("cells", "readout")):
            assert torch.equal(after[name], value), name


def test_the_table_holds_the_dice_on_the_images_grid(tmp_path):
    """A network that reads the labels off the image, measured against them, others and none."""

    class Reader(nn.Module):
        def label(self, image_SYX, progress=lambda done, total: None):
            values = (image_SYX * 2).round().long().clamp(0, 2)
            return nn.functional.one_hot(values, 3).permute(0, 3, 1, 2).float()

    _, labels = arrays()
    pair = pair_of(tmp_path, labels.astype(np.float32), labels, affine=np.diag([1.0, 1.0, 4.0, 1]))
    task = replace(TASK, recipe=window(2))
    assert dice_table(Reader(), task, [pair], CPU) == {"v": [1, 1]}
    other = labels.copy()
    other[other == 2] = 0
    other[4:9, 3:8, 1] = 0  # a third of the first structure
    pair = pair_of(tmp_path, labels.astype(np.float32), other, affine=np.diag([1.0, 1.0, 4.0, 1]))
    assert dice_table(Reader(), task, [pair], CPU)["v"] == pytest.approx([2 * 50 / (75 + 50), 0])
    pair = pair_of(tmp_path, (labels == 1).astype(np.float32), (labels == 1).astype(np.uint8))
    assert dice_table(Reader(), task, [pair], CPU)["v"][1] is None


def test_validation_is_the_mean_over_volumes_and_structures(tmp_path, monkeypatch):
    table = {"x": [0.5, None], "y": [0.7, 0.2], "z": [0.6, None]}
    monkeypatch.setattr("crnn_cli.training.segment.job.dice_table", lambda *_: table)
    own = job(held_out=[object()])
    assert own.validate(own.network(0, None), CPU) == {"score": 0.4, "dice": {"a": 0.6, "b": 0.2}}
    assert job().validate(own.network(0, None), CPU) == {}


def test_decoded_volumes_beyond_the_limit_lie_on_disk(tmp_path):
    image, labels = arrays()
    pairs = [replace(pair_of(tmp_path, image, labels), name=str(k)) for k in range(3)]
    whole = load_case(pairs[0], None, RECIPE)
    size = (whole.image_SYX.nbytes + whole.labels_SYX.nbytes) / 2**30
    told = []
    cases = load_cases(pairs, TASK, tmp_path / "cache", 1.5 * size, lambda done, total: told.append((done, total)))
    assert [isinstance(case.image_SYX, np.memmap) for case in cases] == [False, True, True]
    assert told == [(1, 3), (2, 3), (3, 3)]
    for case in cases:
        np.testing.assert_array_equal(case.image_SYX, whole.image_SYX)
        np.testing.assert_array_equal(case.labels_SYX, whole.labels_SYX)


THICK = [grid((100, 90, 10), (1.5, 1.5, 8.0)), grid((110, 100, 12), (1.2, 1.2, 10.0)), grid((90, 80, 9), (2, 2, 6.0))]
CUBES = [grid((40, 50, 36), (1.0, 1.0, 1.0)), grid((38, 52, 34), (0.8, 0.8, 0.8))]


def test_the_data_decide_what_is_not_set():
    task = resolve_settings(SegmentSettings(), THICK, {0, 1, 3}, {1: "one"})
    assert task.names == ("one", "label 2", "label 3")
    assert task.classes == 4
    assert task.plane is None
    assert task.recipe.spacing == 1.5
    assert (task.in_slice, task.between_slices) == ((0.84, 3.0), (4.2, 15.0))
    assert {(s.slices, s.rows, s.columns) for s in task.sizes} == {(10, 96, 104)}  # rows follow y, columns x
    cubes = resolve_settings(SegmentSettings(), CUBES, {1}, {})
    assert cubes.plane == "axial"
    assert cubes.recipe.spacing == 0.9
    assert cubes.sizes[0].slices == 16


def test_what_is_set_is_kept():
    settings = replace(
        SETTINGS, labels=Labels(("x",)), slicing=Slicing("coronal", 2.0, "window", -100, 300),
        cnn=StageSettings(slices=5, rows=33, columns=17, sequences=3),
    )  # fmt: skip
    task = resolve_settings(settings, CUBES, {0, 1}, {1: "known"})
    assert (task.names, task.plane) == (("x",), "coronal")
    assert task.recipe == SlicePreprocessing(2.0, "window", -100, 300)
    assert task.sizes[0] == ItemSize(3, 5, 33, 17)
    config = task.bundle_config()
    assert config["plane"] == "coronal"
    assert [label["name"] for label in config["labels"]] == ["x"]
    assert config["settings"]["directions"] == 2


def test_a_manifest_decides_what_is_held_out():
    """Rows for test take part in nothing; without a split, the fold decides; without a fold, all are trained on."""
    splits = ("train", "val", "", "test", "val")
    pairs = [Pair(str(k), str(k), Path(), Path(), split) for k, split in enumerate(splits)]
    names = [[pair.name for pair in part] for part in LabelledData(pairs, [], set(), {}).split((0, 5))]
    assert names == [["0", "2"], ["1", "4"]]
    plain = LabelledData([replace(pair, split="") for pair in pairs], [], set(), {})
    assert [[pair.name for pair in part] for part in plain.split((1, 5))] == [["0", "2", "3", "4"], ["1"]]
    assert [len(part) for part in plain.split(None)] == [5, 0]
    with pytest.raises(UnsupportedDataError, match="nothing to train on"):
        LabelledData([replace(pair, split="val") for pair in pairs], [], set(), {}).split((0, 5))


def test_what_does_not_fit_the_data_is_refused():
    with pytest.raises(UnsupportedDataError, match="value 2, but there are names for 1 only: x"):
        resolve_settings(replace(SETTINGS, labels=Labels(("x",))), CUBES, {0, 1, 2}, {})
    with pytest.raises(UnsupportedDataError, match="nothing to learn"):
        resolve_settings(SETTINGS, CUBES, {0}, {})
    with pytest.raises(UnsupportedDataError, match="1 of 4 images have no spacing"):
        resolve_settings(replace(SETTINGS, slicing=Slicing("thickest")), [*THICK, CUBES[0]], {1}, {})


def test_a_step_that_does_not_fit_is_refused_before_it_is_taken(monkeypatch):
    huge = replace(TASK, sizes=(ItemSize(64, 16, 2048, 2048), ItemSize(1, 1, 8, 8)))
    settings = replace(SETTINGS, cnn=StageSettings(sequences=64))
    run = TrainingRun(
        job(replace(huge, settings=settings)), replace(huge, settings=settings).stages(2), settings, None, {}, {}
    )
    with pytest.raises(DeviceError, match=r"stage CNN needs about .* GiB, .* set sequences = \d+ in \[cnn\]"):
        require_memory(run, Processes(CPU))
    monkeypatch.setattr("crnn_cli.training.session.free_bytes", lambda device: 10_000_000)
    with pytest.raises(DeviceError, match=r"sequences = 1, rows = \d+, columns = \d+ in \[cnn\]"):
        require_memory(run, Processes(CPU))
    monkeypatch.setattr("crnn_cli.training.session.free_bytes", lambda device: None)
    require_memory(run, Processes(CPU))


def test_the_estimate_is_near_what_is_kept():
    """Two products and two exponentials of 4 MB are kept, however many operations read them, and x once."""
    weight = torch.ones(1000, requires_grad=True)
    x = torch.rand(1000, 1000)

    def forward():
        return ((x * weight).exp() * (x * weight).exp()).sum()

    assert step_bytes(forward, 2.0) == pytest.approx(1.5 * 2 * 3 * 4e6, rel=0.01)

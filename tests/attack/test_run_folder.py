"""A damaged run folder is resumed to the same weights, or refused: no traceback, and never other weights."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from crnn_cli.bundles.checkpoint_file import digest_of_state, load_checkpoint
from crnn_cli.errors import CrnnError, DeviceError, OutputExistsError, UnreadableError, UsageError
from crnn_cli.notices import recording
from crnn_cli.training.job import Stage
from crnn_cli.training.loop import TrainingLoop, _Numbers
from crnn_cli.training.processes import Processes
from crnn_cli.training.run import BEFORE, CHECKPOINT, RunFolder
from crnn_cli.training.session import TrainingRequest, TrainingRun, require_memory, require_startable
from tests.training.test_loop import CPU, PLAN, Job, KilledError, trained

PLAN_OF_STEPS = replace(PLAN, save_seconds=0.0)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that was killed before its seventh step, with a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    loop = TrainingLoop(Job(), PLAN_OF_STEPS, RunFolder(folder), Processes(CPU), lambda report: None)

    def step(stage: object, items: object) -> object:
        if loop.done == 6:
            raise KilledError
        return TrainingLoop._train_step(loop, stage, items)  # type: ignore[arg-type]

    loop._train_step = step  # type: ignore[assignment, method-assign]
    with pytest.raises(KilledError):
        loop.run()
    return folder


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run that was not killed."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(whole_folder: Path) -> dict[str, Tensor]:
    """Weights of the run that was not killed."""
    weights: dict[str, Tensor] = trained(whole_folder, PLAN_OF_STEPS).averaged.state_dict()
    return weights


def damages(content: bytes, seed: int) -> Iterator[bytes]:
    """Contents that are cut, or have some bits or bytes changed, or are something else."""
    rng = np.random.default_rng(seed)
    yield from (b"", content[: len(content) // 2], content[:-1], b"[" * 100_000)
    for count in (1, 1, 8):
        changed = np.frombuffer(content, np.uint8).copy()
        at = rng.integers(0, len(changed), count)
        changed[at] ^= rng.integers(1, 256, count).astype(np.uint8)
        yield changed.tobytes()


@pytest.mark.parametrize("name", [CHECKPOINT, "log.jsonl", "weights.safetensors", "best.json", "best.safetensors"])
def test_a_damaged_file_is_made_up_for_or_refused(
    name: str, killed: Path, whole: dict[str, Tensor], whole_folder: Path, tmp_path: Path
) -> None:
    outcomes, best = set(), RunFolder(whole_folder).best()[0]
    for number, content in enumerate(damages((killed / name).read_bytes(), len(name))):
        folder = tmp_path / str(number)
        shutil.copytree(killed, folder)
        (folder / name).write_bytes(content)
        try:
            loop = trained(folder)
            again_best = RunFolder(folder).best()[0]
        except CrnnError as error:
            assert error.exit_code in (2, 3), error  # noqa: PT017
            outcomes.add("refused")
            continue
        again = loop.averaged.state_dict()
        assert all(torch.equal(whole[key], again[key]) for key in whole)
        assert all(torch.equal(best[key], again_best[key]) for key in best)
        outcomes.add("same")
    assert outcomes == {"same"} or name.startswith("best")


def test_the_checkpoint_before_is_used_and_a_doubt_says_so(
    killed: Path, whole: dict[str, Tensor], tmp_path: Path
) -> None:
    shutil.copytree(killed, tmp_path / "run")
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"PK")
    with recording() as record:
        again = trained(tmp_path / "run", PLAN_OF_STEPS).averaged.state_dict()
    assert [remark.code for remark in record.remarks] == ["checkpoint-damaged"]
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_without_a_whole_checkpoint_the_run_is_refused(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed, tmp_path / "run")
    for name in (CHECKPOINT, BEFORE):
        (tmp_path / "run" / name).write_bytes((tmp_path / "run" / name).read_bytes()[:-100])
    with pytest.raises(UnreadableError, match="checkpoint"):
        trained(tmp_path / "run", PLAN_OF_STEPS)


def test_a_bit_that_was_flipped_in_the_weights_is_found(killed: Path, tmp_path: Path) -> None:
    """As no library looks for it: the file is read, and its values are others."""
    state = torch.load(killed / CHECKPOINT, weights_only=True)
    state["network"]["0.weight"].view(torch.int32)[0, 0] ^= 1 << 20
    torch.save(state, tmp_path / CHECKPOINT)
    with pytest.raises(UnreadableError, match="sha256"):
        RunFolder(tmp_path).state()


def test_a_checkpoint_of_an_earlier_version_is_read(killed: Path, tmp_path: Path) -> None:
    state = RunFolder(killed).state()
    torch.save(state, tmp_path / CHECKPOINT)
    again = RunFolder(tmp_path).state()
    assert digest_of_state(again) == digest_of_state(state)


@pytest.mark.parametrize("key", ["network", "averaged", "optimiser", "stage", "step", "fingerprint", "seconds", "best"])
@pytest.mark.parametrize("value", [None, -1, "x", {}, [], 10**400, True])
def test_a_state_that_is_none_is_refused(key: str, value: object, killed: Path, tmp_path: Path) -> None:
    state = RunFolder(killed).state()
    assert state is not None
    if type(value) is type(state[key]) and value != -1:
        value = None
    torch.save(state | {key: value}, tmp_path / CHECKPOINT)
    if key in ("seconds", "best") and isinstance(value, int) and not isinstance(value, bool):
        return
    with pytest.raises((UnreadableError, UsageError)):
        TrainingLoop(Job(), PLAN_OF_STEPS, RunFolder(tmp_path), Processes(CPU), lambda report: None)


def test_a_tensor_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(2**20, 2**20)}, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match="would be"):
        load_checkpoint(tmp_path / "a.pth")


DESCRIBED = {
    "command": [], "versions": {}, "device": "cpu", "precision": "fp32", "seed": 0, "threads": 1, "licence": "",
    "data": {}, "stages": [{"name": "a", "steps": 1, "batch": 1, "learning_rate": 0.1}], "settings": {},
    "settings_toml": "", "bundle": {},
}  # fmt: skip


@pytest.mark.parametrize("key", DESCRIBED)
@pytest.mark.parametrize("value", [None, [{}], 10**400, -1, True, [{"name": "a", "steps": 1}], {"a": 1}])
def test_a_description_that_is_none_is_refused(key: str, value: object, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.describe(DESCRIBED)
    assert folder.earlier() == DESCRIBED
    if type(value) is type(DESCRIBED[key]) and key != "stages" and key != "threads":
        return
    (tmp_path / "run.json").write_text(json.dumps(DESCRIBED | {key: value}))
    with pytest.raises(UnreadableError, match=r"run\.json"):
        folder.earlier()


def test_a_finished_run_names_the_way_to_train_longer(tmp_path: Path) -> None:
    request = TrainingRequest(tmp_path / "model", CPU, resume=True)
    RunFolder(request.folder).describe(DESCRIBED)
    require_startable(request)
    request.out.mkdir()
    with pytest.raises(OutputExistsError, match="init_from"):
        require_startable(request)


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.pt"])
def test_rights_of_weights_follow_the_umask(name: str, killed: Path) -> None:
    (killed.parent / "file").touch()
    assert (killed / name).stat().st_mode == (killed.parent / "file").stat().st_mode


def test_items_of_all_processes_are_those_of_one() -> None:
    """Numbered without a list of them: a billion steps take no memory."""
    steps, batch = range(3, 7), 6
    one = list(_Numbers(steps, batch, 0, batch))
    several = [list(_Numbers(steps, batch, rank * 2, 2)) for rank in range(3)]
    assert one == list(range(18, 42))
    assert sorted(number for numbers in several for number in numbers) == one
    endless = iter(_Numbers(range(10**15), 2, 0, 2))
    assert [next(endless) for _ in range(3)] == [0, 1, 2]


def test_a_batch_of_any_size_is_measured_without_making_it(tmp_path: Path) -> None:
    """Memory is measured of some items, and is in proportion to the number."""

    class Counting(Job):
        def miniature(self, stage: int, count: int) -> tuple[list[object], float]:
            assert count <= 64
            return [self.item(stage, number) for number in range(count)], 2.0**20

        def memory_multipliers(self, stage: int, network: object) -> Iterator[float]:
            yield 1.0

        def suggest_smaller(self, stage: int, share: float) -> str:
            return f"share {share:.1e}"

    def needed(batch: int) -> float:
        stages = (Stage("a", 1, batch, 0.1),)
        run = TrainingRun(Counting(), stages, None, PLAN.optimiser, {}, {})
        with pytest.raises(DeviceError) as raised:
            require_memory(run, Processes(CPU))
        return float(re.search(r"needs about ([\d.]+) GiB", str(raised.value))[1])  # type: ignore[index]

    assert needed(10**8) == pytest.approx(1000 * needed(10**5), rel=0.01)

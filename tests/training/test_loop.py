"""The training loop: a killed run goes on bit for bit, several processes train as one, bad losses stop it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from crnn_cli.errors import CrnnError, OutputError, UsageError
from crnn_cli.io.atomic_write import Output
from crnn_cli.networks.optim import update_ema
from crnn_cli.training import session
from crnn_cli.training.job import OptimiserSettings, Stage, TrainingPlan
from crnn_cli.training.loop import TrainingLoop, backward_pass, learning_rate_factor
from crnn_cli.training.processes import Processes
from crnn_cli.training.run import RunFolder
from crnn_cli.training.session import scale_stages_to_budget
from tests.support.processes import run_two_processes

CPU = torch.device("cpu")
STAGES = (Stage("first", 5, 4, 0.05), Stage("second", 4, 2, 0.02))
PLAN = TrainingPlan(
    STAGES, OptimiserSettings(clip=1.0, average=0.9), seed=3, validations=3, log_every=2, fingerprint={"data": "a"}
)


class Job:
    """Learns y = x W from random items; the second stage has a second layer."""

    def __init__(self, bad=()):
        self.bad, self.validated = bad, []

    def network(self, stage, before):
        layers = [nn.Linear(3, 2, bias=False), nn.Linear(2, 2)][: stage + 1]
        network = nn.Sequential(*layers)
        if before is not None:
            network.load_state_dict(before.state_dict(), strict=False)
        return network

    def item(self, stage, number):
        generator = torch.Generator().manual_seed(1000 * stage + number)
        x = torch.randn(3, generator=generator)
        y = torch.stack([x.sum(), x[0] - x[1]])
        return x, y * math.nan if number in self.bad else y

    def describe(self, stage, number):
        return f"case {number}"

    def losses(self, stage, network, items, device):
        for x, y in items:
            yield (network(x.to(device)) - y.to(device)).square().mean() / len(items)

    def set_mode(self, stage, network):
        network.train()

    def validate(self, network, device):
        with torch.no_grad():
            error = float((network(torch.eye(3)) - torch.tensor([[1.0, 1], [1, -1], [1, 0]])).square().mean())
        self.validated.append(error)
        return {"score": -error}

    def pictures(self, network, device, folder):
        return [Output(folder / "held-out.png", b"a picture")]


class KilledError(Exception):
    """The process was killed."""


def trained(folder, plan=PLAN, job=None, killed_at=(), told=None):
    """Train to the end; each of ``killed_at`` kills the run before that step, and a new one goes on."""
    told = [] if told is None else told
    for stop in (*killed_at, None):
        loop = TrainingLoop(job or Job(), plan, RunFolder(folder), Processes(CPU), told.append)
        if stop is None:
            loop.run()
            return loop

        def step(stage, items, loop=loop, stop=stop):
            if loop.done == stop:
                raise KilledError
            return TrainingLoop._train_step(loop, stage, items)

        loop._train_step = step
        with pytest.raises(KilledError):
            loop.run()
    return None


def same(a, b):
    assert sorted(a) == sorted(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("killed_at", [(1,), (4,), (5,), (6, 8), (2, 3, 7)])
@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, killed_at, save_seconds):
    """With a checkpoint at every step, or at validations only, so that steps are done again."""
    plan = replace(PLAN, save_seconds=save_seconds)
    whole, again = trained(tmp_path / "a", plan), trained(tmp_path / "b", plan, killed_at=killed_at)
    same(whole.network.state_dict(), again.network.state_dict())
    same(whole.averaged.state_dict(), again.averaged.state_dict())
    steps = [[line["step"] for line in RunFolder(tmp_path / name).log_lines() if "loss" in line] for name in "ab"]
    assert steps[1] == sorted(set(steps[1]))
    assert steps[0][-1] == steps[1][-1] == 9
    same(RunFolder(tmp_path / "a").best()[0], RunFolder(tmp_path / "b").best()[0])


class WideJob(Job):
    """The same through eight hidden values, whose weights are a matrix for Muon."""

    def network(self, stage, before):
        network = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
        if before is not None:
            network.load_state_dict(before.state_dict())
        return network


def test_muon_goes_on_bit_for_bit_and_follows_the_schedule(tmp_path):
    plan = replace(PLAN, optimiser=replace(PLAN.optimiser, muon=0.1), save_seconds=0.0)
    whole = trained(tmp_path / "a", plan, WideJob())
    same(whole.network.state_dict(), trained(tmp_path / "b", plan, WideJob(), killed_at=(2, 6)).network.state_dict())
    by_adam = trained(tmp_path / "c", replace(plan, optimiser=PLAN.optimiser), WideJob()).network.state_dict()
    assert not torch.equal(whole.network.state_dict()["0.weight"], by_adam["0.weight"])
    last = learning_rate_factor(3 / 4, plan.optimiser.warm_up)
    rates = [group["lr"] for group in whole.optimiser.param_groups]
    at_peak = (0.1 * STAGES[1].learning_rate / plan.optimiser.learning_rate, STAGES[1].learning_rate)
    assert rates == pytest.approx([peak * last for peak in at_peak])


def test_a_finished_run_stays_as_it_is(tmp_path):
    whole = trained(tmp_path)
    before = {name: value.clone() for name, value in whole.averaged.state_dict().items()}
    same(trained(tmp_path).averaged.state_dict(), before)


def test_workers_change_nothing(tmp_path):
    same(
        trained(tmp_path / "a").network.state_dict(),
        trained(tmp_path / "b", replace(PLAN, workers=2)).network.state_dict(),
    )


def test_half_precision_is_near_single(tmp_path):
    single = trained(tmp_path / "a").network.state_dict()
    half = trained(tmp_path / "b", replace(PLAN, precision="bf16")).network.state_dict()
    for name, value in single.items():
        assert not torch.equal(half[name], value)
        torch.testing.assert_close(half[name], value, rtol=0.1, atol=0.05)


def test_seeds_differ_and_weights_move(tmp_path):
    one, two = trained(tmp_path / "a"), trained(tmp_path / "b", replace(PLAN, seed=4))
    assert not torch.equal(one.network[0].weight, two.network[0].weight)
    torch.manual_seed(PLAN.seed)
    assert not torch.equal(one.network[0].weight, nn.Linear(3, 2, bias=False).weight)


def test_it_learns(tmp_path):
    plan = replace(PLAN, stages=(Stage("only", 300, 4, 0.05),))
    job = Job()
    trained(tmp_path, plan, job)
    torch.manual_seed(PLAN.seed)
    assert job.validated[-1] < 1e-3 < 0.1 < -job.validate(job.network(0, None), CPU)["score"]


def test_gradients_are_clipped(tmp_path):
    loop = TrainingLoop(
        Job(), replace(PLAN, optimiser=OptimiserSettings(clip=1e-3)), RunFolder(tmp_path), Processes(CPU), print
    )
    loop._train_step(STAGES[0], [loop.job.item(0, k) for k in range(4)])
    assert float(loop.network[0].weight.grad.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_a_run_hands_its_averaged_network_on(tmp_path):
    handed = []

    class Watched(Job):
        def network(self, stage, before):
            handed.append(None if before is None else before[0].weight.clone())
            return super().network(stage, before)

    loop = TrainingLoop(Watched(), PLAN, RunFolder(tmp_path), Processes(CPU), lambda report: None)
    run_stage, ended = loop._run_stage, []

    def stage(which):
        run_stage(which)
        ended.append(loop.averaged[0].weight.clone())

    loop._run_stage = stage
    loop.run()
    assert torch.equal(handed[-1], ended[0])


def test_the_next_stage_goes_on_from_the_averaged_weights(tmp_path):
    loop = TrainingLoop(Job(), PLAN, RunFolder(tmp_path), Processes(CPU), lambda report: None)
    loop._run_stage(STAGES[0])
    before = loop.averaged[0].weight.clone()
    loop._start_stage(1, loop.averaged)
    for network in (loop.network, loop.averaged):
        assert torch.equal(network[0].weight, before)
    same(loop.network.state_dict(), loop.averaged.state_dict())


def test_the_best_of_the_last_stage_is_kept(tmp_path):
    scores = iter([0.9, 0.1, 0.5, 0.3])

    class Scored(Job):
        def validate(self, network, device):
            return {"score": next(scores)}

    trained(tmp_path, replace(PLAN, validations=9, stages=(Stage("a", 1, 2, 0.1), Stage("b", 3, 2, 0.1))), Scored())
    weights, figures = RunFolder(tmp_path).best()
    assert figures == {"step": 3, "score": 0.5}
    last = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["averaged"]
    assert not torch.equal(weights["0.weight"], last["0.weight"])


def test_without_validation_the_last_weights_are_published(tmp_path):
    class Unseen(Job):
        def validate(self, network, device):
            return {}

    loop = trained(tmp_path, job=Unseen())
    weights, figures = RunFolder(tmp_path).best()
    assert figures == {}
    same(weights, loop.averaged.state_dict())


def test_reports_tell_where_it_stands(tmp_path):
    told = []
    trained(tmp_path, told=told)
    losses = [report for report in told if report.validation is None]
    assert [report.step for report in losses] == [2, 4, 5, 7, 9]
    assert {report.steps for report in told} == {9}
    assert losses[-1].seconds_left == 0
    assert losses[0].seconds_left > 0
    assert all(report.items_per_second > 0 and math.isfinite(report.loss) for report in losses)
    validated = [report.step for report in told if report.validation]
    assert validated == [3, 5, 6, 9]  # thirds of the run, and the end of each stage


def test_a_loss_that_is_not_finite_stops_it_and_keeps_the_last_good_weights(tmp_path):
    with pytest.raises(CrnnError, match=r"step 3 of stage first, items made from case 12, case 13, case 14, case 15"):
        trained(tmp_path / "bad", job=Job(bad=(13,)))
    state = torch.load(tmp_path / "bad" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    fine = TrainingLoop(Job(), PLAN, RunFolder(tmp_path / "fine"), Processes(CPU), lambda report: None)

    def step(stage, items):
        if fine.done == 3:
            raise KilledError
        return TrainingLoop._train_step(fine, stage, items)

    fine._train_step = step
    with pytest.raises(KilledError):
        fine.run()
    same(state["network"], fine.network.state_dict())


def test_running_statistics_that_took_in_what_is_not_finite_are_not_saved(tmp_path):
    class Normalised(Job):
        def network(self, stage, before):
            return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))

        def item(self, stage, number):
            x, y = super().item(stage, number)
            return (x * math.nan if number in self.bad else x), y

        def losses(self, stage, network, items, device):
            x, y = (torch.stack(parts) for parts in zip(*items, strict=True))
            yield (network(x) - y).square().mean()

        def validate(self, network, device):
            return {"score": 0.0}

    with pytest.raises(CrnnError, match="step 4 of stage first"):
        trained(tmp_path, job=Normalised(bad=(17,)))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3  # that of the validation before
    assert all(value.isfinite().all() for value in state["network"].values())


def test_steps_with_gradients_that_are_not_finite_are_left_out(tmp_path):
    class Steep(Job):
        def losses(self, stage, network, items, device):
            for loss in super().losses(stage, network, items, device):
                yield loss + (network[0].weight * 0).sum().sqrt()  # 0, its gradient infinite times 0

    loop = TrainingLoop(Steep(), PLAN, RunFolder(tmp_path), Processes(CPU), lambda report: None)
    before = loop.network[0].weight.clone()
    loss, finite = loop._train_step(STAGES[0], [loop.job.item(0, k) for k in range(4)])
    assert math.isfinite(loss)
    assert not finite
    assert torch.equal(loop.network[0].weight, before)
    long = replace(PLAN, stages=(Stage("long", 50, 2, 0.1),))
    with pytest.raises(CrnnError, match="step 19 of stage long"):
        trained(tmp_path, long, Steep())


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(UsageError, match="data differ"):
        trained(tmp_path, replace(PLAN, fingerprint={"data": "b"}))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.save({"step": 1}, {"w": torch.zeros(1)})

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crnn_cli.training.run.torch.save", full)
    with pytest.raises(OutputError, match="No space left on device; what was saved before is still there"):
        folder.save({"step": 2}, {"w": torch.zeros(1)})
    assert folder.state() == {"step": 1}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_picture_that_does_not_fit_on_the_disk_ends_no_run(tmp_path, monkeypatch, caplog):
    whole = trained(tmp_path / "whole").averaged.state_dict()

    def full(outputs):
        raise OutputError(f"cannot write {outputs[0].target}: the disk is full")

    monkeypatch.setattr("crnn_cli.training.loop.write_together", full)
    loop = trained(tmp_path / "full")
    assert loop.done == loop.total
    assert all(torch.equal(value, whole[name]) for name, value in loop.averaged.state_dict().items())
    assert "held-out.png: the disk is full: the training goes on" in caplog.text


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"cannot write to .*; what was saved before is still there"):
        folder.log({"step": 1})


def test_a_run_folder_leaves_nothing_half_written(tmp_path):
    folder = RunFolder(tmp_path / "a" / "b")
    assert folder.state() is None
    assert folder.description() is None
    folder.describe({"seed": 0})
    for k in range(2):
        folder.log({"step": k})
        folder.save({"step": k}, {"w": torch.arange(6.0).view(2, 3).t()})
    assert sorted(f.name for f in folder.folder.iterdir()) == [
        "checkpoint.before.pt", "checkpoint.pt", "log.jsonl", "run.json", "weights.safetensors",
    ]  # fmt: skip
    assert folder.state() == {"step": 1}
    assert folder.log_lines() == [{"step": 0}, {"step": 1}]
    with (folder.folder / "log.jsonl").open("a") as log:
        log.write('{"step": 2, "los')
    assert folder.log_lines() == [{"step": 0}, {"step": 1}]
    folder.drop_log_after(0)
    assert folder.log_lines() == [{"step": 0}]
    assert folder.description() == {"seed": 0}


def test_the_average_follows():
    """Early it takes most of the new, later little of it; whole numbers are copied."""
    averaged, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        averaged.weight.fill_(1)
        network.weight.fill_(3)
        network.running_mean.fill_(10)
        network.num_batches_tracked.fill_(7)
    update_ema(averaged, network, 0, 0.995)
    assert averaged.weight.tolist() == pytest.approx([0.1 * 1 + 0.9 * 3] * 2)
    assert averaged.running_mean.tolist() == pytest.approx([9] * 2)
    assert int(averaged.num_batches_tracked) == 7
    with torch.no_grad():
        averaged.weight.fill_(1)
    update_ema(averaged, network, 10_000, 0.995)
    assert averaged.weight.tolist() == pytest.approx([1 + 0.005 * 2] * 2)
    assert network.weight.tolist() == [3, 3]


def test_learning_rate_warms_up_and_cools_down():
    factors = [learning_rate_factor(share) for share in np.linspace(0, 1, 101)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors[-1] == pytest.approx(0.01)
    assert np.argmax(factors) <= 3


TWO = """
import sys, torch
from pathlib import Path
from crnn_cli.training.loop import TrainingLoop, backward_pass
from crnn_cli.training.processes import Processes
from crnn_cli.training.run import RunFolder
from tests.training.test_loop import CPU, PLAN, Job
torch.set_num_threads(1)
processes = Processes(CPU)
loop = TrainingLoop(Job(), PLAN, RunFolder(Path(sys.argv[1])), processes, lambda report: None)
items = [loop.job.item(0, 2 * processes.rank + k) for k in range(2)]
loss = processes.average(loop.network, backward_pass(loop.job, 0, loop.network, items, CPU, "fp32"))
first = {"loss": torch.tensor(loss), "gradient": loop.network[0].weight.grad.clone()}
torch.save(first, Path(sys.argv[1]) / f"first{processes.rank}.pt")
loop.run()
torch.save(loop.network.state_dict(), Path(sys.argv[1]) / f"rank{processes.rank}.pt")
processes.wait()
processes.close()
"""


def test_two_processes_train_as_one(tmp_path):
    """With half the batch each: the same loss, gradients and weights, in both, and one log."""
    whole = trained(tmp_path / "one")
    (tmp_path / "two").mkdir()
    run_two_processes(TWO, tmp_path / "two")
    ranks = [torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    same(*ranks)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(ranks[0][name], value, rtol=1e-5, atol=1e-6)
    alone = TrainingLoop(Job(), PLAN, RunFolder(tmp_path / "alone"), Processes(CPU), lambda report: None)
    loss = backward_pass(alone.job, 0, alone.network, [alone.job.item(0, k) for k in range(4)], CPU, "fp32")
    for rank in range(2):
        first = torch.load(tmp_path / "two" / f"first{rank}.pt", weights_only=True)
        torch.testing.assert_close(first["gradient"], alone.network[0].weight.grad, rtol=1e-5, atol=1e-6)
        assert float(first["loss"]) == pytest.approx(loss, rel=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 5, 7, 9]


def test_a_time_budget_scales_all_stages_alike():
    """100 steps of 0.1 s and 50 of 0.4 s take 30 s: twice as many fit into 60 s, and one is the least."""
    stages = (Stage("a", 100, 4, 0.1), Stage("b", 50, 4, 0.1))
    assert [s.steps for s in scale_stages_to_budget(stages, [0.1, 0.4], 60.0, Processes(CPU))] == [200, 100]
    assert [s.steps for s in scale_stages_to_budget(stages, [0.1, 0.4], 0.001, Processes(CPU))] == [1, 1]


@pytest.mark.parametrize(("workers", "wanted"), [(0, 4 * 3.0 + 2.0), (4, 3.0), (60, 2.0)])
def test_the_time_of_a_step_knows_that_workers_draw_beside_it(workers, wanted, monkeypatch, tmp_path):
    """An item takes 3 s to draw, a step of four 2 s: one after the other, or as long as the slower of both."""
    now = 0.0

    class Slow(Job):
        def item(self, stage, number):
            nonlocal now
            now += 3.0
            return super().item(stage, number)

    def back(*arguments):
        nonlocal now
        now += 2.0

    monkeypatch.setattr(session.time, "monotonic", lambda: now)
    monkeypatch.setattr(session, "backward_pass", back)
    request = session.TrainingRequest(tmp_path, CPU, workers=workers)
    assert session.seconds_of_steps(Slow(), STAGES[:1], request, Processes(CPU)) == [pytest.approx(wanted)]


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    processes = Processes(CPU)
    processes.count = 3
    assert processes.share(6) == 2
    with pytest.raises(UsageError, match="a batch of 4 cannot be divided among 3"):
        processes.share(4)

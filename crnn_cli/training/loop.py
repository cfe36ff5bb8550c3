"""The training loop of all tasks: safe to interrupt, on one core or several GPUs.

Step s of a stage takes the items s G ... (s + 1) G - 1, G items in all processes together, and every item follows from
(seed, stage, number). So a run that was killed continues from its last checkpoint to the same weights, bit for bit on a
CPU, whatever the number of workers; and W processes with batches of G / W have the gradients of one with G.

    network   AdamW; clipped norm of the gradients; warm-up, then cosine to 1 % of the peak learning rate
    averaged  running average of the weights: it is validated and published
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from crnn_cli import notices
from crnn_cli.errors import CrnnError, OutputError, Param, UnreadableError, UsageError
from crnn_cli.io.atomic_write import write_together
from crnn_cli.networks.optim import Muon, update_ema
from crnn_cli.training.job import Stage, TrainingJob, TrainingPlan, TrainingReport
from crnn_cli.training.processes import Processes
from crnn_cli.training.run import RunFolder, require_state

_MOMENTUM = 0.95  # of Muon
_BAD_STEPS = 20  # in a row with gradients that are not finite; they are skipped, then the run stops


class TrainingLoop:
    """Network, optimiser, running average of the weights, and progress.

    Parameters
    ----------
    job : what is trained.
    plan : how.
    folder : of the run; if it holds a checkpoint, the loop continues from it.
    processes : that train together.
    tell : called with a `TrainingReport` every ``log_every`` steps and after validations.

    Attributes
    ----------
    network, averaged : the network, and the running average of its weights.
    stage, step : number of the stage, and steps done in it.
    best : score of the best validation of the last stage.

    Raises
    ------
    UsageError
        If the checkpoint is of another data set or settings.
    UnreadableError
        If no checkpoint is whole, or it does not fit the network.
    """

    def __init__(
        self,
        job: TrainingJob,
        plan: TrainingPlan,
        folder: RunFolder,
        processes: Processes,
        tell: Callable[[TrainingReport], None],
    ) -> None:
        self.job, self.plan, self.folder, self.processes, self.tell = job, plan, folder, processes, tell
        self.stage, self.step, self.seconds, self.best = 0, 0, 0.0, -math.inf
        state = folder.state()
        if state is not None:
            require_state(state, len(plan.stages), folder.folder)
            _require_same(state["fingerprint"], plan.fingerprint)
        self._start_stage(state["stage"] if state else 0, None)
        if state is not None:
            self._resume(state)
        if processes.first:
            folder.drop_log_after(self.done)

    def run(self) -> None:
        """Train all stages to their end.

        Raises
        ------
        CrnnError
            If the loss is no longer finite. The last good state is saved, and the message names the items.
        """
        while True:
            self._run_stage(self.plan.stages[self.stage])
            if self.stage + 1 == len(self.plan.stages):
                break
            self._start_stage(self.stage + 1, self.averaged)
        self._save()

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.plan.stages)

    @property
    def done(self) -> int:
        """Steps done, of all stages."""
        return self.step + sum(stage.steps for stage in self.plan.stages[: self.stage])

    def _start_stage(self, stage: int, before: nn.Module | None) -> None:
        torch.manual_seed(self.plan.seed + stage)
        self.stage, self.step = stage, 0
        device = self.processes.device
        self.network = self.processes.synchronise_batch_norm(self.job.network(stage, before).to(device))
        self.job.set_mode(stage, self.network)
        self.averaged = self.job.network(stage, before).to(device)
        self.averaged.load_state_dict(self.network.state_dict())
        how, rate = self.plan.optimiser, self.plan.stages[stage].learning_rate
        self.optimiser: Muon | torch.optim.AdamW
        if how.muon:
            self.optimiser = Muon(self.network.parameters(), how.muon * rate / how.learning_rate, _MOMENTUM, rate)
        else:
            self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=how.weight_decay)
        self._rates = [float(group["lr"]) for group in self.optimiser.param_groups]

    def _run_stage(self, stage: Stage) -> None:
        recent: list[float] = []
        bad, began, saved = 0, time.monotonic(), time.monotonic()
        for items in self._batches(stage):
            loss, finite = self._train_step(stage, items)
            bad = 0 if finite else bad + 1
            if not math.isfinite(loss) or bad >= _BAD_STEPS:
                self._give_up(stage)
            self.step += 1
            recent.append(loss)
            self.seconds, began = self.seconds + time.monotonic() - began, time.monotonic()
            if self.step % self.plan.log_every == 0 or self.step == stage.steps:
                self._log(stage, recent)
                recent = []
            validated = self._validate_if_due(stage)
            if validated or time.monotonic() - saved > self.plan.save_seconds:
                self._save()
                saved = time.monotonic()
            if validated and self.processes.first:
                self._draw()
            began = time.monotonic()

    def _batches(self, stage: Stage) -> Iterator[list[Any]]:
        """Yield this process's items of every step that is left."""
        mine = self.processes.share(stage.batch)
        numbers = _Numbers(range(self.step, stage.steps), stage.batch, self.processes.rank * mine, mine)
        loader = DataLoader(
            _Numbered(self.job, self.stage), batch_size=mine, sampler=numbers, collate_fn=list,
            num_workers=self.plan.workers, prefetch_factor=4 if self.plan.workers else None,
        )  # fmt: skip
        return iter(loader)

    def _train_step(self, stage: Stage, items: list[Any]) -> tuple[float, bool]:
        """Loss, and whether the gradients were finite; if not, the weights stay as they are."""
        how, device = self.plan.optimiser, self.processes.device
        factor = learning_rate_factor(self.step / stage.steps, how.warm_up)
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self.optimiser.zero_grad()
        total = backward_pass(self.job, self.stage, self.network, items, device, self.plan.precision)
        total = self.processes.average(self.network, total)
        if not math.isfinite(total):
            return total, False
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), how.clip)
        finite = bool(torch.isfinite(norm))
        if finite:
            self.optimiser.step()
            update_ema(self.averaged, self.network, self.step, how.average)
        return total, finite

    def _give_up(self, stage: Stage) -> None:
        """Stop with the last good weights: the current ones, unless running statistics are no longer finite."""
        values = [v for v in self.network.state_dict().values() if v.is_floating_point()]
        if self.processes.first and all(bool(v.isfinite().all()) for v in values):
            self._save()
        first = self.step * stage.batch
        made = ", ".join(self.job.describe(self.stage, n) for n in range(first, first + stage.batch))
        raise CrnnError(
            f"the loss is no longer finite at step {self.step} of stage {stage.name}, items made from {made}; the last "
            f"good weights are in {self.folder.folder}",
            remedy=("lower learning_rate or clip, or use ", Param("precision", "fp32")),
        )

    def _validate_if_due(self, stage: Stage) -> bool:
        count = self.plan.validations
        due = count and self.done * count // self.total > (self.done - 1) * count // self.total
        if not due and not (count and self.step == stage.steps):
            return False
        if self.processes.first:
            found = self.job.validate(self.averaged, self.processes.device)
            if found:
                self._keep_best(found)
                self.folder.log({"step": self.done, "stage": stage.name, "validation": found})
                self.tell(self._report(stage, math.nan, found))
        self.processes.wait()
        return True

    def _draw(self) -> None:
        """Write the pictures of the held-out cases; a picture less is no reason to end a run."""
        pictures = self.job.pictures(self.averaged, self.processes.device, self.folder.folder)
        try:
            write_together(pictures)
        except OutputError as error:
            notices.warn("picture-not-written", f"{error}: the training goes on without it")

    def _keep_best(self, found: dict[str, Any]) -> None:
        """Keep the weights of the last stage if their score is the best so far."""
        if self.stage + 1 == len(self.plan.stages) and found["score"] >= self.best:
            self.best = found["score"]
            self.folder.save_best(self.averaged.state_dict(), {"step": self.done, **found})

    def _save(self) -> None:
        if self.processes.first:
            self.folder.save(self._state(), self.averaged.state_dict())

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(), "stage": self.stage, "step": self.step,
            "seconds": self.seconds, "best": self.best, "fingerprint": self.plan.fingerprint,
        }  # fmt: skip

    def _resume(self, state: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(state["network"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise UnreadableError(
                f"the checkpoint in {self.folder.folder} does not fit the network: {reason}"
            ) from None
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]

    def _log(self, stage: Stage, recent: Sequence[float]) -> None:
        report = self._report(stage, sum(recent) / len(recent), None)
        if self.processes.first:
            self.folder.log({
                "step": self.done, "stage": stage.name, "minutes": round(self.seconds / 60, 2),
                "loss": round(report.loss, 5), "items_per_second": round(report.items_per_second, 2),
            })  # fmt: skip
            self.tell(report)

    def _report(self, stage: Stage, loss: float, validation: dict[str, Any] | None) -> TrainingReport:
        done = max(1, self.done)
        items = sum(s.steps * s.batch for s in self.plan.stages[: self.stage]) + self.step * stage.batch
        left = self.seconds / done * (self.total - done)
        return TrainingReport(
            stage.name, self.done, self.total, loss, left, items / max(self.seconds, 1e-9), validation
        )


def backward_pass(
    job: TrainingJob, stage: int, network: nn.Module, items: list[Any], device: torch.device, precision: str
) -> float:
    """Add the gradients of items to those of the network's parameters.

    Parameters
    ----------
    job, stage, items : see `crnn_cli.training.job.TrainingJob.losses`.
    network, device : where the items go.
    precision : "fp32", or "bf16" for autocast.

    Returns
    -------
    The mean loss of the items.
    """
    total = 0.0
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for loss in job.losses(stage, network, items, device):
            loss.backward()
            total += float(loss.detach())
    return total


def learning_rate_factor(share: float, warm_up: float = 0.02) -> float:
    """Factor of the peak learning rate: linear warm-up, then a cosine down to 1 %.

    >>> [round(learning_rate_factor(share, warm_up=0.1), 3) for share in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.505, 0.01]

    Parameters
    ----------
    share : of the steps that is done.
    warm_up : share of the steps in which the rate rises.
    """
    if share < warm_up:
        return max(0.01, share / warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


class _Numbered(Dataset[Any]):
    """Items of a stage by their number."""

    def __init__(self, job: TrainingJob, stage: int) -> None:
        self.job, self.stage = job, stage

    def __getitem__(self, number: int) -> Any:
        return self.job.item(self.stage, number)


class _Numbers(Sampler[int]):
    """Numbers of the items of one process, step by step, without a list of them.

    Parameters
    ----------
    steps : to be done.
    batch : items of a step, of all processes together.
    first, count : of them, the first and the number of those that this process takes.
    """

    def __init__(self, steps: range, batch: int, first: int, count: int) -> None:
        self.steps, self.batch, self.first, self.count = steps, batch, first, count

    def __iter__(self) -> Iterator[int]:
        for step in self.steps:
            start = step * self.batch + self.first
            yield from range(start, start + self.count)

    def __len__(self) -> int:
        return len(self.steps) * self.count


def _require_same(of_checkpoint: dict[str, str], now: dict[str, str]) -> None:
    differ = [name for name in now if of_checkpoint.get(name) != now[name]]
    if differ:
        raise UsageError(
            f"the checkpoint belongs to another run: {', '.join(differ)} differ; give the same data and settings as "
            "then",
            remedy=("to change them, begin another run from its bundle with ", Param("init_from")),
        )

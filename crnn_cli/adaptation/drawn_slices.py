"""A network for drawn slices, tuned to the drawn slices of one scan.

1. In each step some drawn slices are hidden, and the network learns to find them again (`drawn_examples`).
2. Copies of the network learn at the same pace without one of the drawn slices each. Every `EVERY` steps each copy
   labels the slice that it has never seen; the mean Dice of these slices tells when to stop.
3. The network that learned from all drawn slices is used as it was after the best number of steps, and only if the
   copies got better by then.

With two drawn slices nothing can be left out, so nobody knows whether the tuning helped. Which structures the tuned
network is used for is decided one by one (`drawn_trials.better_tuned`).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from crnn_cli.adaptation.drawn_examples import draw_example
from crnn_cli.adaptation.drawn_trials import LEAST_GAIN, LeftOutSlice, Trial, leave_out
from crnn_cli.compute.device import has_native_bfloat16
from crnn_cli.networks.drawn_clstm import DrawnCLSTM
from crnn_cli.segmentation.drawn.stack import DrawnStack

EVERY = 10
"""Steps from one judgement to the next."""
MOST_COPIES = 4
"""Drawn slices that are left out, each by a copy, at most."""
_PATIENCE = 8  # judgements without a better one, after which it ends
_RATE, _DECAY, _LARGEST_NORM = 3e-4, 1e-4, 1.0  # of AdamW and of the gradients
Seed = Sequence[int]


@dataclass(frozen=True)
class TuneSettings:
    """Budget and settings of a tuning.

    Attributes
    ----------
    seconds, steps : the budget; one of both is None.
    seed : of the slices that are hidden, and of how they are varied.
    """

    seconds: float | None
    steps: int | None
    seed: int


@dataclass(frozen=True)
class TuneResult:
    """Outcome of a tuning.

    Attributes
    ----------
    network : to be used: tuned, or as it was.
    steps, best_step : steps done, and step whose weights are used.
    seconds : time taken.
    before, after : mean Dice of the drawn slices left out, of the weights before and of those after ``best_step``; None
        where none could be left out.
    left_out : how many slices were left out, in turn.
    used : whether the tuned weights are used.
    why : why it ended, or why they are not used, in words.
    interrupted : whether ``stop`` ended it.
    trials : the same by structure and slice.
    """

    network: DrawnCLSTM
    steps: int
    best_step: int
    seconds: float
    before: float | None
    after: float | None
    left_out: int
    used: bool
    why: str
    interrupted: bool
    trials: tuple[Trial, ...] = ()


class _Learner:
    """A copy of the network that learns from some of the drawn slices.

    Parameters
    ----------
    stacks : with the drawn slices that it learns from.
    left_out : the slice that it never sees; None where it sees all.
    seed : of its examples.
    """

    def __init__(
        self, network: DrawnCLSTM, stacks: Sequence[DrawnStack], left_out: LeftOutSlice | None,
        device: torch.device, seed: Seed,
    ) -> None:  # fmt: skip
        self.network = copy.deepcopy(network).to(device).eval()  # statistics of the normalisation stay as they were
        self.stacks, self.left_out, self._device = stacks, left_out, device
        self._optimizer = torch.optim.AdamW(self.network.parameters(), _RATE, weight_decay=_DECAY)
        self._generator = np.random.default_rng(seed)
        self._bfloat16 = has_native_bfloat16(device)

    def step(self) -> None:
        """Learn from one example."""
        example = draw_example(self.stacks, self._generator)
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            loss = example.loss(self.network, self._device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()  # frees the gradients

    def dice(self) -> dict[int, float]:
        """Dice of each structure in the slice left out, by its number; but of those neither there nor found."""
        assert self.left_out is not None
        found = {number: each.dice(self.network, self._device) for number, each in self.left_out.examples.items()}
        return {number: value for number, value in found.items() if value is not None}


def tune(
    network: DrawnCLSTM, stacks: Sequence[DrawnStack], settings: TuneSettings, device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None, stop: Callable[[], bool] = lambda: False,
) -> TuneResult:  # fmt: skip
    """Tune a network to the drawn slices of a scan; the network handed in is not changed.

    Parameters
    ----------
    stacks : each with two drawn slices or more, of which one holds a structure.
    progress : called with (steps done, steps in all); of a time, with seconds in place of steps.
    stop : says whether it is to end; the best weights so far are kept.

    Raises
    ------
    ValueError
        If no stack has two drawn slices.
    """
    if not stacks or any(int(stack.known_S.sum()) <= 1 for stack in stacks):
        raise ValueError("tuning needs stacks of two drawn slices or more")
    began = time.monotonic()
    whole = _Learner(network, stacks, None, device, (settings.seed, 0))
    copies = _copies(network, stacks, settings, device)
    found = untuned = _judged(copies)
    before = _mean_dice(untuned)
    best, best_step, best_weights = before, 0, copy.deepcopy(network.state_dict())
    steps, why, interrupted = 0, "the budget is used up", False
    while True:
        steps += 1
        for learner in (whole, *copies):
            learner.step()
        spent = time.monotonic() - began
        over = steps >= settings.steps if settings.steps is not None else spent >= (settings.seconds or 0)
        progress(*_progress(steps, spent, settings))
        interrupted = stop()
        if steps % EVERY == 0 or over or interrupted:
            judged = _judged(copies)
            now = _mean_dice(judged)
            if before is None or best is None or now is None or now > best:
                found, best, best_step, best_weights = judged, now, steps, copy.deepcopy(whole.network.state_dict())
            if before is not None and steps - best_step >= _PATIENCE * EVERY:
                why, over = f"no better for {_PATIENCE * EVERY} steps", True
        if over or interrupted:
            break
    result = TuneResult(
        network, steps, best_step, time.monotonic() - began, before, best, len(copies), True,
        "interrupted" if interrupted else why, interrupted, _trials(untuned, found),
    )  # fmt: skip
    if before is not None and best is not None and best < before + LEAST_GAIN:
        return replace(result, used=False, why="drawn slices that were left out are not labelled better")
    tuned = copy.deepcopy(network)
    tuned.load_state_dict(best_weights)
    return replace(result, network=tuned.eval())


def _progress(steps: int, spent: float, settings: TuneSettings) -> tuple[int, int]:
    """Steps done and steps in all; seconds where the budget is a time."""
    if settings.steps is not None:
        return steps, settings.steps
    total = max(1, round(settings.seconds or 0))
    return min(int(spent), total), total


def _judged(copies: Sequence[_Learner]) -> list[dict[int, float]]:
    """Dice of the slice that each copy has never seen, by structure."""
    return [learner.dice() for learner in copies]


def _mean_dice(judged: Sequence[dict[int, float]]) -> float | None:
    """Mean over the slices of the mean over their structures; None where no slice was left out."""
    return float(np.mean([np.mean([*each.values()]) if each else 0.0 for each in judged])) if judged else None


def _trials(before: Sequence[dict[int, float]], after: Sequence[dict[int, float]]) -> tuple[Trial, ...]:
    """What each copy made of each structure of the slice that it has never seen."""
    pairs = zip(before, after, strict=True)
    return tuple(Trial(k, was.get(k, 0.0), now.get(k, 0.0)) for was, now in pairs for k in sorted({*was, *now}))


def _copies(
    network: DrawnCLSTM, stacks: Sequence[DrawnStack], settings: TuneSettings, device: torch.device
) -> list[_Learner]:
    """A learner for each slice that is left out."""
    learners = []
    for turn, left_out in enumerate(leave_out(stacks, MOST_COPIES), start=1):
        others = [*stacks[: left_out.index], left_out.shown, *stacks[left_out.index + 1 :]]
        learners.append(_Learner(network, others, left_out, device, (settings.seed, turn)))
    return learners

"""Interface between the training loop and a task: jobs, stages, plans and reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from crnn_cli.io.atomic_write import Output
from crnn_cli.training.settings import setting


@dataclass(frozen=True)
class OptimiserSettings:
    """Settings of AdamW or Muon, their schedule, and the running average of the weights."""

    learning_rate: float = setting(1.5e-3, "peak; after the warm-up it falls as a cosine to 1 %")
    warm_up: float = setting(0.02, "share of the steps")
    weight_decay: float = setting(1e-3, "of AdamW")
    clip: float = setting(5.0, "largest norm of the gradients")
    muon: float = setting(
        0.0, "peak length of a step of Muon for convolutions (0.004), all else by Adam; 0: AdamW", added=True
    )
    average: float = setting(0.995, "decay of the running average of the weights, which is what is published")

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not self.clip > 0 or not self.weight_decay >= 0:
            raise ValueError("learning_rate and clip must be above 0, weight_decay 0 or more")
        if not 0 <= self.muon <= 1:
            raise ValueError("muon must be from 0 to 1")
        if not 0 <= self.warm_up < 1 or not 0 <= self.average < 1:
            raise ValueError("warm_up and average must be from 0 up to, but not including, 1")


@dataclass(frozen=True)
class Stage:
    """A part of training: a number of optimiser steps with batches of one size.

    Attributes
    ----------
    name : for messages and the card.
    steps : of the optimiser.
    batch : items in a step, of all processes together.
    learning_rate : the peak.
    """

    name: str
    steps: int
    batch: int
    learning_rate: float


class TrainingJob(Protocol):
    """A task that the training loop trains.

    Everything it returns depends on the arguments alone, so that a resumed run repeats what an uninterrupted one does.
    """

    def network(self, stage: int, before: nn.Module | None) -> nn.Module:
        """Build the network of a stage, on the CPU.

        Parameters
        ----------
        stage : its number.
        before : the averaged network of the stage before; None in the first stage and to measure memory.
        """
        ...

    def item(self, stage: int, number: int) -> Any:
        """Draw training item ``number`` of a stage; perhaps in a worker process."""
        ...

    def describe(self, stage: int, number: int) -> str:
        """Name the source of an item, for messages."""
        ...

    def losses(self, stage: int, network: nn.Module, items: list[Any], device: torch.device) -> Iterator[Tensor]:
        """Yield losses to call backward on, one by one; their sum is the mean over the items.

        Parameters
        ----------
        stage : its number.
        network, device : where the items go.
        items : of one step and process.
        """
        ...

    def set_mode(self, stage: int, network: nn.Module) -> None:
        """Put the network into the training mode of a stage."""
        ...

    def miniature(self, stage: int, count: int) -> tuple[list[Any], float]:
        """Make miniature items, to extrapolate the memory of a step.

        Parameters
        ----------
        stage : its number.
        count : of items.

        Returns
        -------
        The items, and the size ratio real / miniature.
        """
        ...

    def memory_multipliers(self, stage: int, network: nn.Module) -> Iterator[float]:
        """Yield memory multipliers, one per pass, after configuring the network for it.

        1 for a plain pass; more values for passes that activation checkpoints repeat.
        """
        ...

    def suggest_smaller(self, stage: int, share: float) -> str:
        """Name the setting with which a step takes less memory.

        Parameters
        ----------
        stage : its number.
        share : of the memory that it may take.

        Returns
        -------
        An imperative, such as "set sequences = 1 in [cnn]".
        """
        ...

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, Any]:
        """Compute figures of the averaged network on what is held out.

        Returns
        -------
        Figures by name, among them ``score``, higher is better; {} if nothing is held out.
        """
        ...

    def pictures(self, network: nn.Module, device: torch.device, folder: Path) -> list[Output]:
        """Draw results of the averaged network on held-out data.

        Parameters
        ----------
        network, device : the averaged network, and where it is.
        folder : that the pictures will be written into.
        """
        ...


@dataclass
class TrainingReport:
    """State of a run, for progress displays.

    Attributes
    ----------
    stage : its name.
    step, steps : done, and of all stages together.
    loss : mean since the last report; NaN in a report of validation.
    seconds_left : estimated.
    items_per_second : of all processes together.
    validation : figures of `TrainingJob.validate`, None in between.
    """

    stage: str
    step: int
    steps: int
    loss: float
    seconds_left: float
    items_per_second: float
    validation: dict[str, Any] | None = None


@dataclass(frozen=True)
class TrainingPlan:
    """How a job is trained.

    Attributes
    ----------
    stages, optimiser : in order; settings of all stages.
    seed : of initial weights.
    precision : "fp32", or "bf16" for autocast.
    workers : processes that draw items.
    validations : how many, evenly over the run.
    save_seconds : a checkpoint is written after each validation, and when this much time has passed.
    log_every : steps between reports.
    fingerprint : digests by name that must agree with those of a checkpoint for a run to be resumed.
    """

    stages: tuple[Stage, ...]
    optimiser: OptimiserSettings
    seed: int = 0
    precision: str = "fp32"
    workers: int = 0
    validations: int = 10
    save_seconds: float = 300.0
    log_every: int = 50
    fingerprint: dict[str, str] = field(default_factory=dict)

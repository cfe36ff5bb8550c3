"""What the training loop is told: what to train, in which stages, how; and what it tells."""

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
    """How weights are moved."""

    learning_rate: float = setting(1.5e-3, "peak; after the warm-up it falls as a cosine to 1 %")
    warm_up: float = setting(0.02, "share of the steps")
    weight_decay: float = setting(1e-3, "of AdamW")
    clip: float = setting(5.0, "largest norm of the gradients")
    average: float = setting(0.995, "decay of the running average of the weights, which is what is published")

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or not self.clip > 0 or not self.weight_decay >= 0:
            raise ValueError("learning_rate and clip must be above 0, weight_decay 0 or more")
        if not 0 <= self.warm_up < 1 or not 0 <= self.average < 1:
            raise ValueError("warm_up and average must be from 0 up to, but not including, 1")


@dataclass(frozen=True)
class Stage:
    """A stretch of training: ``steps`` of the optimiser with ``batch`` items each, of all processes together.

    learning_rate : the peak.
    """

    name: str
    steps: int
    batch: int
    learning_rate: float


class TrainingJob(Protocol):
    """What the loop trains. Everything it is asked for follows from its arguments alone."""

    def network(self, stage: int, before: nn.Module | None) -> nn.Module:
        """Return the network of a stage, on the CPU; ``before`` is the averaged one of the stage before."""
        ...

    def item(self, stage: int, number: int) -> Any:
        """Return training item ``number`` of a stage; it may run in a worker process."""
        ...

    def describe(self, stage: int, number: int) -> str:
        """Return what an item was made from, for messages."""
        ...

    def losses(self, stage: int, network: nn.Module, items: list[Any], device: torch.device) -> Iterator[Tensor]:
        """Yield losses to go back from one by one; their sum is the mean over the items."""
        ...

    def set_mode(self, stage: int, network: nn.Module) -> None:
        """Put the network into the training mode of a stage."""
        ...

    def small(self, stage: int, count: int) -> tuple[list[Any], float]:
        """Return items like ``count`` of a stage but smaller, and how many times more the real ones hold."""
        ...

    def passes(self, stage: int, network: nn.Module) -> Iterator[float]:
        """Yield how often the memory of a pass counts, having set the network for it: 1, then what checkpoints hide."""
        ...

    def smaller(self, stage: int, share: float) -> str:
        """Return which setting would make a step take ``share`` of the memory, in words."""
        ...

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, Any]:
        """Return figures of the averaged network, among them ``score``, higher is better; {} if nothing is held out."""
        ...

    def pictures(self, network: nn.Module, device: torch.device, folder: Path) -> list[Output]:
        """Return pictures of what the averaged network makes of something held out, to be written into a folder."""
        ...


@dataclass
class TrainingReport:
    """Where a run stands, for whoever watches: steps of all stages together."""

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

    precision : "fp32" or "bf16" (autocast). validations : how many, evenly over the run.
    save_seconds : checkpoints are written after validations and when this much time has passed.
    fingerprint : what must be the same for a checkpoint to be gone on from, by name.
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

"""Train a reconstruction network on random cine items, within a time budget, with checkpoints.

Run as ``python -m crnn_cli.training.reconstruction --out FOLDER --minutes 120 [--cine pig.nii.gz ...]``. It can be
stopped and started again at any time: it goes on from FOLDER/checkpoint.pt.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.training.cine import CineItem, CineItems, draw_item
from crnn_cli.training.run import RunFolder, follow

VALIDATION_SEED = 1_000_000_000
LOG_EVERY = 100


@dataclass(frozen=True)
class Schedule:
    """How training runs.

    minutes : time budget; the learning rate follows the share of it that is used up.
    steps : budget in steps instead, which makes a run repeatable; None to go by the minutes.
    bf16 : whether convolutions run in bfloat16, which is fast only on processors that have it.
    learning_rate : peak, after a warm-up over 2 % of the budget, then cosine to 1 % of it.
    stages : (share of the budget at which it ends, fewest and most iterations). Few iterations come first: a step
        costs in proportion, and the weights are shared.
    """

    minutes: float
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.999
    stages: tuple[tuple[float, int, int], ...] = ((0.25, 2, 2), (0.55, 3, 3), (1.0, 4, 5))
    seed: int = 0
    steps: int | None = None
    bf16: bool = True


class Trainer:
    """Network, optimiser, running average of the weights, and where they stand."""

    def __init__(self, config: CRNNMRIConfig, schedule: Schedule, items: CineItems, out: Path) -> None:
        torch.manual_seed(schedule.seed)
        self.schedule, self.items, self.folder = schedule, items, RunFolder(out)
        self.network = CRNNMRI(config)
        self.averaged = CRNNMRI(config)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.step, self.elapsed = 0, 0.0
        state = self.folder.state()
        if state is not None:
            self._resume(state)

    def run(self) -> None:
        """Train until the budget is used up."""
        losses: list[float] = []
        since_save = time.monotonic()
        while (share := self._share()) < 1:
            began = time.monotonic()
            losses.append(self._train_step(share))
            self.elapsed += time.monotonic() - began
            self.step += 1
            if self.step % LOG_EVERY == 0:
                self._log({"share": round(share, 4), "loss": float(np.mean(losses[-LOG_EVERY:]))})
            if time.monotonic() - since_save > 600:
                self.save()
                since_save = time.monotonic()
        self.save()

    def _share(self) -> float:
        """Return the share of the budget that is used up."""
        if self.schedule.steps is not None:
            return self.step / self.schedule.steps
        return self.elapsed / (60 * self.schedule.minutes)

    def _train_step(self, share: float) -> float:
        seed = self.schedule.seed * 100_000_000 + self.step
        item = draw_item(self.items, seed)
        fewest, most = next((low, high) for end, low, high in self.schedule.stages if share < end)
        iterations = fewest + self.step % (most - fewest + 1)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate * learning_rate_factor(share)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.schedule.bf16):
            loss = reconstruction_loss(self.network(item.start_BTYX, item.consistency, iterations), item.truth_BTYX)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
        follow(self.averaged, self.network, self.step, self.schedule.average)
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, atomically, and log the validation figures."""
        state: dict[str, Any] = {
            "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(), "step": self.step, "elapsed": self.elapsed,
        }  # fmt: skip
        self.folder.save(state, self.averaged.state_dict())
        self._log({"validation": validate(self.averaged)})

    def _resume(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def _log(self, figures: dict[str, Any]) -> None:
        self.folder.log({"step": self.step, "minutes": round(self.elapsed / 60, 2), **figures})


def reconstruction_loss(image_BTYX: Tensor, truth_BTYX: Tensor) -> Tensor:
    """Return log(mean |d| + root mean |d|^2) of the complex error d.

    The first term is robust, the second is what PSNR sees; the logarithm lets easy and hard items count alike, as
    they do in a mean of decibels.
    """
    squared = torch.view_as_real(image_BTYX - truth_BTYX).square().sum(-1)
    return torch.log((squared + 1e-8).sqrt().mean() + (squared.mean() + 1e-10).sqrt())


def learning_rate_factor(share: float) -> float:
    """Return the factor of the peak learning rate once ``share`` of the budget is used up."""
    if share < 0.02:
        return max(0.01, share / 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - 0.02) / 0.98))


def validate(network: CRNNMRI, items: int = 8) -> dict[str, float]:
    """Return the mean relative error, in dB, of start and reconstruction over simulated items never trained on."""
    errors: list[tuple[float, float]] = []
    with torch.no_grad():
        for index in range(items):
            item = draw_item(CineItems(cines=()), VALIDATION_SEED + index)
            image = network(item.start_BTYX, item.consistency)
            errors.append((relative_error_db(item.start_BTYX, item), relative_error_db(image, item)))
    start, reconstructed = np.mean(errors, axis=0)
    return {"start_db": round(float(start), 3), "reconstructed_db": round(float(reconstructed), 3)}


def relative_error_db(image_BTYX: Tensor, item: CineItem) -> float:
    """Return 20 log10(||x - truth|| / ||truth||)."""
    error = torch.linalg.vector_norm(image_BTYX - item.truth_BTYX) / torch.linalg.vector_norm(item.truth_BTYX)
    return 20 * math.log10(float(error))


def load_cines(files: list[Path]) -> list[Tensor]:
    """Return every slice of 4-D magnitude NIfTI files (x, y, z, t) as a cine (T, Y, X)."""
    cines: list[Tensor] = []
    for file in files:
        volume = np.asanyarray(nib.load(file).dataobj).astype(np.float32)  # type: ignore[attr-defined]
        cines += [torch.from_numpy(np.ascontiguousarray(volume[:, :, z].T)) for z in range(volume.shape[2])]
    return cines


def main() -> None:
    """Read the arguments, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--steps", type=int, help="budget in steps instead")
    parser.add_argument("--cine", type=Path, nargs="*", default=[], help="real 4-D magnitude cines to mix in")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    schedule = Schedule(minutes=arguments.minutes, seed=arguments.seed, steps=arguments.steps)
    config = CRNNMRIConfig()
    trainer = Trainer(config, schedule, CineItems(cines=load_cines(arguments.cine)), arguments.out)
    trainer.folder.describe({"network": asdict(config), "schedule": asdict(schedule)})
    trainer.run()


if __name__ == "__main__":
    main()

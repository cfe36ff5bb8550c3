"""A network tunes itself to the scan at hand, on the scan's own samples: no truth is needed.

Lines outside the centre are divided. A few, the same throughout, are for validation; of the others the network learns
to predict some from the rest (`self_supervision`). What is judged, and used in the end, is the running average of the
weights; and only if it predicts the lines for validation better.

References
----------
Yaman et al., MRM 84, 2020 (self-supervision by data undersampling); Yaman, Hosseini, Akcakaya, ICLR 2022 (of a single
scan, with lines for validation). Steps are those of `networks.muon`.

Legend: B batch of one, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor, nn

from crnn_cli.adaptation.losses import SelfSupervisedLosses
from crnn_cli.adaptation.patches import Patches, gather_patches
from crnn_cli.adaptation.pseudo_measurement import REHEARSED
from crnn_cli.adaptation.validation import Validation
from crnn_cli.compute.memory import free_bytes, kept_bytes
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.networks.optim import update_ema
from crnn_cli.networks.optim import Muon
from crnn_cli.reconstruction.measurement import SliceSource
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor

EVERY = 20
"""Steps from one validation to the next."""
WIDTH = 16
"""Columns of a patch: the readout is cut, the undersampled axis is whole."""
GENERALISE_ALPHA = 0.8
"""How far to go from the weights at first to the tuned ones for other slices than those tuned to, which gain less all
the way (`benchmarks/neighbour.py`)."""
_RATE, _MOMENTUM = 2e-3, 0.9  # of Muon
_OTHER_RATE = 2e-4  # of Adam, for biases and output layers
_LARGEST_NORM = 1.0  # of the gradients
_AVERAGE = 0.975  # of the running average of the weights, a step
_LEAST_WIDTH, _COUNTED_WIDTH = 8, 4
_BEYOND = 1.5  # of what is kept for the gradients: work space, fragmentation
_NEARLY = 0.1  # of what the best weights gain: so little worse, later ones are better, as few lines judge them
_CHANCE = 10  # of N samples of noise, the best of some predictions may fit such a share 10 / N


@dataclass(frozen=True)
class AdaptSettings:
    """How long, and how. One of ``seconds`` and ``steps`` is None.

    seed : of the lines and patches. half : convolutions and states in bfloat16, while tuning.
    copies : of the ensemble that the network is for; see `reconstruction.ensemble`. elsewhere : it is for other slices
    too, which gain more by it, and those tuned to a little less; see `crnn_cli.adaptation.losses`.
    """

    seconds: float | None = None
    steps: int | None = None
    seed: int = 0
    half: bool = False
    copies: int = 1
    elsewhere: bool = False


@dataclass(frozen=True)
class AdaptProgress:
    """Where the tuning stands. steps : in all, estimated where there is a time budget; 0 where that is not known yet.

    before, best : residual ||A x - y|| / ||y|| at the lines for validation, at first and of the weights used so far.
    validated : it was looked at after this step.
    """

    step: int
    steps: int
    seconds: float
    before: float
    best: float
    validated: bool


@dataclass(frozen=True)
class AdaptResult:
    """What became of it.

    steps : done. best_step : after which the best weights were found; as many steps again lead to the same ones.
    before, after : residual at the lines for validation, of the weights at first and of those that are used; None
    where nothing was measured. used : whether other weights are used than at first; why, in words.
    columns : of a patch. validation : of the slices that are not empty, by number, the mask (B, T, Y, X) of the lines
    that were never tuned on; None: of a slice that was not tuned on at all.
    """

    steps: int
    best_step: int
    seconds: float
    before: float | None
    after: float | None
    used: bool
    why: str
    columns: int
    validation: dict[int, Tensor | None]


def adapt(
    slices: SliceSource, method: NetworkReconstructor, tuning: AdaptSettings, device: torch.device,
    tell: Callable[[AdaptProgress], None] = lambda told: None,
) -> tuple[NetworkReconstructor, AdaptResult]:  # fmt: skip
    """Return the method with the network tuned to a scan, or as it is, and what became of it.

    The network that is handed in is not changed. All slices are tuned on together. A KeyboardInterrupt ends the tuning,
    and the best weights so far are used. On a CPU the weights after so many steps are the same for the same seed.

    Raises
    ------
    CrnnError
        As the slices do.
    """
    began = time.monotonic()
    run = None
    try:
        patches = gather_patches(slices, method.recipe, tuning.seed, device)
        run = _Run(method, patches, tuning, device, began)
        why = run.go(tell)
    except UnsupportedDataError as reason:
        why = str(reason)
    except KeyboardInterrupt:
        why = "interrupted"
    seconds = time.monotonic() - began
    if run is None or run.before is None:
        return method, AdaptResult(0, 0, seconds, None, None, False, why, 0, {})
    used, why = run.verdict(why)
    after = run.best if used else run.before
    found = AdaptResult(
        run.step, run.best_step if used else 0, seconds, run.before, after, used, why, run.width, patches.validation
    )
    return (replace(method, network=run.tuned()) if used else method), found


def interpolate_weights(first: nn.Module, tuned: nn.Module, way: float = GENERALISE_ALPHA) -> dict[str, Tensor]:
    """Return weights some way from those at first to the tuned ones, on the CPU."""
    pairs = zip(first.state_dict().items(), tuned.state_dict().values(), strict=True)
    return {
        name: was.cpu().lerp(now.cpu(), way) if was.is_floating_point() else now.cpu() for (name, was), now in pairs
    }


class _Run:
    """Network, optimiser, the best weights so far, and where they stand."""

    def __init__(
        self, method: NetworkReconstructor, patches: Patches, tuning: AdaptSettings, device: torch.device, began: float
    ) -> None:  # fmt: skip
        if not isinstance(method.network, nn.Module):
            raise TypeError("only a network of weights can be tuned")
        self.network, self.averaged = copy.deepcopy(method.network), copy.deepcopy(method.network)
        self.recipe, self.patches = method.recipe, patches
        self.supervision = SelfSupervisedLosses(
            patches, method.recipe, tuning.half, device, tuning.copies, tuning.elsewhere
        )
        self.tuning, self.device, self.began = tuning, device, began
        self.generator = torch.Generator().manual_seed(tuning.seed)
        self.step, self.best_step = 0, 0
        self.before: float | None = None
        self.best, self.least, self.samples = math.nan, math.nan, 0
        if hasattr(self.averaged, "batch_frames"):
            self.averaged.batch_frames = not patches.whole  # type: ignore[assignment]
        for weight in self.network.parameters():
            weight.requires_grad_(True)
            if weight.dim() == 4:  # features innermost: faster on a CPU
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.optimiser = Muon(self.network.parameters(), _RATE, _MOMENTUM, _OTHER_RATE)
        self.width = WIDTH
        self._kept: dict[str, Tensor] = {}

    def go(self, tell: Callable[[AdaptProgress], None]) -> str:
        """Tune until the budget is spent; return why it ended."""
        with torch.enable_grad():
            self._fit_memory()
        self.validation = Validation(self.supervision, self.width, self.generator)
        began = time.monotonic()
        self._validate()
        looking, stepping = time.monotonic() - began, 0.0
        tell(self._told(0, True))
        for step in count(1):
            if self.tuning.steps is not None and step > self.tuning.steps:
                return "the steps are done"
            began = time.monotonic()
            if not self._train():
                return f"loss or gradients were not finite at step {step}"
            self.step = step
            taken = time.monotonic() - began
            stepping = taken if step <= 2 else 0.8 * stepping + 0.2 * taken  # the first one is slow
            left = math.inf if self.tuning.seconds is None else self.tuning.seconds - (time.monotonic() - self.began)
            ended = step == self.tuning.steps or left < stepping + looking
            if ended or step % EVERY == 0:
                self._validate()
            total = self.tuning.steps or step + max(0, int((left - looking) / (stepping + looking / EVERY)))
            tell(self._told(step if ended else total, ended or step % EVERY == 0))
            if ended:
                break
        return "the time is spent" if self.tuning.steps is None else "the steps are done"

    def verdict(self, why: str) -> tuple[bool, str]:
        """Return whether the best weights are to be used, and why."""
        assert self.before is not None
        if not self.best < self.before:
            return False, f"{why}; no weights predict the lines held out better than those at first"
        if self.best**2 > 1 - _CHANCE / self.samples:
            return False, f"{why}; nothing predicts the lines held out better than zeros do: they look like noise"
        return True, why

    def tuned(self) -> nn.Module:
        """Return the network with the best weights."""
        self.network.load_state_dict(self._kept)
        for weight in self.network.parameters():
            weight.requires_grad_(False)
        self._set_checkpoint(0)
        return self.network.eval()

    def _told(self, steps: int, validated: bool) -> AdaptProgress:
        assert self.before is not None
        return AdaptProgress(self.step, steps, time.monotonic() - self.began, self.before, self.best, validated)

    def _validate(self) -> None:
        """Keep the weights if they are the best so far or, with nearly all that those gain, later: see `_NEARLY`."""
        total = self.validation.look(self.averaged)
        if self.before is None:
            self.before = self.least = total.residual
        self.least = min(self.least, total.residual)
        if self.step == 0 or total.residual < self.least + _NEARLY * (self.before - self.least):
            self.best, self.best_step = total.residual, self.step
            self._kept = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        self.samples = int(total.samples_T.sum()) * self.patches.coils

    def _train(self) -> bool:
        """Take a step; return whether it was finite, as else the weights stay as they are."""
        with torch.enable_grad():
            self.network.zero_grad()
            self._loss().backward()
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_NORM)
            if not bool(torch.isfinite(norm)):
                return False
            self.optimiser.step()
        update_ema(self.averaged, self.network, self.step, _AVERAGE)
        return True

    def _loss(self) -> Tensor:
        """Return the loss of a step, by lines that were taken away or by a rehearsal."""
        if float(torch.rand(1, generator=self.generator)) < REHEARSED:
            return self.supervision.rehearsed(self.network, *self.validation.draw(self.generator), self.generator)
        return self.supervision.predicted(self.network, self.width, self.generator)

    def _fit_memory(self) -> None:
        """Choose checkpoints and narrower patches where a step would not fit; see `crnn_cli.compute.memory`."""
        free = free_bytes(self.device, self.recipe.memory)
        if free is None:
            return
        if self.patches.whole:
            self._set_checkpoint(1)
            return
        state = self.generator.get_state()
        kept = kept_bytes(lambda: self.supervision.predicted(self.network, _COUNTED_WIDTH, self.generator))
        needed = _BEYOND * kept / _COUNTED_WIDTH
        self.generator.set_state(state)
        if needed * self.width > free / 2 and self._set_checkpoint(1):
            needed *= min(1.0, 2 / max(1, self.recipe.iterations))
        while needed * self.width > free and self.width > _LEAST_WIDTH:
            self.width //= 2
        if needed * self.width > free:
            raise UnsupportedDataError(
                f"a step needs about {needed * self.width / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
            )

    def _set_checkpoint(self, iterations: int) -> bool:
        """Let the network keep less for the gradients, if it can; see `crnn_cli.networks.crnn_mri`."""
        if not hasattr(self.network, "checkpoint"):
            return False
        self.network.checkpoint = iterations  # type: ignore[assignment]
        return True

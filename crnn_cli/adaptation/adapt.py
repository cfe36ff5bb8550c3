"""Scan-specific fine-tuning of a network, self-supervised on the measured lines of the scan.

1. A few lines outside the centre are set aside for validation, the same throughout (`patches`).
2. Each step takes either a self-supervised loss, which predicts some of the other lines from the rest (SSDU), or a
   pseudo-supervised loss on re-simulated images (`losses`).
3. Every `EVERY` steps the running average of the weights predicts the lines for validation (`validation`).
4. The best averaged weights are used, and only if they predict these lines better than the original ones.

References
----------
Yaman et al., MRM 84, 2020 (self-supervision via data undersampling, SSDU). Yaman, Hosseini, Akcakaya, ICLR 2022
(zero-shot: a single scan, with lines for validation). The optimiser is `crnn_cli.networks.optim.Muon`.

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
from crnn_cli.adaptation.pseudo_measurement import PSEUDO_SHARE
from crnn_cli.adaptation.validation import Validation
from crnn_cli.compute.memory import free_bytes, saved_tensor_bytes
from crnn_cli.data.host_memory import bytes_in_words
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.networks.optim import Muon, update_ema
from crnn_cli.reconstruction.measurement import SliceSource
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor

EVERY = 20
"""Steps from one validation to the next."""
WIDTH = 16
"""Columns of a patch: the readout is cut, the undersampled axis is whole."""
GENERALISE_ALPHA = 0.8
"""Interpolation factor from original (0) to tuned (1) weights for bundles that are used on other slices, which gain
less from fully tuned weights (`benchmarks/neighbour.py`; WiSE-FT, Wortsman et al., CVPR 2022)."""
_RATE, _MOMENTUM = 2e-3, 0.9  # of Muon
_OTHER_RATE = 2e-4  # of Adam, for biases and output layers
_LARGEST_NORM = 1.0  # of the gradients
_AVERAGE = 0.975  # of the running average of the weights, a step
_LEAST_WIDTH, _COUNTED_WIDTH = 8, 4
_BEYOND = 1.5  # of what is kept for the gradients: work space, fragmentation
_NEARLY = 0.1  # later weights within 10 % of the best validation gain are preferred: few lines make the minimum noisy
_CHANCE = 10  # a squared residual above 1 - 10 / N at N samples counts as noise: the best of some predictions by chance


@dataclass(frozen=True)
class AdaptSettings:
    """Budget and settings of a fine-tuning.

    Attributes
    ----------
    seconds, steps : the budget; one of both is None.
    seed : of the lines for validation, the patches and the lines left out.
    bfloat16 : convolutions and states in bfloat16 while tuning.
    copies : copies of the ensemble that the network is tuned for; see `crnn_cli.reconstruction.ensemble`.
    generalise : tune for other slices too, which then gain more, and the slices tuned to a little less; see
        `crnn_cli.adaptation.losses`.
    """

    seconds: float | None = None
    steps: int | None = None
    seed: int = 0
    bfloat16: bool = False
    copies: int = 1
    generalise: bool = False


@dataclass(frozen=True)
class AdaptProgress:
    """State of a fine-tuning after a step.

    Attributes
    ----------
    step : steps done.
    steps : steps in all, estimated where the budget is a time; 0 where that is not known yet.
    seconds : since it began.
    before, best : residual ||A x - y|| / ||y|| at the lines for validation: at first, and of the best weights so far.
    validated : whether the residual was measured after this step.
    """

    step: int
    steps: int
    seconds: float
    before: float
    best: float
    validated: bool


@dataclass(frozen=True)
class AdaptResult:
    """Outcome of a fine-tuning.

    Attributes
    ----------
    steps : steps done.
    best_step : step whose weights are used; as many steps again lead to the same weights.
    seconds : time taken.
    before, after : residual at the lines for validation, of the original weights and of those that are used; None where
        nothing was measured.
    used : whether tuned weights are used.
    why : why it ended, or why they are not used, in words.
    columns : width of a patch.
    validation : mask (B, T, Y, X) of the lines never tuned on, by slice that is not empty; None for a slice that was
        not tuned on at all.
    interrupted : whether ``stop`` ended it.
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
    interrupted: bool = False


class _StopTuningError(Exception):
    """``stop`` ended the tuning."""


def adapt(
    slices: SliceSource, method: NetworkReconstructor, settings: AdaptSettings, device: torch.device,
    on_progress: Callable[[AdaptProgress], None] = lambda progress: None, stop: Callable[[], bool] = lambda: False,
) -> tuple[NetworkReconstructor, AdaptResult]:  # fmt: skip
    """Fine-tune a network to a scan; the method comes back as it was if that predicts held-out lines no better.

    All slices are tuned on together. The network handed in is not changed. On a CPU the weights after a number of steps
    are the same for the same seed. A scan that cannot be tuned on (one frame, fully sampled, too few lines) is no
    error: the result says why.

    Parameters
    ----------
    slices : the measured data.
    method : a network with its settings.
    settings : budget and seed.
    device : where it is tuned.
    on_progress : called after each step, and once before the first.
    stop : asked between steps, and between slices while they are read; once it is true, the tuning ends, and the best
        weights so far are used.

    Raises
    ------
    CrnnError
        As the slices do.
    TypeError
        If the network is no `torch.nn.Module`.
    """
    began = time.monotonic()
    run, interrupted = None, False

    def check() -> None:
        if stop():
            raise _StopTuningError

    try:
        patches = gather_patches(slices, method.settings, settings.seed, device, check)
        run = _Run(method, patches, settings, device, began)
        why = run.go(on_progress, check)
    except UnsupportedDataError as error:
        why = str(error)
    except _StopTuningError:
        why, interrupted = "interrupted", True
    seconds = time.monotonic() - began
    if run is None or run.before is None:
        return method, AdaptResult(0, 0, seconds, None, None, False, why, 0, {}, interrupted)
    used, why = run.verdict(why)
    result = AdaptResult(
        run.step, run.best_step if used else 0, seconds, run.before, run.best if used else run.before, used, why,
        run.width, patches.validation, interrupted,
    )  # fmt: skip
    return (replace(method, network=run.tuned()) if used else method), result


def interpolate_weights(original: nn.Module, tuned: nn.Module, alpha: float = GENERALISE_ALPHA) -> dict[str, Tensor]:
    """Weights between those of two networks, (1 - alpha) original + alpha tuned, on the CPU.

    Values that are not floating point, such as counters, are those of the tuned network.
    """
    pairs = zip(original.state_dict().items(), tuned.state_dict().values(), strict=True)
    return {
        name: was.cpu().lerp(now.cpu(), alpha) if was.is_floating_point() else now.cpu() for (name, was), now in pairs
    }


class _Run:
    """State of a fine-tuning: network, running average, optimiser, best weights so far."""

    def __init__(
        self, method: NetworkReconstructor, patches: Patches, settings: AdaptSettings, device: torch.device,
        began: float,
    ) -> None:  # fmt: skip
        if not isinstance(method.network, nn.Module):
            raise TypeError("only a network of weights can be tuned")
        self.network, self.averaged = copy.deepcopy(method.network), copy.deepcopy(method.network)
        self.inference, self.patches = method.settings, patches
        self.losses = SelfSupervisedLosses(
            patches, method.settings, settings.bfloat16, device, settings.copies, settings.generalise
        )
        self.settings, self.device, self.began = settings, device, began
        self.generator = torch.Generator().manual_seed(settings.seed)
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

    def go(self, on_progress: Callable[[AdaptProgress], None], check: Callable[[], None]) -> str:
        """Tune until the budget is spent, or ``check`` raises; why it ended, in words."""
        check()
        with torch.enable_grad():
            self._fit_memory()
        self.validation = Validation(self.losses, self.width, self.generator)
        began = time.monotonic()
        self._validate()
        looking, stepping = time.monotonic() - began, 0.0
        on_progress(self._progress(0, True))
        for step in count(1):
            check()
            if self.settings.steps is not None and step > self.settings.steps:
                return "the steps are done"
            began = time.monotonic()
            if not self._train():
                return f"loss or gradients were not finite at step {step}"
            self.step = step
            taken = time.monotonic() - began
            stepping = taken if step <= 2 else 0.8 * stepping + 0.2 * taken  # the first one is slow
            budget = math.inf if self.settings.seconds is None else self.settings.seconds
            left = budget - (time.monotonic() - self.began)
            ended = step == self.settings.steps or left < stepping + looking
            if ended or step % EVERY == 0:
                self._validate()
            total = self.settings.steps or step + max(0, int((left - looking) / (stepping + looking / EVERY)))
            on_progress(self._progress(step if ended else total, ended or step % EVERY == 0))
            if ended:
                break
        return "the time is spent" if self.settings.steps is None else "the steps are done"

    def verdict(self, why: str) -> tuple[bool, str]:
        """Whether the best weights are used, and why."""
        assert self.before is not None
        if not self.best < self.before:
            return False, f"{why}; no weights predict the lines held out better than those at first"
        if self.best**2 > 1 - _CHANCE / self.samples:
            return False, f"{why}; nothing predicts the lines held out better than zeros do: they look like noise"
        return True, why

    def tuned(self) -> nn.Module:
        """Load the best weights into the network and prepare it for inference."""
        self.network.load_state_dict(self._kept)
        for weight in self.network.parameters():
            weight.requires_grad_(False)
        self._set_checkpoint(0)
        return self.network.eval()

    def _progress(self, steps: int, validated: bool) -> AdaptProgress:
        assert self.before is not None
        return AdaptProgress(self.step, steps, time.monotonic() - self.began, self.before, self.best, validated)

    def _validate(self) -> None:
        """Measure the averaged weights; keep them if they are the best so far, or nearly (`_NEARLY`)."""
        sums = self.validation.measure(self.averaged)
        if self.before is None:
            self.before = self.least = sums.residual
        self.least = min(self.least, sums.residual)
        if self.step == 0 or sums.residual < self.least + _NEARLY * (self.before - self.least):
            self.best, self.best_step = sums.residual, self.step
            self._kept = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        self.samples = int(sums.samples_T.sum()) * self.patches.coils

    def _train(self) -> bool:
        """Take a step; False, with the weights unchanged, if loss or gradients are not finite."""
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
        """Loss of a step: self-supervised, or pseudo-supervised for a share `PSEUDO_SHARE` of the steps."""
        if float(torch.rand(1, generator=self.generator)) < PSEUDO_SHARE:
            return self.losses.pseudo_supervised(self.network, *self.validation.draw(self.generator), self.generator)
        return self.losses.self_supervised(self.network, self.width, self.generator)

    def _fit_memory(self) -> None:
        """Choose activation checkpoints and narrower patches where a step would not fit into memory."""
        free = free_bytes(self.device, self.inference.memory)
        if free is None:
            return
        if self.patches.whole:
            self._set_checkpoint(1)
            return
        state = self.generator.get_state()
        kept = saved_tensor_bytes(lambda: self.losses.self_supervised(self.network, _COUNTED_WIDTH, self.generator))
        needed = _BEYOND * kept / _COUNTED_WIDTH
        self.generator.set_state(state)
        if needed * self.width > free / 2 and self._set_checkpoint(1):
            needed *= min(1.0, 2 / max(1, self.inference.iterations))
        while needed * self.width > free and self.width > _LEAST_WIDTH:
            self.width //= 2
        if needed * self.width > free:
            raise UnsupportedDataError(
                f"a step needs about {bytes_in_words(needed * self.width)}, and {bytes_in_words(free)} are free"
            )

    def _set_checkpoint(self, iterations: int) -> bool:
        """Set activation checkpoints of the network, if it has them; see `crnn_cli.networks.crnn_mri`."""
        if not hasattr(self.network, "checkpoint"):
            return False
        self.network.checkpoint = iterations  # type: ignore[assignment]
        return True

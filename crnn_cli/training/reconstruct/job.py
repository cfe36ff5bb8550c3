"""Training of a reconstruction network on random cine items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crnn_cli.io.atomic_write import Output
from crnn_cli.io.images import load_image
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.live_crnn import LiveCRNN
from crnn_cli.report.montage import Panel, preview_output
from crnn_cli.training.reconstruct.cine import CPU, CineItem, CineItems, DrawnSampling, draw, draw_item
from crnn_cli.training.reconstruct.idle import changes_by_set
from crnn_cli.training.reconstruct.losses import image_loss
from crnn_cli.training.reconstruct.settings import ReconstructSettings

_VALIDATION_SEED = 1_000_000_000
_VALIDATION_ITEMS = 8


class ReconstructJob:
    """Job of `crnn_cli.training.loop.TrainingLoop`; see `crnn_cli.training.job.TrainingJob`.

    Parameters
    ----------
    settings : of the task.
    cines, held_out : real cines (T, Y, X) to train on and to validate with; may be empty.
    seed : of the items.
    start : network of the same sizes whose weights training starts with; None for random ones.
    device : that is trained on. On a CPU items are computed where they are drawn; else `losses` computes initial
        images.
    """

    def __init__(
        self, settings: ReconstructSettings, cines: Sequence[Tensor], held_out: Sequence[Tensor], seed: int,
        start: CRNNMRI | LiveCRNN | None = None, device: torch.device = CPU,
    ) -> None:  # fmt: skip
        self.settings, self.seed, self.start, self.device = settings, seed, start, device
        self.source = CineItems(cines, settings.real_share, settings.pixels, settings.sampling, settings.initial_image)
        one, several = (replace(settings.sampling, several=share) for share in (0.0, 1.0))
        self.simulated = CineItems((), 0.0, settings.pixels, one, settings.initial_image)
        self.real = CineItems(held_out, 1.0, settings.pixels, one, settings.initial_image) if held_out else None
        self.several = replace(self.real or self.simulated, sampling=several) if settings.sampling.several else None
        self._items = settings.stages()[0].steps * settings.batch

    def network(self, stage: int, before: nn.Module | None) -> CRNNMRI | LiveCRNN:
        """Build the network; there is one stage."""
        del stage, before
        sizes = self.settings.network.config()
        network = CRNNMRI(sizes) if isinstance(sizes, CRNNMRIConfig) else LiveCRNN(sizes)
        network.truncate = self.settings.network.truncate
        if isinstance(network, CRNNMRI):
            network.checkpoint = self.settings.network.checkpoint
        if self.start is not None:
            network.load_state_dict(self.start.state_dict())
        for weight in network.parameters():
            if weight.dim() == 4:  # features innermost, as everywhere in the network: faster on a CPU
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return network

    def item(self, stage: int, number: int) -> tuple[CineItem | DrawnSampling, int]:
        """Draw an item, and the iterations that it is reconstructed with."""
        del stage
        iterations = self.settings.iterations(number / self._items, number)
        drawn = draw(self.source, self._seed(number))
        return (drawn.item(CPU) if self.device.type == "cpu" else drawn), iterations

    def describe(self, stage: int, number: int) -> str:
        """Seed of an item: with the same settings and cines it can be drawn again."""
        del stage
        return f"seed {self._seed(number)}"

    def losses(self, stage: int, network: nn.Module, items: list[Any], device: torch.device) -> Iterator[Tensor]:
        """Yield the loss of one item after the other, since their sizes differ."""
        del stage
        for known, iterations in items:
            item = known.item(device) if isinstance(known, DrawnSampling) else known
            image = network(item.initial_BTYX, item.consistency, iterations)
            yield image_loss(self.settings.loss.weights(), image, item.truth_BTYX, item.consistency) / len(items)

    def set_mode(self, stage: int, network: nn.Module) -> None:
        """Set training mode."""
        del stage
        network.train()

    def miniature(self, stage: int, count: int) -> tuple[list[Any], float]:
        """One item of few pixels with all iterations and as many coils as any, and the size ratio of a real one.

        Items of a batch are computed one after the other, so their number does not matter.
        """
        del stage, count
        source = replace(self.simulated, pixels=2_000)
        if self.several is not None:
            most = self.several.sampling.most_coils
            source = replace(source, sampling=replace(self.several.sampling, coils=most))
        drawn = draw(source, 0)
        return [(drawn, self.settings.network.iterations)], self.settings.pixels / drawn.truth_BTYX[
            :, drawn.part
        ].numel()

    def memory_multipliers(self, stage: int, network: nn.Module) -> Iterator[float]:
        """Yield 1 for a pass, and shares for the iterations that checkpoints compute again beside it."""
        del stage
        yield 1.0
        group, iterations = self.settings.network.checkpoint, self.settings.network.iterations
        if group:
            network.checkpoint = 0  # type: ignore[assignment]
            yield 2.0 / iterations
        if group > 1:
            network.checkpoint = 1  # type: ignore[assignment]
            yield min(group, iterations) / iterations

    def suggest_smaller(self, stage: int, share: float) -> str:
        """Name the setting that saves memory: checkpoints first, then fewer pixels."""
        del stage
        if not self.settings.network.checkpoint:
            return "set checkpoint = 1 in [network]"
        return f"set pixels = {max(2_000, int(self.settings.pixels * share))}"

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, Any]:
        """Compute the mean relative error of initial image and reconstruction, in dB, over items never trained on.

        The score is the mean fall of the error in dB over the groups that there are: simulated items, items of the
        held-out cines, and items of several coils. The last group shows the scenes of one coil again: held-out cines,
        where there are some.
        """
        figures, falls = {}, []
        kinds = (("simulated", self.simulated), ("held_out", self.real), ("several_coils", self.several))
        for kind, source in kinds:
            if source is not None:
                figures[kind] = _errors(network, source, device)
                falls.append(figures[kind]["start_db"] - figures[kind]["reconstructed_db"])
        return {"score": round(float(np.mean(falls)), 4), **figures}

    def pictures(self, network: nn.Module, device: torch.device, folder: Path) -> list[Output]:
        """Picture of a validation item: truth, reconstruction, initial image, and the errors of these two."""
        item = draw_item(self.several or self.real or self.simulated, _VALIDATION_SEED, device)
        with torch.no_grad():
            made = network(item.initial_BTYX, item.consistency)
        truth, image, start = (x[0].abs().cpu().numpy() for x in (item.truth_BTYX, made, item.initial_BTYX))
        panels = [
            Panel("truth", truth), Panel("crnn", image), Panel("start", start),
            Panel("error of crnn x 5", np.abs(image - truth), 5), Panel("error of start x 5", np.abs(start - truth), 5),
        ]  # fmt: skip
        kind = "a cine held out" if self.real else "simulated"
        said = f"{kind}, SIMULATED sampling{' by several coils' if self.several else ''}"
        return [preview_output(panels, (1, 1), None, folder / "validation.png", said)]

    def changes_by_set(self, network: CRNNMRI | LiveCRNN) -> list[float]:
        """What each set of weights does to a validation item, on the CPU; see `idle.changes_by_set`."""
        item = draw_item(self.simulated, _VALIDATION_SEED)
        return changes_by_set(network, item.initial_BTYX, item.consistency)

    def _seed(self, number: int) -> int:
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0] >> 1)


def _errors(network: nn.Module, source: CineItems, device: torch.device) -> dict[str, float]:
    errors: list[tuple[float, float]] = []
    with torch.no_grad():
        for index in range(_VALIDATION_ITEMS):
            item = draw_item(source, _VALIDATION_SEED + index, device)
            image = network(item.initial_BTYX, item.consistency)
            errors.append((relative_error_db(item.initial_BTYX, item), relative_error_db(image, item)))
    start, reconstructed = np.mean(errors, axis=0)
    return {"start_db": round(float(start), 3), "reconstructed_db": round(float(reconstructed), 3)}


def relative_error_db(image_BTYX: Tensor, item: CineItem) -> float:
    """Relative error of an image, 20 log10(||x - truth|| / ||truth||).

    Parameters
    ----------
    image_BTYX : complex, in the scale of the item.
    item : with the truth.

    Returns
    -------
    dB; -20 is an error of 10 %.
    """
    error = torch.linalg.vector_norm(image_BTYX - item.truth_BTYX) / torch.linalg.vector_norm(item.truth_BTYX)
    return 20 * math.log10(max(float(error), 1e-9))


def load_cines(files: Sequence[Path]) -> list[Tensor]:
    """Read the slices of NIfTI files and DICOM series (x, y, z, t) as cines; x is taken as the readout.

    Returns
    -------
    Cines (T, Y, X), magnitude or complex; empty slices are left out.
    """
    cines: list[Tensor] = []
    for file in files:
        array = load_image(file).image.array
        values = array.astype(np.complex64 if np.iscomplexobj(array) else np.float32)
        slices = (values[:, :, z].T for z in range(values.shape[2]))
        cines += [torch.from_numpy(np.ascontiguousarray(cine)) for cine in slices if cine.any()]
    return cines

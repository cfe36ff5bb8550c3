"""What reconstruction is measured against: zero-filled, view-shared, published weights, temporal total variation.

A method turns a `Problem` into an image. A method with a free setting (input amplitude, weight) gets the best one of
a ladder for each problem, chosen with the truth: more than any user could do, so these baselines are upper bounds.

Legend: B batch (1), T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.fourier import kspace_to_image
from crnn_cli.mri.total_variation.admm import tv_start
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.reconstruction.ensemble import Ensemble
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
from crnn_cli.reconstruction.settings import InferenceSettings


@dataclass(frozen=True)
class Problem:
    """A sequence whose magnitude peaks at 1, its measured k-space and the mask (1, T, Y, 1)."""

    truth_BTYX: Tensor
    kspace_BTYX: Tensor
    mask_BTYX: Tensor

    def consistency(self, scale: float = 1.0) -> SingleCoilConsistency:
        return SingleCoilConsistency(self.kspace_BTYX * scale, self.mask_BTYX)

    def measured(self) -> SliceMeasurement:
        return SliceMeasurement(self.kspace_BTYX[:, None], self.mask_BTYX)


@dataclass(frozen=True)
class Method:
    """A name, how to reconstruct with a setting, and the settings to choose from, in order (none: no choice)."""

    name: str
    reconstruct: Callable[[Problem, float], Tensor]
    ladder: tuple[float, ...] = ()


@dataclass(frozen=True)
class Found:
    """The image of the best setting, and the PSNR of each setting tried."""

    image_BTYX: Tensor
    setting: float | None
    tried: dict[float, float]
    seconds: float


def best_setting(method: Method, problem: Problem, score: Callable[[Tensor], float]) -> Found:
    """Climb the ladder from its middle to the first setting that both neighbours do not better."""
    began = time.monotonic()
    if not method.ladder:
        image = method.reconstruct(problem, 1.0)
        return Found(image, None, {}, time.monotonic() - began)
    images: dict[int, Tensor] = {}
    scores: dict[int, float] = {}
    best, seconds = len(method.ladder) // 2, 0.0
    while True:
        for rung in (best, best - 1, best + 1):
            if 0 <= rung < len(method.ladder) and rung not in scores:
                began = time.monotonic()
                images[rung] = method.reconstruct(problem, method.ladder[rung])
                scores[rung], seconds = score(images[rung]), time.monotonic() - began
        top = max(scores, key=lambda rung: scores[rung])
        if top == best:
            tried = {method.ladder[rung]: scores[rung] for rung in sorted(scores)}
            return Found(images[best], method.ladder[best], tried, seconds)
        best = top


def zero_filled() -> Method:
    return Method("zero-filled", lambda problem, _: problem.consistency().zero_filled())


def starts() -> list[Method]:
    """Return what networks start from: linear estimates from other frames."""
    return [
        Method("view-shared", lambda problem, _: problem.consistency().view_shared()),
        Method("time-wiener", lambda problem, _: problem.consistency().time_wiener()),
        Method("total-variation start", lambda problem, _: tv_start(problem.consistency())),
    ]


def published_crnn(checkpoint: Path) -> Method:
    """CRNN-MRI weights as published, 5 iterations from zero-filled; the setting is the peak of the true magnitude."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    network = CRNNMRI(CRNNMRIConfig())
    network.load_state_dict({name.replace("CRNN_model.", ""): value for name, value in state.items()})

    def reconstruct(problem: Problem, peak: float) -> Tensor:
        consistency = problem.consistency(peak)
        return network(consistency.zero_filled(), consistency) / peak

    return Method("published CRNN-MRI", reconstruct, (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0))


def reconstructor(name: str, iterations: int | None = None, half: bool = False, copies: int = 1) -> Ensemble:
    """A bundle, by name or folder, used as `crnn reconstruct` uses it: its start, scaled by what a user has."""
    found = find_bundle(name, "reconstruct")
    network = load_reconstruction(found, torch.device("cpu"))
    count = iterations or network.config.iterations
    settings = InferenceSettings(found.initial_image, found.input_rms, count, bfloat16=half)
    return Ensemble(NetworkReconstructor(network, settings), copies)


def bundle(name: str, iterations: int | None, shown: str, half: bool = False, copies: int = 1) -> Method:
    """A bundle as a method, see `reconstructor`."""
    method = reconstructor(name, iterations, half, copies)
    return Method(shown, lambda problem, _: method(problem.measured(), lambda: None).images_BTYX)


TV_ITERATIONS = 100


def temporal_tv() -> Method | None:
    """Temporal total variation by BART, data put back in at the end; None, with the reason, where BART is absent.

    The readout is fully sampled and the penalty acts along time only, so the problem splits along it: BART gets
    hybrid space (y in k-space, x in image space) with x in its slice dimension, and transforms y alone. That is the
    same minimiser, faster, and keeps an odd readout (95) from BART 0.8, whose ``pics`` mishandles odd sizes. Where the
    mask changes along the readout, x is in k-space too, in dimension 2.
    """
    if shutil.which("bart") is None:
        print("temporal TV skipped: no `bart` on the PATH")
        return None
    return Method("temporal TV", _bart_tv, tuple(0.0005 * 2**rung for rung in range(9)))


def _bart_tv(problem: Problem, weight: float) -> Tensor:
    frames, lines, columns = problem.truth_BTYX.shape[1:]
    split = problem.mask_BTYX.shape[-1] == 1
    if lines % 4 or (columns % 4 and not split):
        raise ValueError(f"{lines} lines, {columns} columns: BART 0.8 changes the sign of what four does not divide")
    data = kspace_to_image(problem.kspace_BTYX, (-1,))[0] if split else problem.kspace_BTYX[0]
    mask = problem.mask_BTYX[0].expand(frames, lines, columns)
    x_dimension = 13 if split else 2
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # more only get in each other's way on arrays this small
    with tempfile.TemporaryDirectory() as folder:
        write_cfl(Path(folder, "kspace"), data.numpy(), x_dimension)
        write_cfl(Path(folder, "pattern"), mask.numpy(), x_dimension)
        write_cfl(Path(folder, "coil"), np.ones((1, lines, columns)), x_dimension)
        command = f"bart pics -w 1 -i {TV_ITERATIONS} -R T:1024:0:{weight:g} -p pattern kspace coil image"
        subprocess.run(command.split(), cwd=folder, env=one_thread, check=True, capture_output=True)
        image = np.fromfile(Path(folder, "image.cfl"), np.complex64)
    image = image.reshape((columns, frames, lines) if split else (frames, columns, lines))
    order = (1, 2, 0) if split else (0, 2, 1)
    return problem.consistency()(torch.from_numpy(image.transpose(order).copy())[None])


def write_cfl(stem: Path, array_TYX: np.ndarray, x_dimension: int) -> None:
    """Write BART's format, first dimension fastest: y in dimension 1, time in 10, x in 2 or 13."""
    frames, lines, columns = array_TYX.shape
    dims = [1] * 16
    dims[1], dims[10], dims[x_dimension] = lines, frames, columns
    stem.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, dims)) + "\n")
    order = (2, 0, 1) if x_dimension > 10 else (0, 2, 1)
    np.ascontiguousarray(array_TYX.transpose(order), np.complex64).tofile(stem.with_suffix(".cfl"))


class Cache:
    """Results of baselines by key, in a JSON file; the key knows the protocol, the truth and the mask."""

    def __init__(self, file: Path | None) -> None:
        self.file = file

    def key(self, version: str, problem: Problem, of: tuple[str, float, str]) -> str:
        data = problem.truth_BTYX.abs().mul(65535).round().to(torch.int32).numpy().tobytes()
        digest = hashlib.sha256(data + problem.mask_BTYX.numpy().tobytes()).hexdigest()[:12]
        return " | ".join([version, *map(str, of), digest])

    def get(self, key: str) -> dict | None:
        return self._read().get(key)

    def put(self, key: str, result: dict) -> None:
        if self.file is None:
            return
        temporary = self.file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps({**self._read(), key: result}, indent=1))
        temporary.replace(self.file)

    def _read(self) -> dict[str, dict]:
        return json.loads(self.file.read_text()) if self.file and self.file.exists() else {}

"""The method of a reconstruction: a network from a bundle, or a classical one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError

if TYPE_CHECKING:
    import torch

    from crnn_cli.bundles.psnr_law import PSNRLaw
    from crnn_cli.reconstruction.reconstruct import Reconstructor

NETWORK = "crnn"


@dataclass(frozen=True)
class MethodRequest:
    """A method and its settings as they were asked for; None stands for the default.

    Attributes
    ----------
    name : ``crnn``, or a key of `crnn_cli.mri.classical.METHODS`.
    model : published model or bundle folder of the network.
    iterations : unrolled iterations, or iterations of a classical method.
    regularisation : weight of a classical method, relative to the data.
    noise_ratio, precision, memory : of the network; see `crnn_cli.reconstruction.reconstruct.InferenceSettings`.
    ensemble : flipped copies that the network averages over.
    calibration_frames : frames that a causal network is calibrated by.
    """

    name: str = NETWORK
    model: str | None = None
    iterations: int | None = None
    regularisation: float | None = None
    noise_ratio: float | None = None
    precision: str | None = None
    memory: str | None = None
    ensemble: int | None = None
    calibration_frames: int | None = None


@dataclass(frozen=True)
class PreparedMethod:
    """A method ready to run.

    Attributes
    ----------
    method : network or classical method, without the ensemble.
    name, title : as on the command line, and as people read it.
    facts : settings for the report.
    copies : flipped copies to average over.
    precision : of the network, where it was asked for.
    scale : calibration of its uncertainty; None where it was not measured (`crnn_cli.assessment.uncertainty`).
    psnr_law : law of the PSNR that is expected of its images; None where it was not fitted, as for other iterations.
    calibration_frames : frames at the start that a causal network is calibrated by; None of other methods.
    """

    method: Reconstructor[None]
    name: str
    title: str
    facts: dict[str, Any]
    copies: int = 1
    precision: str | None = None
    scale: float | None = None
    psnr_law: PSNRLaw | None = None
    calibration_frames: int | None = None


def method_names() -> list[str]:
    """Names of all methods, the network first."""
    from crnn_cli.mri.classical import METHODS

    return [NETWORK, *METHODS]


def prepare_method(request: MethodRequest, device: torch.device) -> PreparedMethod:
    """Load the network, or look up the classical method, and check that the settings belong to it.

    Raises
    ------
    UsageError
        If there is no such method, or a setting does not belong to it.
    CrnnError
        As `crnn_cli.bundles.store` raises for the model.
    """
    name, weight, iterations = request.name, request.regularisation, request.iterations
    method_crnn = Param("method", NETWORK)
    if name == NETWORK:
        if weight is not None:
            parts = Param("regularisation"), f" belongs to the classical methods; for {NETWORK} there is "
            raise UsageError(*parts, Param("noise_ratio"))
        return _prepare_network(request, device)
    from crnn_cli.mri.classical import METHODS
    from crnn_cli.reconstruction.reconstruct import ClassicalReconstructor
    from crnn_cli.report.provenance import tool_facts

    if name not in METHODS:
        raise UsageError(Param("method", name), " is not known", remedy=(f"use {', '.join(method_names())}",))
    for option in ("model", "precision", "memory", "ensemble", "calibration_frames"):
        if getattr(request, option) is not None:
            raise UsageError(Param(option), " belongs to ", method_crnn, f", not to {name}")
    if request.noise_ratio is not None:
        others = "; the others take ", Param("regularisation")
        raise UsageError(Param("noise_ratio"), " belongs to ", method_crnn, *others)
    known = METHODS[name]
    if weight is not None and not known.weight_meaning:
        raise UsageError(Param("regularisation"), " does not belong to ", Param("method", name), ": it has none")
    if iterations is not None and not known.iterations:
        raise UsageError(Param("iterations"), " does not belong to ", Param("method", name), ": it does not iterate")
    if iterations == 0:
        raise UsageError(Param("iterations", 0), f": {name} needs at least 1")
    method = ClassicalReconstructor(name, weight, iterations or known.iterations)
    facts = tool_facts() | {"method": {"name": name, "title": known.title, "paper": known.paper}}
    facts |= {"regularisation_weight": weight, "iterations": method.iterations}
    return PreparedMethod(method, name, known.title, facts)


def _prepare_network(request: MethodRequest, device: torch.device) -> PreparedMethod:
    from crnn_cli.bundles.store import find_bundle, load_reconstruction
    from crnn_cli.compute.device import has_native_bfloat16, note_emulated_bfloat16
    from crnn_cli.networks.live_crnn import LiveCRNN
    from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
    from crnn_cli.reconstruction.settings import CALIBRATION_FRAMES, InferenceSettings
    from crnn_cli.report.provenance import model_facts, tool_facts

    memory, copies = parse_bytes(request.memory), request.ensemble or 1
    if request.iterations == 0 and copies > 1:
        unused = " averages images of a network, and with ", Param("iterations", 0), " none is used"
        raise UsageError(Param("ensemble"), *unused)
    bundle = find_bundle(request.model, "reconstruct")
    default = "bf16" if bundle.bfloat16 and has_native_bfloat16(device) else "fp32"
    precision = default if request.precision is None else _parse_precision(request.precision, device)
    if request.precision == "bf16":
        note_emulated_bfloat16(device)
    network = load_reconstruction(bundle, device)
    live = isinstance(network, LiveCRNN)
    if request.calibration_frames is not None and not live:
        raise UsageError(
            Param("calibration_frames"), f" is for causal networks, and {bundle.name} sees all frames",
            remedy=("add ", Param("model", "cine-crnn-live")),
        )  # fmt: skip
    calibration_frames = request.calibration_frames or CALIBRATION_FRAMES
    iterations = network.config.iterations if request.iterations is None else request.iterations
    settings = InferenceSettings(
        bundle.initial_image, bundle.input_rms, iterations, request.noise_ratio, precision == "bf16", memory,
        precision == "tf32", calibration_frames,
    )  # fmt: skip
    facts = tool_facts() | model_facts(bundle) | {"method": {"name": NETWORK}, "iterations": iterations}
    facts |= {"noise_ratio": request.noise_ratio, "precision": precision, "ensemble": copies}
    title = f"{bundle.name} ({bundle.licence})"
    method = NetworkReconstructor(network, settings, notices.say)
    if live:
        facts |= {"calibration_frames": calibration_frames}
    return PreparedMethod(
        method, NETWORK, title, facts, copies, request.precision, bundle.uncertainty_scale,
        bundle.psnr_law if iterations == network.config.iterations else None,
        calibration_frames if live else None,
    )  # fmt: skip


def _parse_precision(text: str, device: torch.device) -> str:
    if text not in ("fp32", "tf32", "bf16"):
        raise UsageError(Param("precision", text), " is not known", remedy=("use fp32, bf16, or tf32 on a GPU",))
    if text == "tf32" and device.type != "cuda":
        reason = f" is for CUDA GPUs, and the device is {device}"
        raise UsageError(Param("precision", "tf32"), reason, remedy=("use fp32 or bf16",))
    return text


def parse_bytes(text: str | None) -> int | None:
    """Bytes of a size such as 8G, 500M or 1.5g; None for None.

    Raises
    ------
    UsageError
        If the text is no such size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise UsageError(Param("memory", text), " is not understood", remedy=("give a size, such as 8G or 500M",))
    return round(float(match[1]) * 1024.0 ** (1 + "KMGT".index(match[2].upper())))

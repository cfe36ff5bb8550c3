"""Which method a command runs: a network from a bundle, or a classical one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from crnn_cli.reconstruction.reconstruct import Reconstructor

NETWORK = "crnn"


@dataclass(frozen=True)
class PreparedMethod:
    """A method ready to run; its name, what people read of it, and what a report says.

    weights : those that a classical method used in its last runs. precision : of the network, where it was asked for.
    scale : of its uncertainty, None where it was not measured; see `crnn_cli.assessment.uncertainty`.
    """

    method: Reconstructor
    name: str
    title: str
    facts: dict[str, Any]
    weights: list[float] = field(default_factory=list)
    precision: str | None = None
    scale: float | None = None


def method_names() -> list[str]:
    """Return the names of all methods."""
    from crnn_cli.mri.classical import METHODS

    return [NETWORK, *METHODS]


@dataclass(frozen=True)
class MethodRequest:
    """A method and what the options say of it, None where nothing is said; see the help of `crnn reconstruct`."""

    name: str = NETWORK
    model: str | None = None
    iterations: int | None = None
    weight: float | None = None
    noise: float | None = None
    precision: str | None = None
    memory: str | None = None
    ensemble: int | None = None


def prepare_method(wanted: MethodRequest, device: torch.device) -> PreparedMethod:
    """Return the method that is wanted.

    Raises
    ------
    UsageError
        If there is none of its name, or an option is given that it does not know.
    CrnnError
        See `crnn_cli.bundles.store` for the model.
    """
    name, weight, iterations = wanted.name, wanted.weight, wanted.iterations
    if name == NETWORK:
        if weight is not None:
            raise UsageError(f"--weight belongs to the classical methods; for {NETWORK} there is --noise")
        return _network(wanted, device)
    from crnn_cli.mri.classical import METHODS
    from crnn_cli.reconstruction.reconstruct import ClassicalReconstructor
    from crnn_cli.report.provenance import made_by

    if name not in METHODS:
        raise UsageError(f"--method {name} is not known: use {', '.join(method_names())}")
    for option in ("model", "precision", "memory", "ensemble"):
        if getattr(wanted, option) is not None:
            raise UsageError(f"--{option} belongs to --method {NETWORK}, not to {name}")
    if wanted.noise is not None:
        raise UsageError(f"--noise belongs to --method {NETWORK}; the others take --weight")
    known = METHODS[name]
    if weight is not None and not known.weighs:
        raise UsageError(f"--weight does not belong to --method {name}: it has none")
    if iterations is not None and not known.iterations:
        raise UsageError(f"--iterations does not belong to --method {name}: it does not iterate")
    if iterations == 0:
        raise UsageError(f"--iterations 0: {name} needs at least 1")
    method = ClassicalReconstructor(name, weight, iterations or known.iterations)
    facts = made_by() | {"method": {"name": name, "title": known.title, "paper": known.paper}}
    facts |= {"weight": weight, "iterations": method.iterations}
    return PreparedMethod(method, name, known.title, facts, method.used)


def _network(wanted: MethodRequest, device: torch.device) -> PreparedMethod:
    from crnn_cli.bundles.store import find_bundle, load_reconstruction
    from crnn_cli.compute.device import bfloat16_is_fast
    from crnn_cli.reconstruction.reconstruct import InferenceSettings, NetworkReconstructor
    from crnn_cli.report.provenance import provenance

    memory, copies = _bytes(wanted.memory), wanted.ensemble or 1
    if wanted.iterations == 0 and copies > 1:
        raise UsageError("--ensemble averages what a network makes, and with --iterations 0 none is used")
    bundle = find_bundle(wanted.model, "reconstruct")
    usual = "bf16" if bundle.bfloat16 and bfloat16_is_fast(device) else "fp32"
    precision = usual if wanted.precision is None else _precision(wanted.precision, device)
    network = load_reconstruction(bundle, device)
    iterations = network.config.iterations if wanted.iterations is None else wanted.iterations
    recipe = InferenceSettings(
        bundle.initial_image,
        bundle.input_rms,
        iterations,
        wanted.noise,
        precision == "bf16",
        memory,
        precision == "tf32",
    )
    facts = provenance(bundle) | {"method": {"name": NETWORK}, "iterations": iterations}
    facts |= {"noise": wanted.noise, "precision": precision, "ensemble": copies}
    title = f"{bundle.name} ({bundle.licence})"
    method = NetworkReconstructor(network, recipe, notices.warn)
    return PreparedMethod(method, NETWORK, title, facts, precision=wanted.precision, scale=bundle.uncertainty_scale)


def _precision(said: str, device: torch.device) -> str:
    if said not in ("fp32", "tf32", "bf16"):
        raise UsageError(f"--precision {said}: fp32, bf16, or tf32 on a GPU")
    if said == "tf32" and device.type != "cuda":
        raise UsageError(f"--precision tf32 is of CUDA GPUs, and the device is {device}: use fp32 or bf16")
    return said


def _bytes(said: str | None) -> int | None:
    """Return the bytes of a size such as 8G, 500M or 1.5g."""
    if said is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT])(?:i?B)?", said.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise UsageError(f"--memory {said}: give a size, such as 8G or 500M")
    return round(float(found[1]) * 1024.0 ** (1 + "KMGT".index(found[2].upper())))

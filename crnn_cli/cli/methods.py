"""Which method a command runs: a network from a bundle, or a classical one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from crnn_cli.reconstruction import Method

NETWORK = "crnn"


@dataclass(frozen=True)
class Chosen:
    """A method ready to run; its name, what people read of it, and what a report says."""

    method: Method
    name: str
    title: str
    facts: dict[str, Any]


def names() -> list[str]:
    """Return the names of all methods."""
    from crnn_cli.mri.classical import METHODS

    return [NETWORK, *METHODS]


def choose(
    name: str, model: str | None, iterations: int | None, weight: float | None, noise: float | None,
    device: torch.device,
) -> Chosen:  # fmt: skip
    """Return the method of a name.

    Raises
    ------
    UsageError
        If there is none, or an option is given that it does not know.
    CrnnError
        See `crnn_cli.bundles` for the model.
    """
    if name == NETWORK:
        if weight is not None:
            raise UsageError(f"--weight belongs to the classical methods; for {NETWORK} there is --noise")
        return _network(model, iterations, noise, device)
    from crnn_cli.cli.report import made_by
    from crnn_cli.mri.classical import METHODS
    from crnn_cli.reconstruction import ByFormula

    if name not in METHODS:
        raise UsageError(f"--method {name} is not known: use {', '.join(names())}")
    if model is not None:
        raise UsageError(f"--model belongs to --method {NETWORK}, not to {name}")
    if noise is not None:
        raise UsageError(f"--noise belongs to --method {NETWORK}; the others take --weight")
    known = METHODS[name]
    if weight is not None and not known.weighs:
        raise UsageError(f"--weight does not belong to --method {name}: it has none")
    if iterations is not None and not known.iterations:
        raise UsageError(f"--iterations does not belong to --method {name}: it does not iterate")
    if iterations == 0:
        raise UsageError(f"--iterations 0: {name} needs at least 1")
    method = ByFormula(name, weight, iterations or known.iterations)
    facts = made_by() | {"method": {"name": name, "title": known.title, "paper": known.paper}}
    facts |= {"weight": weight, "weights": method.used, "iterations": method.iterations}
    return Chosen(method, name, known.title, facts)


def _network(model: str | None, iterations: int | None, noise: float | None, device: torch.device) -> Chosen:
    from crnn_cli.bundles import find_bundle, load_reconstruction
    from crnn_cli.cli.report import provenance
    from crnn_cli.reconstruction import ByNetwork, Recipe

    bundle = find_bundle(model, "reconstruct")
    network = load_reconstruction(bundle, device)
    iterations = network.config.iterations if iterations is None else iterations
    method = ByNetwork(network, Recipe(bundle.start, bundle.amplitude, iterations, noise))
    facts = provenance(bundle) | {"method": {"name": NETWORK}, "iterations": iterations, "noise": noise}
    return Chosen(method, NETWORK, f"{bundle.name} ({bundle.licence})", facts)

"""Import of weights that were published elsewhere: PyTorch checkpoints of the original CRNN-MRI code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from crnn_cli.bundles.checkpoint_file import load_checkpoint
from crnn_cli.bundles.store import Bundle, build_network, check_weights, write_bundle
from crnn_cli.errors import UnreadableError

_PUBLISHED_PREFIX = "bcrnn.CRNN_model."


def read_published_checkpoint(file: Path) -> dict[str, torch.Tensor]:
    """Read a PyTorch checkpoint of the original CRNN-MRI code, and give the weights our names.

    Only tensors are unpickled (``weights_only``): no code in the file is executed.

    Raises
    ------
    UnreadableError
        If the file is missing, is no such checkpoint, or holds anything but tensors.
    """
    if not file.is_file():
        raise UnreadableError(f"{file} does not exist or is a folder; name a PyTorch checkpoint (.pth)")
    state = load_checkpoint(file)
    named = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and not value.is_quantized and not value.is_sparse
        for name, value in state.items()
    )
    if not named:
        raise UnreadableError(f"{file} is not a table of weights (a state dict): names and plain tensors")
    if any(value.is_complex() for value in state.values()):
        raise UnreadableError(f"{file} holds complex values, where weights are real")
    return {name.replace(_PUBLISHED_PREFIX, "bcrnn."): value.float() for name, value in state.items()}


def import_checkpoint(file: Path, folder: Path, iterations: int, input_rms: float, licence: str) -> Bundle:
    """Convert a published checkpoint to a bundle; it starts from the zero-filled image, as published.

    Parameters
    ----------
    file : checkpoint (.pth).
    folder : of the bundle, which must not exist.
    iterations : that the network was trained with; the checkpoint does not say.
    input_rms : energy-weighted r.m.s. that the network expects of its input; the checkpoint does not say. With a wrong
        value images are worse, and nothing warns of it.
    licence : of the weights, for the card.

    Raises
    ------
    UnreadableError
        If the checkpoint is not of CRNN-MRI, or weights are missing, unknown or misshapen.
    OutputError
        If the bundle exists or cannot be written.
    """
    weights = read_published_checkpoint(file)
    settings = _settings_of(weights, iterations)
    with torch.device("meta"):  # sizes are compared before any memory is taken
        check_weights(str(file), build_network(str(file), "crnn-mri", dict(settings)), weights)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    config = {
        "task": "reconstruct", "network": "crnn-mri", "settings": settings, "initial_image": "zero-filled",
        "input_rms": input_rms, "licence": licence, "summary": f"imported from {file.name}",
    }  # fmt: skip
    card = (
        f"# {folder.name}\n\nImported from the PyTorch checkpoint `{file.name}` (sha256 {checksum}).\n\n"
        f"Licence of the weights: {licence}. Not trained by this project; not for diagnostic use.\n"
    )
    return write_bundle(folder, config, weights, card)


def _settings_of(weights: dict[str, torch.Tensor], iterations: int) -> dict[str, int]:
    """Infer the CRNN-MRI settings from weights; UnreadableError if they are of another network."""
    first = weights.get("bcrnn.i2h.weight")
    if first is None or first.ndim != 4:
        raise UnreadableError("these weights are not of CRNN-MRI: there is no bcrnn.i2h.weight among them")
    return {"features": int(first.shape[0]), "kernel": int(first.shape[-1]), "iterations": iterations}

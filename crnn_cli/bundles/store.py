"""Bundles: published models as data. Find, check and load one, or write one.

A bundle is a folder of three files: README.md (the model card), config.json (see `crnn_cli.bundles.config`) and
weights.safetensors. Weights may be stored in half precision, or in 8 bits (`crnn_cli.bundles.int8`); networks run in
single precision.

Nothing in a bundle is ever executed. torch is imported only where a network is built.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.bundles.checks import check_keys, shortened
from crnn_cli.bundles.config import CARD, CONFIG, FORMAT, WEIGHTS, Bundle, read_bundle
from crnn_cli.data.input_files import read_small
from crnn_cli.data.write_set import WriteSet, named_errors, recover
from crnn_cli.errors import OutputError, OutputExistsError, Param, UnreadableError, UnsupportedDataError, UsageError

if TYPE_CHECKING:
    import torch

    from crnn_cli.networks.crnn_mri import CRNNMRI
    from crnn_cli.networks.drawn_clstm import DrawnCLSTM
    from crnn_cli.networks.forecaster import CineForecaster
    from crnn_cli.networks.live_crnn import LiveCRNN
    from crnn_cli.networks.slice_clstm import SliceCLSTM

    Network = CRNNMRI | LiveCRNN | SliceCLSTM | DrawnCLSTM | CineForecaster

__all__ = [
    "CARD",
    "DEFAULT_MODELS",
    "Bundle",
    "build_network",
    "check_weights",
    "find_bundle",
    "folder_of_bundles",
    "is_bundle_alone",
    "list_bundles",
    "load_drawn",
    "load_forecaster",
    "load_network",
    "load_reconstruction",
    "load_segmentation",
    "read_bundle",
    "require_new",
    "write_bundle",
]
_LARGEST_SETTING = 4096
_LARGEST_WEIGHTS = 2**32
DEFAULT_MODELS = {
    "reconstruct": "cine-crnn", "segment": "cardiac-sax-clstm", "segment-drawn": "drawn-clstm",
    "forecast": "cine-forecast",
}  # fmt: skip
_PURPOSES = {
    "reconstruct": "to reconstruct", "segment": "to segment", "segment-drawn": "to label a scan from drawn slices",
    "forecast": "to forecast",
}  # fmt: skip


def folder_of_bundles() -> Path:
    """Folder of the published bundles: inside the installed package, or in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def list_bundles() -> list[Bundle]:
    """Read the published bundles, sorted by name.

    >>> [bundle.name for bundle in list_bundles() if bundle.task == "reconstruct"]
    ['cine-crnn', 'cine-crnn-fast', 'cine-crnn-live']
    """
    return [read_bundle(config.parent) for config in sorted(folder_of_bundles().glob(f"*/{CONFIG}"))]


def find_bundle(name: str | None, task: str | None = None) -> Bundle:
    """Find a bundle by its published name or its folder, and read its config.json.

    >>> find_bundle("cine-crnn").licence
    'CC0-1.0'

    Parameters
    ----------
    name : of a published model, or a bundle folder; None for the default model of the task.
    task : "reconstruct", "segment", "segment-drawn" or "forecast", which the model must be for; None for any.

    Raises
    ------
    UsageError
        If no published model has the name; the message suggests the nearest.
    UnreadableError
        If it is a folder, but no valid bundle.
    UnsupportedDataError
        If it is for another task.
    """
    name = DEFAULT_MODELS[task] if name is None and task is not None else str(name)
    bundle = read_bundle(_folder_of(name))
    if task is not None and bundle.task != task:
        fitting = ", ".join(other.name for other in list_bundles() if other.task == task) or "none"
        takes_drawn = (bundle.task, task) == ("segment-drawn", "segment")
        raise UnsupportedDataError(
            f"the model {name} is {_PURPOSES[bundle.task]}, not {_PURPOSES[task]}; for that there is: {fitting}",
            remedy=("give drawn slices with ", Param("drawn")) if takes_drawn else (),
        )
    return bundle


def _folder_of(name: str) -> Path:
    published = folder_of_bundles() / name
    if Path(name).name == name and (published / CONFIG).is_file():
        return published
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    names = [config.parent.name for config in sorted(folder_of_bundles().glob(f"*/{CONFIG}"))]
    listing = f"the published models are {', '.join(names) or 'none'}"
    if name and (Path(name).exists() or Path(name).name != name):
        why = f"holds no {CONFIG}" if Path(name).exists() else "does not exist"
        raise UnreadableError(f"{name} is no bundle folder: it {why}; {listing}")
    near = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"there is no model {name}", remedy=[f"{meant}{listing}; a bundle folder will do as well"])


def load_network(bundle: Bundle, device: torch.device) -> Network:
    """Build the network of a bundle and load its weights.

    Parameters
    ----------
    bundle : see `find_bundle`.
    device : where the network is put.

    Returns
    -------
    The network in evaluation mode, in single precision.

    Raises
    ------
    UnreadableError
        If the weights are missing, altered (sha256), not finite, or do not fit the network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from crnn_cli.bundles.int8 import dequantize

    file = bundle.folder / WEIGHTS
    content = read_small(file, _LARGEST_WEIGHTS)
    found = hashlib.sha256(content).hexdigest()
    if found != bundle.sha256:
        raise UnreadableError(
            f"{file} is damaged or was replaced: its sha256 is {found[:12]}..., {CONFIG} says {bundle.sha256[:12]}..."
        )
    try:
        weights = dequantize(load(content))
    except SafetensorError as error:
        raise UnreadableError(f"{file} is not a safetensors file: {error}") from None
    source = str(bundle.folder / CONFIG)
    with torch.device("meta"):  # sizes are compared before any memory is taken
        check_weights(str(file), build_network(source, bundle.network, bundle.settings), weights)
    network = build_network(source, bundle.network, bundle.settings)
    network.load_state_dict(weights)
    return network.to(device).eval()


def load_reconstruction(bundle: Bundle, device: torch.device) -> CRNNMRI | LiveCRNN:
    """Load the network of a reconstruction bundle; see `load_network`.

    Raises
    ------
    UnreadableError
        If it is a network that does not reconstruct.
    """
    from crnn_cli.networks.crnn_mri import CRNNMRI
    from crnn_cli.networks.live_crnn import LiveCRNN

    network = load_network(bundle, device)
    if not isinstance(network, CRNNMRI | LiveCRNN):
        raise UnreadableError(f"{bundle.folder / CONFIG}: {bundle.network} is no network that reconstructs")
    return network


def load_segmentation(bundle: Bundle, device: torch.device) -> SliceCLSTM:
    """Load the network of a segmentation bundle; see `load_network`.

    Raises
    ------
    UnreadableError
        If it is another network, or its classes are not the labels of the bundle and a background.
    """
    from crnn_cli.networks.slice_clstm import SliceCLSTM

    network = load_network(bundle, device)
    if not isinstance(network, SliceCLSTM):
        raise UnreadableError(f"{bundle.folder / CONFIG}: {bundle.network} is no network that segments")
    if bundle.slices is None or network.config.classes != len(bundle.slices.labels) + 1:
        raise UnreadableError(f"{bundle.folder / CONFIG}: the network's classes are not the labels and a background")
    return network


def load_drawn(bundle: Bundle, device: torch.device) -> DrawnCLSTM:
    """Load the network of a bundle for drawn slices; see `load_network`.

    Raises
    ------
    UnreadableError
        If it is another network.
    """
    from crnn_cli.networks.drawn_clstm import DrawnCLSTM

    network = load_network(bundle, device)
    if not isinstance(network, DrawnCLSTM) or bundle.drawn is None:
        raise UnreadableError(f"{bundle.folder / CONFIG}: {bundle.network} is no network for drawn slices")
    return network


def load_forecaster(bundle: Bundle, device: torch.device) -> CineForecaster:
    """Load the network of a forecasting bundle; see `load_network`.

    Raises
    ------
    UnreadableError
        If it is a network that does not forecast.
    """
    from crnn_cli.networks.forecaster import CineForecaster

    network = load_network(bundle, device)
    if not isinstance(network, CineForecaster):
        raise UnreadableError(f"{bundle.folder / CONFIG}: {bundle.network} is no network that forecasts")
    return network


def build_network(source: str, name: str, settings: dict[str, Any]) -> Network:
    """Build an untrained network.

    Parameters
    ----------
    source : of the settings, for messages.
    name : "crnn-mri", "live-crnn", "slice-clstm", "drawn-clstm" or "cine-forecaster".
    settings : fields of the network's config dataclass; fields that are left out keep their default.

    Raises
    ------
    UnreadableError
        If the network or a setting is unknown, or a setting is no integer or out of range.
    """
    from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
    from crnn_cli.networks.drawn_clstm import DrawnCLSTM, DrawnCLSTMConfig
    from crnn_cli.networks.forecaster import CineForecaster, ForecasterConfig
    from crnn_cli.networks.live_crnn import LiveCRNN, LiveCRNNConfig
    from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig

    networks: dict[str, tuple[type[Any], type[Network]]] = {
        "crnn-mri": (CRNNMRIConfig, CRNNMRI), "live-crnn": (LiveCRNNConfig, LiveCRNN),
        "slice-clstm": (SliceCLSTMConfig, SliceCLSTM), "drawn-clstm": (DrawnCLSTMConfig, DrawnCLSTM),
        "cine-forecaster": (ForecasterConfig, CineForecaster),
    }  # fmt: skip
    if name not in networks:
        raise UnreadableError(f"{source}: unknown network {shortened(name)}; this version knows {', '.join(networks)}")
    sizes, network = networks[name]
    check_keys(f"{source} (settings)", settings, [field.name for field in fields(sizes)], complete=False)
    for key, value in settings.items():
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_SETTING:
            raise UnreadableError(f"{source}: {key} is {shortened(value)}; it must be a small integer")
    try:
        return network(sizes(**settings))
    except ValueError as error:
        raise UnreadableError(f"{source}: {error}") from None


def write_bundle(
    folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor], card: str, replace: bool = False
) -> Bundle:  # fmt: skip
    """Write a bundle folder, whole or not at all, on the disk when this returns.

    Parameters
    ----------
    folder : must not exist, unless it is to be replaced.
    config : all keys of config.json, format 2, but ``format`` and ``sha256``.
    weights : by their names in the network; see `crnn_cli.bundles.int8.quantize` to store them in 8 bits.
    card : Markdown of README.md.
    replace : an earlier bundle, if the folder holds one and nothing else.

    Returns
    -------
    The bundle as read back.

    Raises
    ------
    OutputExistsError
        If the folder exists.
    OutputError
        If it cannot be written.
    UnreadableError
        If the configuration would be refused when read.
    """
    from safetensors.torch import save

    require_new(folder, replace)
    content = save({name: tensor.contiguous() for name, tensor in weights.items()})
    whole = {"format": FORMAT, **config, "sha256": hashlib.sha256(content).hexdigest()}
    with WriteSet(replace) as files:
        temporary = files.add_folder(folder)
        with named_errors(folder):
            (temporary / WEIGHTS).write_bytes(content)
            (temporary / CONFIG).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
            (temporary / CARD).write_text(card, encoding="utf-8")
        read_bundle(temporary)
        files.commit()
    return read_bundle(folder)


def require_new(folder: Path, replace: bool = False) -> None:
    """Check that a bundle folder can be created.

    Parameters
    ----------
    replace : whether it may hold a bundle and nothing else.

    Raises
    ------
    OutputExistsError
        If it exists.
    OutputError
        If its parent does not exist or is read-only.
    """
    if not folder.parent.is_dir():
        raise OutputError(f"cannot write {folder}: the folder {folder.parent} does not exist; create it first")
    recover(folder.parent)  # of a run that was killed while it moved a bundle there
    if os.path.lexists(folder) and not (replace and is_bundle_alone(folder)):
        raise OutputExistsError(f"{folder} exists already; give another name, or remove it")
    with WriteSet() as files:
        files.add_folder(folder)


def is_bundle_alone(folder: Path) -> bool:
    """Whether a folder holds a bundle and nothing else, so that it may be replaced; False for a link to one."""
    return (
        not folder.is_symlink()
        and folder.is_dir()
        and {each.name for each in folder.iterdir()} == {CARD, CONFIG, WEIGHTS}
    )


def check_weights(source: str, network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Check weights against a network.

    Parameters
    ----------
    source : of the weights, for messages.
    network : that they are for.
    weights : by their names.

    Raises
    ------
    UnreadableError
        If a name is missing or unknown, a shape or type differs, or a value is not finite.
    """
    expected = network.state_dict()
    check_keys(source, weights, expected, noun="weight")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise UnreadableError(f"{source}: {name} is {tuple(tensor.shape)}, not {tuple(expected[name].shape)}")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise UnreadableError(f"{source}: {name} is {tensor.dtype}, not {expected[name].dtype}")
        if not tensor.isfinite().all():
            raise UnreadableError(f"{source}: {name} has values that are not finite")

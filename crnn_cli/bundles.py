"""Bundles: published models as data. Find one, check it, build its network, load it; or make one.

A bundle is a folder of three files: README.md (the card), config.json, weights.safetensors. config.json:

    format       1
    task         "reconstruct"
    network      a key of the table of networks, such as "crnn-mri"
    settings     the fields of that network's config dataclass
    start        the image the network starts from: "view-shared" or "zero-filled"
    amplitude    energy-weighted r.m.s. that the start image is scaled to
    licence      of the weights
    summary      one line for lists
    sha256       of weights.safetensors

Nothing in a bundle is ever executed. torch is imported only where a network is built.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import OutputError, UnreadableError, UnsupportedDataError

if TYPE_CHECKING:
    import torch

    from crnn_cli.networks.crnn_mri import CRNNMRI

DEFAULT_RECONSTRUCTION = "cine-crnn"
CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
FORMAT = 1
_KEYS: dict[str, type | tuple[type, ...]] = {
    "format": int, "task": str, "network": str, "settings": dict, "start": str, "amplitude": (int, float),
    "licence": str, "summary": str, "sha256": str,
}  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """What a bundle folder says of itself; `load_network` builds the network.

    name : of the folder. settings : of the network. sha256 : of the weights, checked on loading.
    """

    name: str
    folder: Path
    task: str
    network: str
    settings: dict[str, Any]
    start: str
    amplitude: float
    licence: str
    summary: str
    sha256: str


def folder_of_bundles() -> Path:
    """Return where the published bundles lie: inside the installed package, or in the checkout."""
    package = Path(__file__).parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def list_bundles() -> list[Bundle]:
    """Return the published bundles by name."""
    return [read_bundle(config.parent) for config in sorted(folder_of_bundles().glob(f"*/{CONFIG}"))]


def find_bundle(name: str) -> Bundle:
    """Return the bundle of a published name, or in a folder.

    Raises
    ------
    UnreadableError
        If there is none; the message names the published ones.
    """
    published = folder_of_bundles() / name
    if Path(name).name == name and (published / CONFIG).is_file():
        return read_bundle(published)
    if (Path(name) / CONFIG).is_file():
        return read_bundle(Path(name))
    names = [config.parent.name for config in sorted(folder_of_bundles().glob(f"*/{CONFIG}"))]
    raise UnreadableError(f"no model {name}: it is neither a bundle folder nor one of {', '.join(names) or 'none'}")


def read_bundle(folder: Path) -> Bundle:
    """Return what config.json of a bundle folder says, checked.

    Raises
    ------
    UnreadableError
        If the file is not JSON, or a key is missing, unknown or of the wrong type.
    """
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{file} is not readable as JSON: {error}") from None
    if not isinstance(config, dict):
        raise UnreadableError(f"{file} holds no JSON object")
    _check_keys(str(file), config, _KEYS)
    for key, kind in _KEYS.items():
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            raise UnreadableError(f"{file}: {key} is {config[key]!r}, which is not of the right type")
    if config["format"] != FORMAT:
        raise UnreadableError(f"{file} has format {config['format']}; this version reads format {FORMAT}")
    if config["task"] != "reconstruct":
        raise UnsupportedDataError(f"{file} is for the task {config['task']}, which this version does not know")
    if config["start"] not in ("view-shared", "zero-filled"):
        raise UnreadableError(f"{file}: start is {config['start']!r}, which is neither view-shared nor zero-filled")
    if not 0 < config["amplitude"] < 1e9:
        raise UnreadableError(f"{file}: amplitude is no positive number below 1e9")
    fields = {key: value for key, value in config.items() if key != "format"}
    return Bundle(name=folder.resolve().name, folder=folder, **fields)


def load_network(bundle: Bundle, device: torch.device) -> CRNNMRI:
    """Build the bundle's network, load its weights, and return it on the device, in evaluation mode.

    Raises
    ------
    UnreadableError
        If the weights are missing, altered (sha256), not finite, or do not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = bundle.folder / WEIGHTS
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{file} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != bundle.sha256:
        raise UnreadableError(
            f"{file} is damaged or was replaced: its sha256 is {found[:12]}..., {CONFIG} says {bundle.sha256[:12]}..."
        )
    try:
        weights = load(content)
    except SafetensorError as error:
        raise UnreadableError(f"{file} is not a safetensors file: {error}") from None
    network = build_network(str(bundle.folder / CONFIG), bundle.network, bundle.settings)
    check_weights(str(file), network, weights)
    network.load_state_dict(weights)
    return network.to(device).eval()


def build_network(source: str, name: str, settings: dict[str, Any]) -> CRNNMRI:
    """Return an untrained network of the table, with the settings given.

    Raises
    ------
    UnreadableError
        If the network or a setting is unknown, or a setting is not a positive integer.
    """
    from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig

    networks = {"crnn-mri": (CRNNMRIConfig, CRNNMRI)}
    if name not in networks:
        raise UnreadableError(f"{source}: unknown network {name!r}; this version knows {', '.join(networks)}")
    config_type, network_type = networks[name]
    known = list(config_type.__dataclass_fields__)
    _check_keys(f"{source} (settings)", settings, known, complete=False)
    for key, value in settings.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1024:
            raise UnreadableError(f"{source}: {key} is {value!r}; it must be an integer from 1 to 1024")
    config = config_type(**settings)
    if config.kernel % 2 == 0:
        raise UnreadableError(f"{source}: kernel is {config.kernel}; it must be odd")
    return network_type(config)


def write_bundle(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor], card: str) -> Bundle:
    """Write a bundle folder, whole or not at all, and return it as read back.

    Parameters
    ----------
    folder : must not exist. config : all keys but ``format`` and ``sha256``.

    Raises
    ------
    OutputError
        If the folder exists or cannot be written.
    """
    from safetensors.torch import save

    if folder.exists():
        raise OutputError(f"{folder} exists already; give another name with -o, or remove it")
    if not folder.parent.is_dir():
        raise OutputError(f"cannot write {folder}: the folder {folder.parent} does not exist; create it first")
    content = save({name: tensor.contiguous() for name, tensor in weights.items()})
    whole = {"format": FORMAT, **config, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".crnn-", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from None
    try:
        (temporary / WEIGHTS).write_bytes(content)
        (temporary / CONFIG).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        (temporary / CARD).write_text(card, encoding="utf-8")
        read_bundle(temporary)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_bundle(folder)


def check_weights(source: str, network: CRNNMRI, weights: dict[str, torch.Tensor]) -> None:
    """Raise UnreadableError unless the weights are finite and have the names and shapes of the network's."""
    expected = network.state_dict()
    _check_keys(source, weights, expected, noun="weight")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise UnreadableError(f"{source}: {name} is {tuple(tensor.shape)}, not {tuple(expected[name].shape)}")
        if not tensor.isfinite().all():
            raise UnreadableError(f"{source}: {name} has values that are not finite")


def _check_keys(
    source: str, given: Iterable[str], known: Iterable[str], complete: bool = True, noun: str = "key"
) -> None:
    given, known = list(given), list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0)
            raise UnreadableError(f"{source} has an unknown {noun} {key!r}; the nearest known is {near[0]!r}")
    missing = [key for key in known if key not in given]
    if complete and missing:
        raise UnreadableError(f"{source} lacks the {noun} {missing[0]!r}")

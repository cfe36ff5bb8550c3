"""config.json of a bundle: what a published model says of itself, checked.

format       1
task         "reconstruct" or "segment"
network      a key of the table of networks, such as "crnn-mri"
settings     the fields of that network's config dataclass
licence      of the weights
summary      one line for lists
sha256       of weights.safetensors

task reconstruct:
start        the image the network starts from: "total-variation", "time-wiener", "view-shared" or "zero-filled"
amplitude    energy-weighted r.m.s. that the start image is scaled to
bfloat16     optional: true where images were measured to be as good, to 0.05 dB, with the network in bfloat16
uncertainty  optional: {"scale": number}, standard deviations of the error in units of the change from run to run, as
             measured on cases with a known truth; see `crnn_cli.assessment.uncertainty`

task segment:
plane        of the slices: "axial", "coronal", "sagittal", or "thickest": across the widest spacing
spacing      of the network's pixels in the slice, mm
intensity    {"rule": "percentiles" or "window", "low": number, "high": number}
labels       [{"value": 1, "name": "...", "colour": [red, green, blue]}, ...], values 1, 2, ... in order; perhaps with
             "code" and "modifier", each [scheme, value, meaning], such as ["SCT", "87878005", "Left ventricle"]
plausible    {"in_slice": [least, most], "between_slices": [least, most]}: spacings of images it is meant for, mm
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.labels.names import Label

CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
FORMAT = 1
Kinds = dict[str, type | tuple[type, ...]]
_COMMON: Kinds = {
    "format": int, "task": str, "network": str, "settings": dict, "licence": str, "summary": str, "sha256": str,
}  # fmt: skip
_OF_TASK: dict[str, Kinds] = {
    "reconstruct": {"start": str, "amplitude": (int, float)},
    "segment": {"plane": str, "spacing": (int, float), "intensity": dict, "labels": list, "plausible": dict},
}
_OPTIONAL = ("bfloat16", "uncertainty")
_STARTS = ("total-variation", "time-wiener", "view-shared", "zero-filled")
_CODES = ("code", "modifier")
_CODE_LENGTHS = (16, 16, 64)
_PLANES = ("axial", "coronal", "sagittal", "thickest")


@dataclass(frozen=True)
class SliceInput:
    """How a segmentation model is to be fed, and what its classes are; see the top of this file.

    plane : None for "thickest". in_slice, between_slices : (least, most) plausible spacing in mm.
    """

    plane: str | None
    spacing: float
    rule: str
    low: float
    high: float
    labels: tuple[Label, ...]
    in_slice: tuple[float, float]
    between_slices: tuple[float, float]


@dataclass(frozen=True)
class Bundle:
    """What a bundle folder says of itself.

    name : of the folder. settings : of the network. sha256 : of the weights, checked on loading.
    start, amplitude : of a reconstruction model, else "" and 0. scale : of its uncertainty, None where it was not
    measured. bfloat16 : whether it may compute so by itself. slices : of a segmentation model, else None.
    """

    name: str
    folder: Path
    task: str
    network: str
    settings: dict[str, Any]
    licence: str
    summary: str
    sha256: str
    start: str = ""
    amplitude: float = 0.0
    scale: float | None = None
    bfloat16: bool = False
    slices: SliceInput | None = None


def read_bundle(folder: Path) -> Bundle:
    """Return what config.json of a bundle folder says, checked.

    Raises
    ------
    UnreadableError
        If the file is not JSON, or a key is missing, unknown, of the wrong type or out of range.
    UnsupportedDataError
        If the task is unknown.
    """
    file = folder / CONFIG
    config = read_object(file)
    if "task" not in config:
        raise UnreadableError(f"{file} lacks the key 'task'")
    task = config["task"]
    if task not in list(_OF_TASK):
        raise UnsupportedDataError(f"{file} is for the task {task}, which this version does not know")
    optional = _OPTIONAL if task == "reconstruct" else ()
    _check(str(file), {key: value for key, value in config.items() if key not in optional}, _COMMON | _OF_TASK[task])
    if config["format"] != FORMAT:
        raise UnreadableError(f"{file} has format {config['format']}; this version reads format {FORMAT}")
    own = _start_of(str(file), config) if task == "reconstruct" else {"slices": _slice_use(str(file), config)}
    common = {key: config[key] for key in _COMMON if key != "format"}
    return Bundle(name=folder.resolve().name, folder=folder, **common, **own)


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file; UnreadableError if there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{file} is not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UnreadableError(f"{file} holds no JSON object")
    return content


def _start_of(file: str, config: dict[str, Any]) -> dict[str, Any]:
    if config["start"] not in _STARTS:
        raise UnreadableError(f"{file}: start is {config['start']!r}, not {', '.join(_STARTS[:-1])} or {_STARTS[-1]}")
    if not 0 < config["amplitude"] < 1e9:
        raise UnreadableError(f"{file}: amplitude is no positive number below 1e9")
    half = config.get("bfloat16", False)
    if not isinstance(half, bool):
        raise UnreadableError(f"{file}: bfloat16 is {half!r}, neither true nor false")
    own = {"start": config["start"], "amplitude": config["amplitude"]}
    return own | {"scale": _scale(file, config), "bfloat16": half}


def _scale(file: str, config: dict[str, Any]) -> float | None:
    """Return the scale of the uncertainty; None where the bundle says nothing of it."""
    given = config.get("uncertainty")
    if given is None:
        return None
    where = f"{file} (uncertainty)"
    if not isinstance(given, dict):
        raise UnreadableError(f"{where} is {given!r}; it must be an object with a scale")
    _check(where, given, {"scale": (int, float)})
    if not 0 < given["scale"] < 1e6:
        raise UnreadableError(f"{where}: scale is no positive number below 1e6")
    return float(given["scale"])


def _slice_use(file: str, config: dict[str, Any]) -> SliceInput:
    intensity, plausible = config["intensity"], config["plausible"]
    number: tuple[type, ...] = (int, float)
    _check(f"{file} (intensity)", intensity, {"rule": str, "low": number, "high": number})
    _check(f"{file} (plausible)", plausible, {"in_slice": list, "between_slices": list})
    if config["plane"] not in _PLANES:
        raise UnreadableError(f"{file}: plane is {config['plane']!r}; it must be one of {', '.join(_PLANES)}")
    if not 0.01 <= config["spacing"] <= 100:
        raise UnreadableError(f"{file}: spacing is {config['spacing']}; it must be from 0.01 to 100 mm")
    rule, low, high = intensity["rule"], float(intensity["low"]), float(intensity["high"])
    if rule not in ("percentiles", "window") or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UnreadableError(f"{file}: intensity must have a rule, percentiles or window, and low below high")
    if rule == "percentiles" and not (low >= 0 and high <= 100):
        raise UnreadableError(f"{file}: percentiles must lie between 0 and 100")
    ranges = [_range(f"{file}: {name}", plausible[name]) for name in ("in_slice", "between_slices")]
    plane = None if config["plane"] == "thickest" else config["plane"]
    return SliceInput(plane, float(config["spacing"]), rule, low, high, _labels(file, config["labels"]), *ranges)


def _labels(file: str, listed: list[Any]) -> tuple[Label, ...]:
    """Return the labels; their values must be 1, 2, ... in order, which is the order of the network's classes."""
    labels = []
    for place, entry in enumerate(listed, start=1):
        where = f"{file}: label {place}"
        if not isinstance(entry, dict):
            raise UnreadableError(f"{where} is no JSON object")
        _check(where, {k: v for k, v in entry.items() if k not in _CODES}, {"value": int, "name": str, "colour": list})
        colour = entry["colour"]
        if len(colour) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in colour):
            raise UnreadableError(f"{where} has the colour {colour!r}; it must be three integers from 0 to 255")
        if entry["value"] != place or not entry["name"].strip():
            raise UnreadableError(f"{where} has the value {entry['value']} or no name: values are 1, 2, ... in order")
        code, modifier = (_code(where, key, entry.get(key)) for key in _CODES)
        labels.append(Label(place, entry["name"], (colour[0], colour[1], colour[2]), code, modifier))
    if not 1 <= len(labels) <= 255 or len({label.name for label in labels}) < len(labels):
        raise UnreadableError(f"{file}: there must be 1 to 255 labels, with names that differ")
    return tuple(labels)


def _code(where: str, key: str, given: Any) -> tuple[str, str, str] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 3 or not all(isinstance(v, str) and v.strip() for v in given):
        raise UnreadableError(f"{where} has the {key} {given!r}; it must be three texts: scheme, value, meaning")
    for text, most in zip(given, _CODE_LENGTHS, strict=True):
        if len(text) > most:
            raise UnreadableError(f"{where} has the {key} {given!r}; {text!r} is longer than {most} characters")
    return given[0], given[1], given[2]


def _range(where: str, given: list[Any]) -> tuple[float, float]:
    numbers = [v for v in given if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(given) != 2 or len(numbers) != 2 or not 0 <= numbers[0] < numbers[1] < math.inf:
        raise UnreadableError(f"{where} is {given!r}; it must be [least, most] in mm")
    return float(numbers[0]), float(numbers[1])


def _check(where: str, given: Mapping[str, Any], kinds: Kinds) -> None:
    check_keys(where, given, kinds)
    for key, kind in kinds.items():
        if not isinstance(given[key], kind) or isinstance(given[key], bool):
            raise UnreadableError(f"{where}: {key} is {given[key]!r}, which is not of the right type")


def check_keys(
    source: str, given: Iterable[str], known: Iterable[str], complete: bool = True, noun: str = "key"
) -> None:
    """Raise UnreadableError at the first key that is unknown, naming the nearest, or missing (if ``complete``)."""
    given, known = list(given), list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0)
            raise UnreadableError(f"{source} has an unknown {noun} {key!r}; the nearest known is {near[0]!r}")
    missing = [key for key in known if key not in given]
    if complete and missing:
        raise UnreadableError(f"{source} lacks the {noun} {missing[0]!r}")

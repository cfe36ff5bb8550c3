"""config.json of a bundle: how a published model is described, read and checked.

format               2; format 1 is read as well, see below
task                 "reconstruct", "segment", "segment-drawn" or "forecast"
network              "crnn-mri", "slice-clstm", "drawn-clstm" or "cine-forecaster"
settings             fields of that network's config dataclass, such as `crnn_cli.networks.crnn_mri.CRNNMRIConfig`
licence              of the weights
summary              one line for lists
sha256               of weights.safetensors

Task "reconstruct":

initial_image        image that the network starts from: "total-variation", "time-wiener", "view-shared", "zero-filled";
                     of a causal network "causal-total-variation" or "running"
input_rms            energy-weighted r.m.s. that the initial image is scaled to
bfloat16             optional; true where bfloat16 was measured to lose at most 0.05 dB
uncertainty          optional; {"scale": number}, standard deviation of the error per unit of the spread between runs,
                     measured on cases with a known truth; see `crnn_cli.assessment.uncertainty`
expected_psnr        optional; law of the PSNR that is expected without a truth; see `crnn_cli.bundles.psnr_law`

Task "segment":

plane                of the slices: "axial", "coronal", "sagittal", or "thickest": across the widest spacing
spacing              of the network's pixels in the slice, mm
intensity            {"rule": "percentiles" or "window", "low": number, "high": number}
labels               [{"value": 1, "name": "...", "colour": [red, green, blue]}, ...], values 1, 2, ... in order;
                     optional "code" and "modifier", each [scheme, value, meaning], such as
                     ["SCT", "87878005", "Left ventricle"]
expected_spacing_mm  {"in_slice": [least, most], "between_slices": [least, most]}: images that the model is meant for
modality             optional; of DICOM, such as "MR": images that say they are of another are refused
keep_within_mm       optional; pieces farther than this from the largest one are removed, in each frame: first of all
                     structures together, then of each
class_weights        optional; a number above 0 up to 1 for each label, by which its probability is multiplied before
                     all are normalised again; see `crnn_cli.segmentation.segment.weighted`
base_rule            optional; {"certainty": [...], "cover": [...]}, each 0 to 1 for each label: labels in the outermost
                     slices at the base are dropped below; see `crnn_cli.labels.doubtful_base`
smooth_frames_ms     optional; labels of a frame are settled with those of the frames up to this long before and after
quality              optional; {"doubt_below": Dice, "curves": [{"expected": [...], "dice": [...]}, ...]}, a curve for
                     each label; see `crnn_cli.labels.predicted_dice`
intervals            optional, with quality; {"level": 0 to 1, "group_level": 0 to 1, "patients": number,
                     "least_doubt": number, "limits": {"left.edv": number, ...}}; see `crnn_cli.cardiac.intervals`.
                     Limits without a group_level are of an earlier rule, and not used

Task "segment-drawn" (labels of a scan from drawn slices, of any structure):

quality              optional; as of "segment", with one curve for every structure
measured             optional; {"cases": number, "dice": mean, "nearest": mean, "distances": mean}: Dice of slices that
                     were not drawn, of the model and of the methods without one, on cases that it was not trained on

Task "forecast":

frames_ahead         frames that the network was trained to look ahead

Format 1 has other names for some keys: start (initial_image), amplitude (input_rms), plausible (expected_spacing_mm);
and in the settings of "crnn-mri": sets (weight_sets), shift (tsm_channels), context (temporal_context), trust
(noise_aware). Weights are the same in both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crnn_cli.bundles.checks import LARGEST, Kinds, check_shares, check_types, is_number, shortened
from crnn_cli.bundles.psnr_law import PSNRLaw, read_psnr_law, read_uncertainty_scale
from crnn_cli.data.input_files import read_small
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.labels.base_rule import BaseRule
from crnn_cli.labels.interval_limits import NUMBERS, IntervalLimits
from crnn_cli.labels.names import Label
from crnn_cli.labels.quality_curves import QualityCurves

CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
FORMAT = 2
_COMMON: Kinds = {
    "format": int, "task": str, "network": str, "settings": dict, "licence": str, "summary": str, "sha256": str,
}  # fmt: skip
_OF_TASK: dict[str, Kinds] = {
    "reconstruct": {"initial_image": str, "input_rms": (int, float)},
    "segment": {"plane": str, "spacing": (int, float), "intensity": dict, "labels": list, "expected_spacing_mm": dict},
    "segment-drawn": {},
    "forecast": {"frames_ahead": int},
}
_FORMAT_1 = {"initial_image": "start", "input_rms": "amplitude", "expected_spacing_mm": "plausible"}
"""Keys by their names in format 1."""
FORMAT_1_SETTINGS = {
    "weight_sets": "sets", "tsm_channels": "shift", "temporal_context": "context", "noise_aware": "trust",
}  # fmt: skip
"""Settings of CRNN-MRI by their names in format 1."""
_OPTIONAL = {
    "reconstruct": ("bfloat16", "uncertainty", "expected_psnr"),
    "segment": (
        "modality", "keep_within_mm", "class_weights", "base_rule", "smooth_frames_ms", "quality", "intervals",
    ),
    "segment-drawn": ("quality", "measured"),
    "forecast": (),
}  # fmt: skip
_INITIAL_IMAGES = (
    "total-variation", "time-wiener", "view-shared", "zero-filled", "running", "causal-total-variation"
)  # fmt: skip
_CODES = ("code", "modifier")
_CODE_LENGTHS = (16, 16, 64)
_PLANES = ("axial", "coronal", "sagittal", "thickest")


@dataclass(frozen=True)
class SliceInput:
    """Input and classes of a segmentation model; see the top of this file.

    Attributes
    ----------
    plane : None for "thickest".
    spacing : of the network's pixels, mm.
    rule, low, high : how intensities are scaled: by percentiles, or by a fixed window.
    in_slice, between_slices : (least, most) spacing in mm of images that the model is meant for.
    modality : of DICOM, such as "MR"; None for any.
    keep_within : distance in mm beyond which pieces are removed; None: nothing is.
    class_weights : of the labels' probabilities; empty: none.
    base_rule : which labels the outermost slices at the base keep; None: all.
    smooth_frames : time in ms on either side of a frame within which frames settle each other; None: none do.
    quality : curves that predict the Dice; None where they were not measured.
    intervals : limits of the numbers of the heart; None where they were not measured.
    """

    plane: str | None
    spacing: float
    rule: str
    low: float
    high: float
    labels: tuple[Label, ...]
    in_slice: tuple[float, float]
    between_slices: tuple[float, float]
    modality: str | None = None
    keep_within: float | None = None
    class_weights: tuple[float, ...] = ()
    base_rule: BaseRule | None = None
    smooth_frames: float | None = None
    quality: QualityCurves | None = None
    intervals: IntervalLimits | None = None


@dataclass(frozen=True)
class DrawnQuality:
    """What is known of a model that labels a scan from drawn slices; see the top of this file.

    Attributes
    ----------
    quality : one curve that predicts the Dice; None where it was not measured.
    measured : mean Dice of ``dice`` (the model), ``nearest``, ``distances`` over ``cases``; None where not measured.
    """

    quality: QualityCurves | None = None
    measured: dict[str, float] | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundle folder, as its config.json describes it; the weights are not read yet.

    Attributes
    ----------
    name : of the folder.
    settings : of the network, by the names of format 2.
    sha256 : of the weights, checked when they are loaded.
    initial_image, input_rms : of a reconstruction model, else "" and 0.
    uncertainty_scale, psnr_law : of a reconstruction model; None where it was not measured.
    bfloat16 : whether it may compute in bfloat16 without being asked.
    slices : of a segmentation model, else None.
    drawn : of a model for drawn slices, else None.
    frames_ahead : that a forecaster was trained to look ahead, else 0.
    """

    name: str
    folder: Path
    task: str
    network: str
    settings: dict[str, Any]
    licence: str
    summary: str
    sha256: str
    initial_image: str = ""
    input_rms: float = 0.0
    uncertainty_scale: float | None = None
    psnr_law: PSNRLaw | None = None
    bfloat16: bool = False
    slices: SliceInput | None = None
    drawn: DrawnQuality | None = None
    frames_ahead: int = 0


def read_bundle(folder: Path) -> Bundle:
    """Read and check config.json of a bundle folder, of format 1 or 2.

    Raises
    ------
    UnreadableError
        If the file is not JSON, or a key is missing, unknown, of the wrong type or out of range.
    UnsupportedDataError
        If the task is unknown.
    """
    file, config = str(folder / CONFIG), read_config(folder)
    common = {key: config[key] for key in _COMMON if key != "format"}
    return Bundle(name=folder.resolve().name, folder=folder, **common, **_FIELDS[config["task"]](file, config))


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a bundle folder as an object of format 2; keys and types are checked, values are not.

    Raises
    ------
    UnreadableError
        If the file is not JSON or of another format, or a key is missing, unknown or of the wrong type.
    UnsupportedDataError
        If the task is unknown.
    """
    file = folder / CONFIG
    config = read_object(file)
    if "task" not in config:
        raise UnreadableError(f"{file} lacks the key 'task'")
    task = config["task"]
    if task not in list(_OF_TASK):
        raise UnsupportedDataError(f"{file} is for the task {shortened(task)}, which this version does not know")
    if config.get("format", FORMAT) not in (1, FORMAT):
        raise UnreadableError(
            f"{file} has format {shortened(config['format'])}; this version reads formats 1 and {FORMAT}"
        )
    former = _FORMAT_1 if config.get("format") == 1 else {}
    optional = _OPTIONAL[task]
    kinds = {former.get(key, key): kind for key, kind in (_COMMON | _OF_TASK[task]).items()}
    check_types(str(file), {key: value for key, value in config.items() if key not in optional}, kinds)
    if config["format"] == 1:
        config = renamed_keys(config, _FORMAT_1) | {"format": FORMAT}
        config["settings"] = renamed_keys(config["settings"], FORMAT_1_SETTINGS)
    return config


def renamed_keys(given: Mapping[str, Any], former: Mapping[str, str]) -> dict[str, Any]:
    """Rename the keys that have a former name, in their order.

    >>> renamed_keys({"start": "zero-filled", "task": "reconstruct"}, {"initial_image": "start"})
    {'initial_image': 'zero-filled', 'task': 'reconstruct'}
    """
    now = {old: new for new, old in former.items() if old}
    return {now.get(key, key): value for key, value in given.items()}


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises
    ------
    UnreadableError
        If the file cannot be read, is not JSON, or holds something else.
    """
    try:
        content = json.loads(read_small(file).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{file} is not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UnreadableError(f"{file} holds no JSON object")
    return content


def _reconstruction_fields(file: str, config: dict[str, Any]) -> dict[str, Any]:
    """Fields of a `Bundle` that reconstructs, checked."""
    initial_image, bfloat16 = config["initial_image"], config.get("bfloat16", False)
    if initial_image not in _INITIAL_IMAGES:
        known = f"{', '.join(_INITIAL_IMAGES[:-1])} or {_INITIAL_IMAGES[-1]}"
        raise UnreadableError(f"{file}: initial_image is {shortened(initial_image)}, not {known}")
    if not 0 < config["input_rms"] < 1e9:
        raise UnreadableError(f"{file}: input_rms is no positive number below 1e9")
    if not isinstance(bfloat16, bool):
        raise UnreadableError(f"{file}: bfloat16 is {shortened(bfloat16)}, neither true nor false")
    return {
        "initial_image": initial_image, "input_rms": config["input_rms"], "bfloat16": bfloat16,
        "uncertainty_scale": read_uncertainty_scale(file, config), "psnr_law": read_psnr_law(file, config),
    }  # fmt: skip


def _forecast_fields(file: str, config: dict[str, Any]) -> dict[str, Any]:
    if not 1 <= config["frames_ahead"] <= 1000:
        raise UnreadableError(f"{file}: frames_ahead is {config['frames_ahead']}; it must be from 1 to 1000")
    return {"frames_ahead": config["frames_ahead"]}


def _segmentation_fields(file: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"slices": _slice_input(file, config)}


def _drawn_fields(file: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"drawn": DrawnQuality(_quality(file, config.get("quality"), 1), _measured(file, config))}


_FIELDS = {
    "reconstruct": _reconstruction_fields, "segment": _segmentation_fields, "segment-drawn": _drawn_fields,
    "forecast": _forecast_fields,
}  # fmt: skip
"""Own fields of a `Bundle`, by task."""


def _slice_input(file: str, config: dict[str, Any]) -> SliceInput:
    expected = config["expected_spacing_mm"]
    rule, low, high = _intensity(file, config["intensity"])
    check_types(f"{file} (expected_spacing_mm)", expected, {"in_slice": list, "between_slices": list})
    if config["plane"] not in _PLANES:
        raise UnreadableError(f"{file}: plane is {shortened(config['plane'])}; it must be one of {', '.join(_PLANES)}")
    if not 0.01 <= config["spacing"] <= 100:
        raise UnreadableError(f"{file}: spacing is {config['spacing']}; it must be from 0.01 to 100 mm")
    ranges = [_range(f"{file}: {name}", expected[name]) for name in ("in_slice", "between_slices")]
    plane = None if config["plane"] == "thickest" else config["plane"]
    labels = _labels(file, config["labels"])
    return SliceInput(
        plane, float(config["spacing"]), rule, low, high, labels, ranges[0], ranges[1],
        _modality(file, config.get("modality")), _up_to(1000, file, config, "keep_within_mm"),
        _class_weights(file, config.get("class_weights"), len(labels)),
        _base_rule(file, config.get("base_rule"), len(labels)), _up_to(1000, file, config, "smooth_frames_ms"),
        _quality(file, config.get("quality"), len(labels)),
        _intervals(file, config.get("intervals"), "quality" in config),
    )  # fmt: skip


def _measured(file: str, config: dict[str, Any]) -> dict[str, float] | None:
    """Mean Dice of the model and of the methods without one; None where the bundle states none."""
    given = config.get("measured")
    if given is None:
        return None
    where, number = f"{file} (measured)", (int, float)
    if not isinstance(given, dict):
        raise UnreadableError(f"{where} is {shortened(given)}; it must be an object with cases and mean Dice")
    check_types(where, given, {"cases": int, "dice": number, "nearest": number, "distances": number})
    if given["cases"] < 1 or not all(0 <= given[name] <= 1 for name in ("dice", "nearest", "distances")):
        raise UnreadableError(f"{where}: cases must be above 0, each Dice from 0 to 1")
    return {name: float(value) for name, value in given.items()}


def _intensity(file: str, given: dict[str, Any]) -> tuple[str, float, float]:
    """Rule, and what becomes 0 and 1."""
    number: tuple[type, ...] = (int, float)
    check_types(f"{file} (intensity)", given, {"rule": str, "low": number, "high": number})
    rule, low, high = given["rule"], float(given["low"]), float(given["high"])
    if rule not in ("percentiles", "window") or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UnreadableError(f"{file}: intensity must have a rule, percentiles or window, and low below high")
    if rule == "percentiles" and not (low >= 0 and high <= 100):
        raise UnreadableError(f"{file}: percentiles must lie between 0 and 100")
    return rule, low, high


def _modality(file: str, given: Any) -> str | None:
    if given is not None and not (isinstance(given, str) and 1 <= len(given) <= 16):
        raise UnreadableError(f"{file}: modality is {given!r}; it must be that of DICOM, such as 'MR'")
    return given


def _up_to(most: int, file: str, config: dict[str, Any], name: str) -> float | None:
    given = config.get(name)
    if given is None:
        return None
    if not is_number(given) or not 0 <= given <= most:
        raise UnreadableError(f"{file}: {name} is {given!r}; it must be from 0 to {most}")
    return float(given)


def _class_weights(file: str, given: Any, labels: int) -> tuple[float, ...]:
    weights = () if given is None else check_shares(f"{file}: class_weights", given, labels)
    if any(weight == 0 for weight in weights):
        raise UnreadableError(f"{file}: class_weights has a 0; a label of this weight would never be given")
    return weights


def _base_rule(file: str, given: Any, labels: int) -> BaseRule | None:
    """Rule of the outermost slices at the base, checked: a certainty and a cover for each label."""
    if given is None:
        return None
    where = f"{file} (base_rule)"
    if not isinstance(given, dict):
        raise UnreadableError(f"{where} is {shortened(given)}; it must be an object with certainty and cover")
    check_types(where, given, {"certainty": list, "cover": list})
    return BaseRule(*(check_shares(f"{where}: {name}", given[name], labels) for name in ("certainty", "cover")))


def _intervals(file: str, given: Any, predicted: bool) -> IntervalLimits | None:
    """Limits of the numbers of the heart, checked; they need curves of the predicted Dice beside them."""
    if given is None:
        return None
    where, number = f"{file} (intervals)", (int, float)
    if not isinstance(given, dict) or not predicted:
        raise UnreadableError(f"{where} must be an object, beside quality")
    if "group_level" not in given:
        return None
    check_types(
        where, given,
        {"level": number, "group_level": number, "patients": int, "least_doubt": number, "limits": dict},
    )  # fmt: skip
    if not 0 < given["level"] < 1 or not 0 < given["least_doubt"] < 1 or given["patients"] < 1:
        raise UnreadableError(f"{where}: level and least_doubt must lie between 0 and 1, patients above 0")
    if not 0 <= given["group_level"] <= given["level"]:
        raise UnreadableError(f"{where}: group_level must lie between 0 and level")
    for name, limit in given["limits"].items():
        if name not in NUMBERS or not is_number(limit) or not 0 <= limit <= LARGEST:
            raise UnreadableError(f"{where}: limits has {shortened(name)}: {limit!r}; it must be a number of {NUMBERS}")
    limits = {name: float(limit) for name, limit in given["limits"].items()}
    level, group_level, least = (float(given[key]) for key in ("level", "group_level", "least_doubt"))
    return IntervalLimits(level, group_level, given["patients"], least, limits)


def _quality(file: str, given: Any, labels: int) -> QualityCurves | None:
    """Curves of the predicted Dice, checked: one for each label, both axes rising within 0 to 1."""
    if given is None:
        return None
    where = f"{file} (quality)"
    if not isinstance(given, dict):
        raise UnreadableError(f"{where} is {given!r}; it must be an object with doubt_below and curves")
    check_types(where, given, {"doubt_below": (int, float), "curves": list})
    if not 0 <= given["doubt_below"] <= 1:
        raise UnreadableError(f"{where}: doubt_below is {given['doubt_below']!r}; it must be from 0 to 1")
    if len(given["curves"]) != labels or not all(isinstance(curve, dict) for curve in given["curves"]):
        raise UnreadableError(f"{where}: curves has {len(given['curves'])} entries; there must be one for each label")
    for curve in given["curves"]:
        check_types(where, curve, {"expected": list, "dice": list})
    expected, dice = (
        tuple(_knots(where, name, curve[name]) for curve in given["curves"]) for name in ("expected", "dice")
    )
    if [len(knots) for knots in expected] != [len(knots) for knots in dice]:
        raise UnreadableError(f"{where}: a curve needs as many values of dice as of expected")
    return QualityCurves(expected, dice, float(given["doubt_below"]))


def _knots(where: str, name: str, given: list[Any]) -> tuple[float, ...]:
    rising = all(is_number(v) for v in given) and list(given) == sorted(given)
    if not given or not rising or not 0 <= given[0] <= given[-1] <= 1:
        raise UnreadableError(f"{where}: {name} is {given!r}; it must be numbers from 0 to 1 that rise")
    return tuple(float(v) for v in given)


def _labels(file: str, listed: list[Any]) -> tuple[Label, ...]:
    """Labels, checked: their values are 1, 2, ... in order, the order of the network's classes."""
    labels = []
    for index, entry in enumerate(listed, start=1):
        where = f"{file}: label {index}"
        if not isinstance(entry, dict):
            raise UnreadableError(f"{where} is no JSON object")
        plain = {k: v for k, v in entry.items() if k not in _CODES}
        check_types(where, plain, {"value": int, "name": str, "colour": list})
        colour = entry["colour"]
        if len(colour) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in colour):
            raise UnreadableError(
                f"{where} has the colour {shortened(colour)}; it must be three integers from 0 to 255"
            )
        if entry["value"] != index or not entry["name"].strip():
            raise UnreadableError(f"{where} has the value {entry['value']} or no name: values are 1, 2, ... in order")
        code, modifier = (_code(where, key, entry.get(key)) for key in _CODES)
        labels.append(Label(index, entry["name"], (colour[0], colour[1], colour[2]), code, modifier))
    if not 1 <= len(labels) <= 255 or len({label.name for label in labels}) < len(labels):
        raise UnreadableError(f"{file}: there must be 1 to 255 labels, with names that differ")
    return tuple(labels)


def _code(where: str, key: str, given: Any) -> tuple[str, str, str] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 3 or not all(isinstance(v, str) and v.strip() for v in given):
        raise UnreadableError(
            f"{where} has the {key} {shortened(given)}; it must be three texts: scheme, value, meaning"
        )
    for text, most in zip(given, _CODE_LENGTHS, strict=True):
        if len(text) > most:
            raise UnreadableError(
                f"{where} has the {key} {shortened(given)}; {shortened(text)} is longer than {most} characters"
            )
    return given[0], given[1], given[2]


def _range(where: str, given: list[Any]) -> tuple[float, float]:
    numbers = [v for v in given if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(given) != 2 or len(numbers) != 2 or not 0 <= numbers[0] < numbers[1] < LARGEST:
        raise UnreadableError(f"{where} is {shortened(given)}; it must be [least, most] in mm")
    return float(numbers[0]), float(numbers[1])

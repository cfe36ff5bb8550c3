"""Values that options take: completed in the shell, and checked before anything heavy is imported.

Nothing here may import torch: the shell asks at every press of Tab. A test compares the names with the library's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches

from crnn_cli.errors import UsageError

METHODS = {
    "crnn": "a network (--model)",
    "zero-filled": "a look at the data, nothing assumed",
    "sliding-window": "neighbouring frames shared",
    "sense": "CG-SENSE, several coils",
    "tv": "total variation in time and space",
    "llr": "locally low rank",
    "l+s": "low rank plus sparse",
}
PATTERNS = {"variable-density": "random lines, denser in the centre", "sheared-grid": "regular, shifted in each frame"}
DEVICES = {"auto": "the GPU if there is one", "cpu": "", "cuda": "the first NVIDIA GPU"}
PRECISIONS = {"fp32": "single precision", "bf16": "faster, half the memory", "tf32": "on a GPU"}
SEGMENT_PRECISIONS = {name: PRECISIONS[name] for name in ("fp32", "bf16")}
MAP_SETS = {"1": "", "2": "the object is larger than the field of view", "auto": "found out slice by slice"}
FORMATS = {"nifti": "", "dicom": ""}
STREAM_FORMATS = FORMATS | {"mrd": ""}
DATA_KINDS = {"kspace": "k-space", "image": "complex images, transformed to k-space"}
MODALITIES = {"MR": "", "CT": "", "PT": "PET", "NM": "nuclear", "XA": "angiography", "US": "", "OT": "other"}
SEG_TYPES = {"binary": "a bit for each segment and voxel", "labelmap": "the labels themselves"}
FILLS = {"network": "", "distances": "signed distances, interpolated", "nearest": "the nearest drawn slice, copied"}
PLANES = {"auto": "across the widest spacing", "axial": "", "coronal": "", "sagittal": ""}

_DEVICE = re.compile(r"(cuda|mps)(:\d{1,3})?")
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def complete(values: dict[str, str]) -> Callable[[str], list[tuple[str, str]]]:
    """Make the function that proposes values to the shell, with a word about each."""

    def propose(incomplete: str) -> list[tuple[str, str]]:
        return [(name, text) for name, text in values.items() if name.startswith(incomplete)]

    return propose


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """Propose the published models; folders are completed by the shell itself."""
    from crnn_cli.bundles.store import list_bundles

    return [(each.name, each.summary) for each in list_bundles() if each.name.startswith(incomplete)]


def complete_model_for(*tasks: str) -> Callable[[str], list[tuple[str, str]]]:
    """Completion that proposes the published models of some tasks alone."""

    def complete_for(incomplete: str) -> list[tuple[str, str]]:
        from crnn_cli.bundles.store import list_bundles

        fit = [each for each in list_bundles() if each.task in tasks]
        return [(each.name, each.summary) for each in fit if each.name.startswith(incomplete)]

    return complete_for


def complete_device(incomplete: str) -> list[str]:
    """Propose devices, without asking which are there: that would load torch."""
    return [name for name in DEVICES if name.startswith(incomplete)]


def suggestion(value: str, known: Iterable[str]) -> str:
    """``; did you mean tv?`` where a known value is like the one given, else nothing.

    >>> suggestion("sens", METHODS), suggestion("xyz", METHODS)
    ('; did you mean sense?', '')
    """
    names = list(known)
    near = get_close_matches(value.lower(), names, 1) or [name for name in names if name.startswith(value.lower())][:1]
    return f"; did you mean {near[0]}?" if near and value else ""


def one_of(option: str, values: dict[str, str]) -> Callable[[str | None], str | None]:
    """Make the check that a value is a known one; UsageError otherwise, with the nearest."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in values:
            raise UsageError(f"{option} {value} is not known: use {_listed(values)}{suggestion(value, values)}")
        return value

    return check


def check_device(value: str | None) -> str | None:
    """Refuse what is no name of a device; whether the device is there is seen later."""
    if value is not None and value not in DEVICES and not _DEVICE.fullmatch(value):
        known = "auto, cpu, cuda or cuda:N"
        near = (
            "; did you mean cuda?" if value.lower() in ("gpu", "nvidia") else suggestion(value.split(":")[0], DEVICES)
        )
        raise UsageError(f"--device {value} is not known: use {known}{near}")
    return value


def check_slices(value: str | None) -> str | None:
    """Refuse a plane that there is none of; the range behind it is read later."""
    if value is None:
        return None
    plane = value.partition(":")[0]
    numbers = _RANGE.fullmatch(value)
    if numbers:
        raise UsageError(f"--slices {value} names no plane; did you mean auto:{numbers[1]}-{numbers[2] or numbers[1]}?")
    if plane not in PLANES:
        raise UsageError(f"--slices {value} is not understood: use {_listed(PLANES)}{suggestion(plane, PLANES)}")
    return value


def _listed(values: Iterable[str]) -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}"

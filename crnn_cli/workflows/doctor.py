"""The state of an installation: device, memory, threads, versions, codecs, models."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crnn_cli.data.host_memory import bytes_in_words
from crnn_cli.errors import CrnnError
from crnn_cli.version import __version__

REQUIRED = ("torch", "numpy", "scipy", "nibabel", "pydicom", "highdicom", "SimpleITK", "h5py", "safetensors")
OPTIONAL = ("python-gdcm", "monai", "matplotlib", "distributed", "tensorboard", "onnxruntime")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def diagnose() -> dict[str, Any]:
    """Look at the installation; what is absent or broken is reported, never raised.

    Returns
    -------
    dict
        Plain values for JSON: ``versions`` and ``optional`` (None: not installed), ``device`` (that of ``auto``, and
        all there are, memory in bytes), ``threads``, ``codecs`` of compressed DICOM (None: not readable), and
        ``models`` with their licence and whether their weights are those of the published sha256.
    """
    return {
        "crnn": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in REQUIRED},
        "optional": {name: _version(name) for name in OPTIONAL},
        "device": _device(),
        "threads": _threads(),
        "codecs": _codecs(),
        "models": _models(),
    }


def rows(diagnosis: dict[str, Any]) -> list[list[str]]:
    """Names and values of a diagnosis, models left out."""
    device, threads = diagnosis["device"], diagnosis["threads"]
    spinning = [f"{name}={value}" for name, value in threads["environment"].items() if value is not None]
    missing = [name for name, plugin in diagnosis["codecs"].items() if plugin is None]
    listed = [
        ["crnn", diagnosis["crnn"]],
        ["python", f"{diagnosis['python']}, {diagnosis['platform']}"],
        *([name, number or "not installed"] for name, number in diagnosis["versions"].items()),
        ["optional", ", ".join(f"{name} {number or '-'}" for name, number in diagnosis["optional"].items())],
        ["device auto", device["default"]],
        ["memory", f"{_amount(device['free_memory'])} free"],
        ["threads", f"{threads['used']} of {threads['cores']} cores{''.join(f', {each}' for each in spinning)}"],
        ["compressed DICOM", ", ".join(name for name, plugin in diagnosis["codecs"].items() if plugin) or "none"],
    ]
    if missing:
        listed.append(["not readable", f"{', '.join(missing)}: python3 -m pip install python-gdcm"])
    return listed


DEVICE_COLUMNS = ("device", "name", "memory", "bfloat16")


def device_rows(diagnosis: dict[str, Any]) -> list[list[str]]:
    """A row for each device that a command may be told to use, see `DEVICE_COLUMNS`."""
    return [
        [each["device"], each["name"], _amount(each["memory"]), "native" if each["bfloat16"] else "emulated, slow"]
        for each in diagnosis["device"]["devices"]
    ]


MODEL_COLUMNS = ("model", "task", "licence", "weights")


def model_rows(diagnosis: dict[str, Any]) -> list[list[str]]:
    """A row for each model, see `MODEL_COLUMNS`."""
    return [
        [each["name"], each["task"] or "-", each["licence"] or "-", each["problem"] or "verified"]
        for each in diagnosis["models"]
    ]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> dict[str, Any]:
    import torch

    from crnn_cli.compute.device import choose_device
    from crnn_cli.compute.memory import free_bytes

    return {
        "default": str(choose_device("auto")),
        "devices": _devices(),
        "cuda_of_torch": torch.version.cuda,
        "free_memory": free_bytes(torch.device("cpu")),
    }


def _devices() -> list[dict[str, Any]]:
    """Devices that can be asked for: name, memory in bytes (None where unknown), and whether bfloat16 is native."""
    import torch

    from crnn_cli.compute.device import has_native_bfloat16

    cpu = torch.device("cpu")
    found = [{"device": "cpu", "name": _cpu(), "memory": _memory(), "bfloat16": has_native_bfloat16(cpu)}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        bfloat16 = has_native_bfloat16(torch.device("cuda", index))
        memory = properties.total_memory
        found.append({"device": f"cuda:{index}", "name": properties.name, "memory": memory, "bfloat16": bfloat16})
    return found


def _cpu() -> str:
    """Name of the processor, as Linux has it; elsewhere as Python has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named[0] if named else platform.processor()) or platform.machine()


def _memory() -> int | None:
    """Physical memory in bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _threads() -> dict[str, Any]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "used": torch.get_num_threads(),
        "cores": cores,
        "environment": {name: os.environ.get(name) for name in THREAD_VARIABLES},
    }


def _codecs() -> dict[str, str | None]:
    from crnn_cli.io.dicom.pixels import available_codecs

    return available_codecs()


def _models() -> list[dict[str, Any]]:
    from crnn_cli.bundles.store import folder_of_bundles

    folder = folder_of_bundles()
    return [_model(each) for each in sorted(folder.iterdir()) if each.is_dir()] if folder.is_dir() else []


def _model(folder: Path) -> dict[str, Any]:
    """Name, task and licence of a bundle, and what is wrong with it, if anything."""
    from crnn_cli.bundles.config import WEIGHTS
    from crnn_cli.bundles.store import read_bundle

    facts: dict[str, Any] = {"name": folder.name, "task": None, "licence": None, "sha256": None, "problem": None}
    try:
        bundle = read_bundle(folder)
        facts |= {"task": bundle.task, "licence": bundle.licence, "sha256": bundle.sha256}
        if hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != bundle.sha256:
            facts["problem"] = "damaged: the sha256 of the weights is not that of config.json"
    except (CrnnError, OSError) as error:
        facts["problem"] = str(error)
    return facts


def _amount(size: int | None) -> str:
    return "unknown" if size is None else bytes_in_words(size)

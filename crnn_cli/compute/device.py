"""Where tensors are calculated: which device, how exactly, and what is said when its memory runs out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crnn_cli.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """Return the device of a name: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``.

    Apple's GPUs (MPS) are refused: they have no double precision (PyTorch issue 122602), which scaling and residuals
    are calculated in, and their linear equations were real only in PyTorch 2.12 (issue 187107), where the starts of
    the networks have complex ones.

    Raises
    ------
    DeviceError
        If the name is unknown or the device is not there: never a silent fall-back.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if re.fullmatch(r"mps(:\d{1,3})?", name):
        raise DeviceError(
            f"{name} was asked for, but Apple's GPUs do not calculate in double precision, and crnn does in places; "
            "use --device cpu"
        )
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise DeviceError(f"unknown device {name}: use auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"{name} was asked for, but this PyTorch sees {count} CUDA devices; use --device cpu")
    return device


def has_native_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies in bfloat16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # a private name
    return bool(asked is not None and asked())


@contextmanager
def tf32_convolutions(rounded: bool) -> Iterator[None]:
    """Let convolutions in single precision on a GPU round what they multiply to 10 bits (TF32), or keep them from it.

    PyTorch itself lets them.
    """
    now = torch.backends.cudnn
    with now.flags(now.enabled, now.benchmark, now.benchmark_limit, now.deterministic, rounded):
        yield


@contextmanager
def explain_out_of_memory(device: torch.device) -> Iterator[None]:
    """Say what to do when the memory of a GPU has run out.

    Raises
    ------
    DeviceError
        If it has.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as reason:
        first = str(reason).partition(". ")[0].rstrip(".")
        raise DeviceError(
            f"the memory of {device} does not suffice, however few frames are computed at once ({first}); use "
            "--precision bf16, which needs half of it, or --device cpu"
        ) from None

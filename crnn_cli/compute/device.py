"""Compute device: choice by name, precision of convolutions, and errors of exhausted GPU memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crnn_cli import notices
from crnn_cli.errors import DeviceError, Param


def choose_device(name: str) -> torch.device:
    """Device of a name: ``auto`` (CUDA where available, else CPU), ``cpu``, ``cuda`` or ``cuda:1``.

    Apple's GPUs (MPS) are refused: they lack double precision (PyTorch issue 122602), in which scaling and residuals
    are computed, and complex linear solves (issue 187107), which the initial images of the networks need.

    Raises
    ------
    DeviceError
        If the name is unknown or the device is absent. There is no silent fallback to the CPU.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if re.fullmatch(r"mps(:\d{1,3})?", name):
        raise DeviceError(
            f"{name} was asked for, but Apple's GPUs do not calculate in double precision, and crnn does in places",
            remedy=("use ", Param("device", "cpu")),
        )
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise DeviceError(f"unknown device {name}: use auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(
            f"{name} was asked for, but this PyTorch sees {count} CUDA devices", remedy=("use ", Param("device", "cpu"))
        )
    return device


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 multiply instructions (AVX512-BF16 on a CPU).

    Without them PyTorch emulates bfloat16, slower than single precision. False too where PyTorch cannot tell.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    is_supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private: absent in some versions
    return bool(is_supported is not None and is_supported())


def note_emulated_bfloat16(device: torch.device) -> None:
    """Tell a fact where bfloat16 was asked for, and the device has no instructions for it; see `notices.note`."""
    if not has_native_bfloat16(device):
        notices.note(
            "bfloat16-emulated",
            f"this {'GPU' if device.type == 'cuda' else 'processor'} has no instructions for bfloat16, which is many "
            "times slower here than single precision, fp32",
        )


@contextmanager
def tf32_convolutions(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in single-precision cuDNN convolutions: factors rounded to 10 bits of mantissa.

    PyTorch's own default is to allow it. No effect on a CPU.
    """
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allowed):
        yield


@contextmanager
def explain_out_of_memory(device: torch.device) -> Iterator[None]:
    """Turn PyTorch's out-of-memory error of a GPU into a `DeviceError` with a remedy.

    Raises
    ------
    DeviceError
        If the memory of the device runs out inside the block. Other errors pass unchanged.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as reason:
        first = str(reason).partition(". ")[0].rstrip(".")
        raise DeviceError(
            f"the memory of {device} does not suffice, however few frames are computed at once ({first})",
            remedy=("use ", Param("precision", "bf16"), ", which needs half of it, or ", Param("device", "cpu")),
        ) from None

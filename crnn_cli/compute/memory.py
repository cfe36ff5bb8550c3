"""Free memory of a device, and memory that autograd saves."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from crnn_cli.data.host_memory import host_free_bytes


def free_bytes(device: torch.device, limit: int | None = None) -> int | None:
    """Free memory of a device in bytes; None where it is unknown (a CPU outside Linux).

    On a GPU, memory that PyTorch has reserved but does not use counts as free. On a CPU, it is the least of what Linux
    calls available, the limit of the control group (which includes memory in use) and ``limit``.

    Parameters
    ----------
    limit : total bytes that this process may hold, those that it holds already included; CPU only.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return host_free_bytes(limit)


def release_freed_memory() -> None:
    """Give memory that was freed back to the system; no effect where the C library is not glibc.

    Else small arrays that stay keep the pages of large ones that were freed around them, and a process grows with each
    slice by several times of what it keeps.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def saved_tensor_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd saves for the backward pass of a calculation, which is run once.

    Storages are counted once, however many saved tensors share them.
    """
    sizes: dict[int, int] = {}  # by address, which stays fixed while a tensor is saved

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(sizes.values())

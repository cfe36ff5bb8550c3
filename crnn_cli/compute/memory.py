"""How much memory there is for what comes next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def free_bytes(device: torch.device, most: int | None = None) -> int | None:
    """Return the memory that is free on a device, None where that cannot be known.

    On a GPU what this process holds in reserve and does not use is free too.

    Parameters
    ----------
    most : bytes that this process may hold in all, what it holds already included; for the CPU.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    left = [] if most is None else [max(0, most - resident_bytes())]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return min(left, default=None)
    kib = {name: rest for name, _, rest in (line.partition(":") for line in lines)}.get("MemAvailable", "")
    left += [int(kib.split()[0]) * 1024] if kib else []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            left.append(int(text))
    return min(left, default=None)


def resident_bytes() -> int:
    """Return the bytes that this process holds; 0 where that cannot be known."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def saved_tensor_bytes(forward: Callable[[], Tensor]) -> int:
    """Return how many bytes a calculation keeps for its gradients."""
    kept: dict[int, int] = {}  # by address: what is kept stays where it is

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(kept.values())

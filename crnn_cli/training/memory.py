"""How much memory a training step will take, before it takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_BEYOND = 1.5  # of what is kept for the gradients: work space, gradients of features, fragmentation


def step_bytes(forward: Callable[[], Tensor], factor: float) -> int:
    """Return about how many bytes a training step needs; what activation checkpoints compute again is not seen.

    Parameters
    ----------
    forward : a step with small items, up to its loss. factor : how much larger the real ones are.
    """
    kept: dict[int, int] = {}  # by address: what is kept stays where it is

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return round(_BEYOND * factor * sum(kept.values()))


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device, None where that cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = {name: rest for name, _, rest in (line.partition(":") for line in lines)}.get("MemAvailable", "")
    limits = [int(kib.split()[0]) * 1024] if kib else []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return min(limits, default=None)

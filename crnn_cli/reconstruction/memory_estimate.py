"""How much memory a reconstruction will take, from shapes alone, before it begins.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crnn_cli.compute.memory import free_bytes, resident_bytes
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.reconstruction.ensemble import Ensemble
from crnn_cli.reconstruction.reconstruct import MemoryAdaptive, NetworkReconstructor, Reconstructor

_COMPLEX = 8
_COPIES = {"zero-filled": 2, "sliding-window": 2}
"""How many times the k-space of a slice is in memory at once: as measured, and as a method works on it."""
_USUAL_COPIES = 3
_IMAGES = 12
"""Complex images of a slice at once beside it; more for methods that iterate."""
_ITERATING = 30


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run is expected to hold at most while a slice is reconstructed, in bytes.

    Not what measuring and writing all slices takes afterwards: pages of files that the system may take back.

    held : when it was asked. peak : in all. sequences : of states of a network that go to disk, and their bytes.
    """

    held: int
    peak: int
    sequences: int = 0
    sequence_bytes: int = 0


def estimate_memory(
    method: Reconstructor, shape_CTYX: tuple[int, int, int, int], folds: int, device: torch.device
) -> MemoryEstimate:
    """Return what reconstructing slices of a shape takes.

    Parameters
    ----------
    shape_CTYX : of the k-space of a slice. folds : see `crnn_cli.assessment.reliability.AssessedReconstructor`.

    Raises
    ------
    MemoryError
        If a network needs more than there is, whatever is put on disk.
    """
    coils, frames, lines, columns = shape_CTYX
    image = _COMPLEX * frames * lines * columns
    data = coils * image
    held = resident_bytes()
    beside = 0
    if isinstance(method, Ensemble):  # the data of a copy, the sum of the images, the last of them
        beside, method = (data + 2 * image if method.count > 1 else 0), method.method
    if not isinstance(method, NetworkReconstructor):
        name = getattr(method, "name", "")
        copies = _COPIES.get(name, _USUAL_COPIES) + bool(folds)
        images = _IMAGES if name in _COPIES else _ITERATING
        return MemoryEstimate(held, held + beside + copies * data + images * image)
    network, copies = method.network, 2 + bool(folds) if coils > 1 else 0  # of one coil: among the network's images
    beside += copies * data
    free = free_bytes(device, method.recipe.memory)
    if not isinstance(network, MemoryAdaptive) or device.type != "cpu" or free is None:
        return MemoryEstimate(held, held + beside)
    start = torch.zeros(1, dtype=torch.complex64).expand(1, frames, lines, columns)
    with torch.autocast("cpu", torch.bfloat16, enabled=method.recipe.half):
        network.fit(start, free - beside)
        work, sequence = network.needs(start)
    on_disk = network.on_disk
    peak = held + beside + work + (CpuSchedule.SEQUENCES - on_disk) * sequence
    return MemoryEstimate(held, peak, on_disk, on_disk * sequence)

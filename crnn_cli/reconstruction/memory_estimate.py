"""Estimate of the memory that a reconstruction takes, from shapes alone, before it begins.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from crnn_cli.compute.memory import free_bytes
from crnn_cli.data.host_memory import resident_bytes
from crnn_cli.data.mapped_arrays import is_large
from crnn_cli.mri.espirit import ROW_BLOCK_VALUES
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.reconstruction.ensemble import Ensemble
from crnn_cli.reconstruction.reconstruct import MemoryAdaptive, NetworkReconstructor, Reconstructor

_COMPLEX = 8
_COPIES = {"zero-filled": 2, "sliding-window": 2}
"""Copies of the k-space of a slice in memory at once: as measured, and as a method works on it."""
_USUAL_COPIES = 3
_IMAGES = 12
"""Complex images of a slice at once beside it; more for iterative methods."""
_ITERATING = 30


def _maps_work(coils: int, lines: int, columns: int) -> int:
    """Work space in which sensitivities are estimated: matrices, eigenvectors and a copy; see `espirit_eigenmaps`."""
    return 3 * _COMPLEX * min(coils**2 * lines * columns, ROW_BLOCK_VALUES)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run is expected to hold at most while a slice is reconstructed.

    Measuring and writing all slices afterwards is not counted, nor are images of all slices that go to files: they take
    pages of files that the system may take back.

    Attributes
    ----------
    held : held by the process when the estimate was made.
    peak : held at most, in all.
    sequences : sequences of states of the network that go to disk.
    sequence_bytes : their bytes.
    """

    held: int
    peak: int
    sequences: int = 0
    sequence_bytes: int = 0


def estimate_memory(
    method: Reconstructor[Any], shape_CTYX: tuple[int, int, int, int], folds: int, device: torch.device,
    *, slices: int = 1, map_sets: int = 1, kept_runs: int = 0,
) -> MemoryEstimate:  # fmt: skip
    """Estimate the memory for slices of one shape; the network is not changed.

    On a GPU, and without a known amount of free memory, only what lies beside the network is counted.

    Parameters
    ----------
    method : network, classical method, or an ensemble of it.
    shape_CTYX : shape of the k-space of a slice.
    folds : further runs without some of the lines; see `crnn_cli.assessment.reliability.AssessedReconstructor`.
    device : where it runs.
    slices : number of slices; the images of all are held, before and after, unless they are so large that they go to a
        file, and so are their sensitivities.
    map_sets : sets of sensitivities; images have as many components.
    kept_runs : further runs whose images are held as well.

    Raises
    ------
    MemoryError
        If a network needs more than there is, even with all states on disk.
    """
    coils, frames, lines, columns = shape_CTYX
    image = _COMPLEX * frames * lines * columns
    data, stack = coils * image, (slices, frames, lines, columns)
    kept = kept_runs * image + (0 if is_large(stack, np.complex64) else (2 + kept_runs) * slices * image)
    kept += slices * map_sets * data // frames + _maps_work(coils, lines, columns) if coils > 1 else 0
    image *= map_sets
    held = resident_bytes()
    beside = kept
    if isinstance(method, Ensemble):  # the data of a copy, the sum of the images, the last of them
        more, method = (data + 2 * image if method.count > 1 else 0), method.method
        beside += more
    if not isinstance(method, NetworkReconstructor):
        name = getattr(method, "name", "")
        copies = _COPIES.get(name, _USUAL_COPIES) + bool(folds)
        images = _IMAGES if name in _COPIES else _ITERATING
        return MemoryEstimate(held, held + beside + copies * data + images * image)
    network, copies = method.network, 2 + bool(folds) if coils > 1 else 0  # of one coil: among the network's images
    beside += copies * data
    free = free_bytes(device, method.settings.memory)
    if not isinstance(network, MemoryAdaptive) or device.type != "cpu" or free is None:
        return MemoryEstimate(held, held + beside)
    start = torch.zeros(1, dtype=torch.complex64).expand(map_sets, frames, lines, columns)
    with torch.autocast("cpu", torch.bfloat16, enabled=method.settings.bfloat16):
        on_disk = network.sequences_on_disk(start, free - beside)
        work, sequence = network.memory_required(start)
    peak = held + beside + work + (CpuSchedule.SEQUENCES - on_disk) * sequence
    return MemoryEstimate(held, peak, on_disk, on_disk * sequence)

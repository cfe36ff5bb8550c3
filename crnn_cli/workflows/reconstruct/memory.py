"""What `crnn reconstruct` says of the memory that a run takes, and of what it puts on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crnn_cli.reconstruction.memory_estimate import MemoryEstimate
    from crnn_cli.reconstruction.reconstruct import Reconstruction


def format_memory_estimate(expected: MemoryEstimate) -> str:
    """Return a line before the work begins."""
    disk = f", {expected.sequences} sequences of states ({_gib(expected.sequence_bytes)}) on disk"
    return f"memory: about {_gib(expected.peak)} at the most{disk if expected.sequences else ''}"


def memory_facts(expected: MemoryEstimate, result: Reconstruction) -> dict[str, Any]:
    """Return what a report says: the estimate, beyond what was held before, and the bytes that were put on disk."""
    from crnn_cli.data.mapped_arrays import is_file_backed

    images = [each for each in (result.images_ZTYX, result.zero_filled_ZTYX) if is_file_backed(each)]
    return {
        "estimated_bytes": expected.peak - expected.held,
        "states_on_disk_bytes": expected.sequence_bytes,
        "images_on_disk_bytes": sum(each.nbytes for each in images),
    }


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"

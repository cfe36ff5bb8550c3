"""The memory estimate of a reconstruction in words, and as facts of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crnn_cli.data.host_memory import bytes_in_words

if TYPE_CHECKING:
    from crnn_cli.reconstruction.memory_estimate import MemoryEstimate
    from crnn_cli.reconstruction.reconstruct import Reconstruction


def format_memory_estimate(estimate: MemoryEstimate) -> str:
    """Describe the estimate in one line, before the work begins."""
    disk = f", {estimate.sequences} sequences of states ({bytes_in_words(estimate.sequence_bytes)}) on disk"
    return f"memory: about {bytes_in_words(estimate.peak)} at the most{disk if estimate.sequences else ''}"


def memory_facts(estimate: MemoryEstimate, result: Reconstruction[Any]) -> dict[str, Any]:
    """Facts for the report: the estimate beyond what was held before, and the bytes of states and images on disk."""
    from crnn_cli.data.mapped_arrays import is_file_backed

    images = [each for each in (result.images_ZTYX, result.zero_filled_ZTYX) if is_file_backed(each)]
    return {
        "estimated_bytes": estimate.peak - estimate.held,
        "states_on_disk_bytes": estimate.sequence_bytes,
        "images_on_disk_bytes": sum(each.nbytes for each in images),
    }

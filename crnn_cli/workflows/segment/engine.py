"""Segmentation model, loaded once for all volumes of the same options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError
from crnn_cli.workflows.segment.options import SegmentOptions, select_labels

if TYPE_CHECKING:
    import torch

    from crnn_cli.bundles.config import SliceInput
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.labels.names import Label
    from crnn_cli.networks.slice_clstm import SliceCLSTM


@dataclass(frozen=True)
class SegmentEngine:
    """A segmentation network on its device, and the labels that are asked of it.

    Parameters
    ----------
    network : in evaluation mode, on ``device``.
    labels : the labels to keep, in the model's order.
    """

    bundle: Bundle
    network: SliceCLSTM
    labels: Sequence[Label]
    device: torch.device

    @property
    def weights(self) -> str | None:
        """Hash (sha256) of the weights."""
        return self.bundle.sha256

    @property
    def slice_input(self) -> SliceInput:
        """How the model is to be fed: plane, pixel spacing, intensities, plausible spacings."""
        assert self.bundle.slices is not None  # a bundle of the task "segment" has it
        return self.bundle.slices


def prepare(options: SegmentOptions) -> SegmentEngine:
    """Load the model onto its device.

    Raises
    ------
    UnreadableError, UnsupportedDataError
        If there is no such model, it is damaged, or it is not for segmentation.
    UsageError
        If it has no label that is asked for, or a quality is required that it cannot predict.
    DeviceError
        If the device is not there.
    """
    from crnn_cli.bundles.store import find_bundle, load_segmentation
    from crnn_cli.compute.device import choose_device, note_emulated_bfloat16

    device = choose_device(options.device)
    if options.precision == "bf16":
        note_emulated_bfloat16(device)
    bundle = find_bundle(options.model, "segment")
    assert bundle.slices is not None
    if options.require_quality is not None and bundle.slices.quality is None:
        raise UsageError(
            Param("require_quality"), f": how good its labels are was not measured of {bundle.name}",
            remedy=["use a model with curves of its quality, such as cardiac-sax-clstm"],
        )  # fmt: skip
    labels = select_labels(bundle.slices.labels, options.labels)
    if options.model is None:
        _note_licence(bundle)
    return SegmentEngine(bundle, load_segmentation(bundle, device), labels, device)


def _note_licence(bundle: Bundle) -> None:
    """Tell who did not choose a model that its weights are not for commercial use, and which are for any."""
    from crnn_cli.bundles.store import list_bundles

    if "-NC" not in bundle.licence:
        return
    free = [other for other in list_bundles() if other.task == "segment" and other.licence.startswith("CC0")]
    others = "".join(f"; {other.name} is {other.licence}: {other.summary}" for other in free)
    text = f"the weights of {bundle.name} are {bundle.licence}: no commercial use{others}"
    notices.note("non-commercial-weights", text)

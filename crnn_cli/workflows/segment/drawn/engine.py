"""Method that labels slices from drawn ones, loaded once for all volumes of the same options."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crnn_cli.workflows.segment.drawn.request import DISTANCES, NETWORK, check_drawn

if TYPE_CHECKING:
    import torch

    from crnn_cli.bundles.config import Bundle, DrawnQuality
    from crnn_cli.labels.names import Label
    from crnn_cli.networks.drawn_clstm import DrawnCLSTM
    from crnn_cli.segmentation.drawn.methods import FillMethod
    from crnn_cli.workflows.segment.options import SegmentOptions

TASK = "segment-drawn"


@dataclass(frozen=True)
class DrawnEngine:
    """A method on its device.

    Attributes
    ----------
    fill : one of `crnn_cli.workflows.segment.drawn.request.FILLS`.
    bundle, network : of the network; None for the other methods.
    labels : none: they are those that are drawn.
    """

    fill: str
    device: torch.device
    bundle: Bundle | None = None
    network: DrawnCLSTM | None = None
    labels: Sequence[Label] = ()

    @property
    def weights(self) -> str | None:
        """Hash (sha256) of the weights; None for a method without."""
        return None if self.bundle is None else self.bundle.sha256

    @property
    def given(self) -> DrawnQuality | None:
        """How the network is to be fed; None for the other methods."""
        return None if self.bundle is None else self.bundle.drawn

    def method(
        self, bfloat16: bool, tuned: DrawnCLSTM | None = None, better: Collection[int] = frozenset()
    ) -> FillMethod:
        """The method.

        Parameters
        ----------
        bfloat16 : convolutions in bfloat16.
        tuned : a tuned network, for some structures in place of that of the bundle.
        better : numbers of these structures.
        """
        from crnn_cli.segmentation.drawn.methods import InterpolatedDistances, NearestSlice, RecurrentNetwork

        if self.network is None:
            return InterpolatedDistances() if self.fill == DISTANCES else NearestSlice()
        others = {} if tuned is None else dict.fromkeys(better, tuned)
        return RecurrentNetwork(self.network, self.device, bfloat16, others)


def prepare_drawn(options: SegmentOptions) -> DrawnEngine:
    """Load the method onto its device.

    Raises
    ------
    UsageError
        If options contradict each other.
    UnreadableError, UnsupportedDataError
        If there is no such model, it is damaged, or it is not for drawn slices.
    DeviceError
        If the device is not there.
    """
    from crnn_cli.bundles.store import find_bundle, load_drawn
    from crnn_cli.compute.device import choose_device, note_emulated_bfloat16

    request = check_drawn(options)
    assert request is not None  # the caller has looked
    device = choose_device(options.device)
    if request.fill != NETWORK:
        return DrawnEngine(request.fill, device)
    if options.precision == "bf16":
        note_emulated_bfloat16(device)
    bundle = find_bundle(options.model, TASK)
    return DrawnEngine(NETWORK, device, bundle, load_drawn(bundle, device))

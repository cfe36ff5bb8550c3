"""Settings of training a reconstruction model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from crnn_cli.networks.crnn_mri import CRNNMRIConfig
from crnn_cli.networks.live_crnn import LiveCRNNConfig
from crnn_cli.reconstruction.reconstruct import CAUSAL_IMAGES, INITIAL_IMAGES
from crnn_cli.training.job import OptimiserSettings, Stage
from crnn_cli.training.reconstruct.cine import SamplingSettings
from crnn_cli.training.settings import active_losses, setting

_MOST_BATCH = 4096


@dataclass(frozen=True)
class ReconstructionNetworkSettings:
    """Sizes of the network, and how gradients go back through it."""

    live: int = setting(0, "1: the causal network for streams, whose frames see only those before; tsm_channels, "
                        "temporal_context, noise_aware and pixel_unshuffle do not apply")  # fmt: skip
    given_start: int = setting(0, "live, 1: frames begin with their initial image, 0: with the image before",
                               added=True)  # fmt: skip
    features: int = setting(64, "channels of every hidden state")
    kernel: int = setting(3, "of the convolutions, odd")
    iterations: int = setting(5, "of the published model")
    weight_sets: int = setting(1, "sets of weights; neighbouring iterations share one", "sets")
    tsm_channels: int = setting(0, "channels that later layers take from each neighbour frame (TSM)", "shift")
    temporal_context: int = setting(
        0, "1: input also the mean over time and the last data-consistency change", "context"
    )
    noise_aware: int = setting(0, "1: weigh known noise against the error that the network expects", "trust")
    pixel_unshuffle: int = setting(1, "2: features at half resolution, a quarter of the work", added=True)
    truncate: int = setting(0, "frames after which gradients through time are cut; 0: never")
    checkpoint: int = setting(0, "iterations per activation checkpoint: less memory, more time; 0: none")

    def __post_init__(self) -> None:
        self.config()
        others = self.tsm_channels, self.temporal_context, self.noise_aware, self.pixel_unshuffle
        if self.live not in (0, 1) or (self.live and others != (0, 0, 0, 1)):
            raise ValueError(
                "live must be 0 or 1; with 1, leave out tsm_channels, temporal_context, noise_aware and pixel_unshuffle"
            )
        if self.given_start not in (0, 1) or (self.given_start and not self.live):
            raise ValueError("given_start must be 0 or 1, and is for live")
        if self.live and self.checkpoint:
            raise ValueError("checkpoint is for the network that sees all frames; for live, truncate saves memory")
        if self.truncate < 0 or self.checkpoint < 0:
            raise ValueError("truncate and checkpoint must be 0 or more")

    def config(self) -> CRNNMRIConfig | LiveCRNNConfig:
        """Configuration of the network itself."""
        if self.live:
            return LiveCRNNConfig(
                self.features, self.kernel, self.iterations, self.weight_sets, self.given_start
            )  # fmt: skip
        return CRNNMRIConfig(
            self.features,
            self.kernel,
            self.iterations,
            self.weight_sets,
            self.tsm_channels,
            self.temporal_context,
            self.noise_aware,
            self.pixel_unshuffle,
        )


@dataclass(frozen=True)
class ReconstructionLoss:
    """Weights of the losses in their sum; see `crnn_cli.training.reconstruct.losses`."""

    log: float = setting(1.0, "logarithm of mean and r.m.s. error: all items count alike")
    log_frames: float = setting(0.0, "the same of each frame: early and late frames count alike; for streams")
    l1: float = setting(0.0, "mean error")
    l2: float = setting(0.0, "mean squared error")
    ssim: float = setting(0.0, "1 - structural similarity of magnitudes")
    perpendicular: float = setting(0.0, "error across the direction of the truth in the complex plane, and along it")
    kspace: float = setting(0.0, "error at the measured samples; matters where data consistency is soft")

    def __post_init__(self) -> None:
        self.weights()

    def weights(self) -> dict[str, float]:
        """Losses whose weight is above 0."""
        return active_losses(asdict(self))


@dataclass(frozen=True)
class ReconstructSettings:
    """All settings of the task.

    Few iterations come first: a step costs in proportion to them, and their weights are shared.
    """

    epochs: int = setting(20, "each of as many items as `items` says")
    items: int = setting(500, "of an epoch")
    batch: int = setting(1, "items in a step; each has a size of its own, and their gradients are added up")
    real_share: float = setting(0.4, "share of items made from the cines given; the others are simulated scenes")
    pixels: int = setting(25_600, "frames x lines x columns of an item, about: what a step costs")
    initial_image: str = setting(
        "time-wiener", "input of the network; or total-variation, view-shared, zero-filled; for live "
                       "causal-total-variation or running", "start",
    )  # fmt: skip
    start_iterations: int = setting(2, "in the first quarter; one more up to 55 % of the steps")
    network: ReconstructionNetworkSettings = field(default_factory=ReconstructionNetworkSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    loss: ReconstructionLoss = field(default_factory=ReconstructionLoss)
    optimiser: OptimiserSettings = field(
        default_factory=lambda: OptimiserSettings(learning_rate=1e-3, weight_decay=1e-4, clip=1.0, average=0.999)
    )

    def __post_init__(self) -> None:
        if min(self.epochs, self.items, self.batch, self.start_iterations) < 1 or self.batch > _MOST_BATCH:
            raise ValueError(
                f"epochs, items, batch and start_iterations must be 1 or more, and batch at most {_MOST_BATCH}"
            )
        if self.initial_image not in INITIAL_IMAGES:
            raise ValueError(
                f"initial_image is {self.initial_image!r}, which is none of {', '.join(sorted(INITIAL_IMAGES))}"
            )
        if bool(self.network.live) != (self.initial_image in CAUSAL_IMAGES):
            raise ValueError(
                'a live network starts from initial_image = "causal-total-variation" or "running", and no other does'
            )
        if not 0 <= self.real_share <= 1 or not self.pixels >= 2_000:
            raise ValueError("real_share must be from 0 to 1, and pixels 2000 or more")

    def stages(self) -> tuple[Stage, ...]:
        """The one stage of training."""
        steps = max(1, round(self.epochs * self.items / self.batch))
        return (Stage("reconstruction", steps, self.batch, self.optimiser.learning_rate),)

    def iterations(self, share: float, number: int) -> int:
        """Iterations of an item.

        The last 45 % of the steps take turns between the network's iterations and one less. A live network always runs
        all of its own.

        Parameters
        ----------
        share : of the steps that is done.
        number : of the item.
        """
        last = self.network.iterations
        if self.network.live:  # states of an iteration go on to the same one of the next frame
            return last
        if share < 0.55:
            return min(last, self.start_iterations + (share >= 0.25))
        return max(min(last, self.start_iterations), last - number % 2)

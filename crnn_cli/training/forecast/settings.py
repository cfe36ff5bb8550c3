"""Settings of training a forecaster."""

from __future__ import annotations

from dataclasses import dataclass, field

from crnn_cli.networks.forecaster import ForecasterConfig
from crnn_cli.training.job import OptimiserSettings, Stage
from crnn_cli.training.settings import setting

_MOST_BATCH = 4096


@dataclass(frozen=True)
class ForecasterNetworkSettings:
    """Sizes of the network."""

    patch: int = setting(4, "pixels along the side of a patch")
    layers: int = setting(2, "recurrent layers of the encoder, and of the forecaster")
    hidden: int = setting(32, "features of the first layer")
    hidden_above: int = setting(32, "features of each layer above it")
    kernel: int = setting(3, "of the recurrent layers, odd")
    gru: int = setting(0, "1: ConvGRU layers; 0: ConvLSTM")
    readout: int = setting(48, "features between the recurrent layers and the patches")

    def __post_init__(self) -> None:
        self.config()

    def config(self) -> ForecasterConfig:
        """Configuration of the network itself."""
        return ForecasterConfig(
            self.patch, self.layers, self.hidden, self.hidden_above, self.kernel, self.kernel, self.gru, self.readout
        )


@dataclass(frozen=True)
class ForecastSettings:
    """All settings of the task."""

    epochs: int = setting(20, "each of as many items as `items` says")
    items: int = setting(2000, "of an epoch")
    batch: int = setting(8, "items in a step")
    real_share: float = setting(0.6, "share of items made from the cines given; the others are simulated scenes")
    side: int = setting(48, "pixels along the side of an item")
    history: int = setting(44, "frames that memory holds, at most, before the first that the network reads")
    frames: int = setting(8, "that the network reads")
    ahead: int = setting(4, "frames that it forecasts")
    starts: int = setting(2, "frames of an item after which it forecasts")
    network: ForecasterNetworkSettings = field(default_factory=ForecasterNetworkSettings)
    optimiser: OptimiserSettings = field(
        default_factory=lambda: OptimiserSettings(learning_rate=2e-3, weight_decay=1e-4, clip=1.0, average=0.995)
    )

    def __post_init__(self) -> None:
        if min(self.epochs, self.items, self.batch, self.ahead, self.starts) < 1 or self.batch > _MOST_BATCH:
            raise ValueError(f"epochs, items, batch, ahead and starts must be 1 or more, batch at most {_MOST_BATCH}")
        if not 0 <= self.real_share <= 1 or not 16 <= self.side <= 512:
            raise ValueError("real_share must be from 0 to 1, side from 16 to 512")
        if not self.starts <= self.frames <= 64 or not 0 <= self.history <= 128 or self.ahead > 32:
            raise ValueError("frames must be from starts to 64, history from 0 to 128, ahead at most 32")

    @property
    def length(self) -> int:
        """Frames of an item's series."""
        return self.history + self.frames + self.ahead

    def stages(self) -> tuple[Stage, ...]:
        """The one stage of training."""
        steps = max(1, round(self.epochs * self.items / self.batch))
        return (Stage("forecast", steps, self.batch, self.optimiser.learning_rate),)

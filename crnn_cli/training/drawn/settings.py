"""Settings of training a network for drawn slices."""

from __future__ import annotations

from dataclasses import dataclass, field

from crnn_cli.networks.drawn_clstm import DrawnCLSTMConfig
from crnn_cli.training.drawn.items import DrawnItemSettings
from crnn_cli.training.job import OptimiserSettings
from crnn_cli.training.settings import setting


@dataclass(frozen=True)
class DrawnNetworkSettings:
    """Sizes of the network; see `crnn_cli.networks.drawn_clstm.DrawnCLSTMConfig`."""

    width: int = setting(16, "features at full size; they double from scale to scale")
    hidden: int = setting(48, "features of the ConvLSTM, per direction")
    keys: int = setting(32, "features whose likeness is compared")

    def __post_init__(self) -> None:
        self.config()

    def config(self) -> DrawnCLSTMConfig:
        """Configuration of the network itself."""
        return DrawnCLSTMConfig(self.width, self.hidden, self.keys)


@dataclass(frozen=True)
class DrawnSettings:
    """All settings of the task."""

    steps: int = setting(5000, "of the optimiser; --minutes replaces them")
    stacks: int = setting(4, "in a batch")
    levels: tuple[str, ...] = setting(("0.2", "0.5"), "depths of the regions taken from the images; none: no regions")
    network: DrawnNetworkSettings = field(default_factory=DrawnNetworkSettings)
    items: DrawnItemSettings = field(default_factory=DrawnItemSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.stacks < 1:
            raise ValueError("steps and stacks must be 1 or more")
        if not all(0 < float(level) < 100 for level in self.levels):
            raise ValueError("levels must be numbers above 0")

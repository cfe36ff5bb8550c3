"""Settings of training a segmentation model, and how the data complete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from crnn_cli.data.geometry import PLANES, slice_order, thickest_axis
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.names import COLOURS, Label
from crnn_cli.networks.slice_clstm import SliceCLSTMConfig
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from crnn_cli.training.job import OptimiserSettings, Stage
from crnn_cli.training.segment.items import Augmentation, ItemSize
from crnn_cli.training.settings import active_losses, setting

_LARGEST_SIDE, _MOST_SLICES = 160, 16  # of items, where nothing is set


@dataclass(frozen=True)
class Labels:
    """Names of the labels, in the order of the values 1, 2, ..."""

    names: tuple[str, ...] = setting((), "of the values 1, 2, ...; empty: from dataset.json, else 'label 1', ...")


@dataclass(frozen=True)
class Slicing:
    """How volumes become slices."""

    plane: str = setting("auto", "axial, coronal, sagittal, thickest (across the widest spacing), or auto")
    spacing: float = setting(0.0, "of the network's pixels in mm; 0: the median of the training images")
    rule: str = setting("percentiles", "of intensities: percentiles, or window (in the image's units, such as HU)")
    low: float = setting(1.0, "the percentile or value that becomes 0")
    high: float = setting(99.0, "the percentile or value that becomes 1")

    def __post_init__(self) -> None:
        if self.plane not in ("auto", "thickest", *PLANES):
            raise ValueError(f"plane is {self.plane!r}; it must be auto, thickest, {', '.join(PLANES)}")
        if self.rule not in ("percentiles", "window") or not self.low < self.high:
            raise ValueError("rule must be percentiles or window, and low below high")
        if self.rule == "percentiles" and not 0 <= self.low < self.high <= 100:
            raise ValueError("percentiles must lie between 0 and 100")
        if not 0 <= self.spacing <= 100:
            raise ValueError("spacing must be from 0 (automatic) to 100 mm")


@dataclass(frozen=True)
class SegmentationNetworkSettings:
    """Sizes of the network."""

    width: int = setting(24, "features at full size; they double from scale to scale")
    scales: int = setting(4, "of the slice CNN")
    hidden: int = setting(16, "features of the ConvLSTM, per direction")
    kernel: int = setting(3, "of the ConvLSTM's convolutions, odd")
    directions: int = setting(2, "of the ConvLSTM: 0 none, 1 ascending slices, 2 both")
    truncate: int = setting(0, "slices after which gradients through the ConvLSTM are cut; 0: never")

    def __post_init__(self) -> None:
        self.config(2)
        if self.truncate < 0:
            raise ValueError("truncate must be 0 or more")

    def config(self, classes: int) -> SliceCLSTMConfig:
        """Configuration of the network itself."""
        return SliceCLSTMConfig(classes, self.width, self.scales, self.hidden, self.kernel, self.directions)


@dataclass(frozen=True)
class SegmentationLoss:
    """Weights of the losses in their sum; see `crnn_cli.training.segment.losses`."""

    jaccard: float = setting(1.0, "soft Jaccard, over the whole sequence, of the structures present")
    dice: float = setting(0.0, "soft Dice, the same")
    ce: float = setting(0.5, "cross-entropy")
    balanced: float = setting(0.0, "cross-entropy with all classes present weighted alike")

    def __post_init__(self) -> None:
        self.weights()

    def weights(self) -> dict[str, float]:
        """Losses whose weight is above 0."""
        return active_losses(asdict(self))


@dataclass(frozen=True)
class StageSettings:
    """A stage: the CNN alone, or the CNN with the ConvLSTM attached, end to end."""

    share: float = setting(0.5, "of the epochs")
    sequences: int = setting(2, "in a batch")
    slices: int = setting(0, "of a sequence; 0: as many as the volumes have, up to 16")
    rows: int = setting(0, "of a slice; 0: as many as the slices have, up to 160")
    columns: int = setting(0, "of a slice; 0: as many as the slices have, up to 160")
    rate: float = setting(1.0, "learning rate relative to the optimiser's")
    frozen_norm: bool = setting(False, "normalise with running statistics: for batches of very few subjects")

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or not self.rate > 0:
            raise ValueError("share must be above 0, up to 1, and rate above 0")
        if self.sequences < 1 or min(self.slices, self.rows, self.columns) < 0:
            raise ValueError("sequences must be 1 or more; slices, rows and columns 0 (automatic) or more")


@dataclass(frozen=True)
class SegmentSettings:
    """All settings of the task.

    An epoch has as many sequences as there are training volumes.
    """

    epochs: int = setting(80, "of both stages together")
    labels: Labels = field(default_factory=Labels)
    slicing: Slicing = field(default_factory=Slicing)
    network: SegmentationNetworkSettings = field(default_factory=SegmentationNetworkSettings)
    loss: SegmentationLoss = field(default_factory=SegmentationLoss)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    cnn: StageSettings = field(default_factory=StageSettings)
    recurrent: StageSettings = field(default_factory=StageSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError("epochs must be 1 or more")


@dataclass(frozen=True)
class Task:
    """What is learned and how, completely: settings and data together.

    Attributes
    ----------
    names : of the structures 1, 2, ...
    plane : of the slices; None for across the widest spacing.
    recipe : the network's grid and intensities.
    settings : as given.
    sizes : of the items, one for each stage.
    in_slice, between_slices : (least, most) spacing in mm of images that the model is meant for.
    """

    names: tuple[str, ...]
    plane: str | None
    recipe: SlicePreprocessing
    settings: SegmentSettings
    sizes: tuple[ItemSize, ...]
    in_slice: tuple[float, float]
    between_slices: tuple[float, float]

    @property
    def classes(self) -> int:
        """Number of classes, with the background."""
        return len(self.names) + 1

    def config(self, stage: int) -> SliceCLSTMConfig:
        """Configuration of the network of a stage: the first is the CNN alone."""
        config = self.settings.network.config(self.classes)
        return replace(config, directions=0) if stage == 0 else config

    def stage_settings(self) -> list[StageSettings]:
        """Settings of the stages; without directions the CNN alone has all epochs."""
        if self.settings.network.directions == 0:
            return [replace(self.settings.cnn, share=1.0)]
        return [self.settings.cnn, self.settings.recurrent]

    def stages(self, cases: int) -> tuple[Stage, ...]:
        """Stages of the training loop.

        Parameters
        ----------
        cases : number of training volumes; an epoch has as many sequences.
        """
        given = self.stage_settings()
        total = sum(stage.share for stage in given)
        rate = self.settings.optimiser.learning_rate
        steps = [max(1, round(self.settings.epochs * cases * s.share / total / s.sequences)) for s in given]
        return tuple(
            Stage(name, n, stage.sequences, rate * stage.rate)
            for name, n, stage in zip(("CNN", "CNN and ConvLSTM"), steps, given, strict=False)
        )

    def labels(self) -> list[Label]:
        """Labels with their colours, values 1, 2, ..."""
        return [Label(k, name, COLOURS[(k - 1) % len(COLOURS)]) for k, name in enumerate(self.names, start=1)]

    def bundle_config(self) -> dict[str, Any]:
        """Configuration of the bundle, but for licence and summary."""
        return {
            "task": "segment",
            "network": "slice-clstm",
            "settings": asdict(self.config(len(self.stage_settings()) - 1)),
            "plane": self.plane or "thickest",
            "spacing": self.recipe.spacing,
            "intensity": {"rule": self.recipe.rule, "low": self.recipe.low, "high": self.recipe.high},
            "labels": [{"value": v.value, "name": v.name, "colour": list(v.colour)} for v in self.labels()],
            "expected_spacing_mm": {"in_slice": list(self.in_slice), "between_slices": list(self.between_slices)},
        }


def resolve_settings(
    settings: SegmentSettings, grids: Sequence[Image], values: set[int], known: dict[int, str]
) -> Task:
    """Complete settings by the data.

    Spacing, sizes and plane that are not set follow from the training images, names of labels from the data set.

    Parameters
    ----------
    settings : as given.
    grids : position of the training images in space; their arrays are not used.
    values : label values that occur.
    known : names of label values from the data set.

    Raises
    ------
    UnsupportedDataError
        If there are no labels, or names for fewer values than occur.
    """
    names = settings.labels.names or tuple(known.get(v, f"label {v}") for v in range(1, max([*values, *known, 0]) + 1))
    if not names:
        raise UnsupportedDataError("all label maps are empty: there is nothing to learn")
    beyond = sorted(v for v in values if v > len(names))
    if beyond:
        raise UnsupportedDataError(
            f"the labels hold the value {beyond[0]}, but there are names for {len(names)} only: {', '.join(names)}"
        )
    plane = _plane(settings.slicing.plane, grids)
    orders = [slice_order(image, plane or int(thickest_axis(image) or 0)) for image in grids]
    in_slice = np.array([order.spacing[1:] for order in orders])
    between = np.array([order.spacing[0] for order in orders])
    spacing = settings.slicing.spacing or float(f"{np.median(in_slice):.3g}")
    shapes = np.array([[image.shape[axis] for axis in order.axes] for image, order in zip(grids, orders, strict=True)])
    pixels = np.median(shapes * np.column_stack([np.ones(len(orders)), in_slice / spacing]), axis=0)
    task = Task(
        names, plane, SlicePreprocessing(spacing, settings.slicing.rule, settings.slicing.low, settings.slicing.high),
        settings, (), _range(in_slice), _range(between),
    )  # fmt: skip
    return replace(task, sizes=tuple(_size(stage, pixels) for stage in task.stage_settings()))


def _plane(asked: str, grids: Sequence[Image]) -> str | None:
    """Plane of the slices, None for across the widest spacing.

    Raises
    ------
    UnsupportedDataError
        If the widest spacing is to decide, and an image has none.
    """
    thick = [thickest_axis(image) is not None for image in grids]
    if asked == "auto":
        return None if all(thick) else "axial"
    if asked == "thickest" and not all(thick):
        raise UnsupportedDataError(
            f"plane is thickest, but {thick.count(False)} of {len(thick)} images have no spacing that is much the "
            f"widest; set plane to axial, coronal or sagittal"
        )
    return None if asked == "thickest" else asked


def _size(stage: StageSettings, pixels: Any) -> ItemSize:
    slices, rows, columns = (float(v) for v in pixels)
    sides = [min(_LARGEST_SIDE, int(-(-n // 8) * 8)) for n in (rows, columns)]
    return ItemSize(
        stage.sequences, stage.slices or min(_MOST_SLICES, max(1, round(slices))), stage.rows or sides[0],
        stage.columns or sides[1],
    )  # fmt: skip


def _range(values: Any) -> tuple[float, float]:
    return float(f"{0.7 * values.min():.2g}"), float(f"{1.5 * values.max():.2g}")

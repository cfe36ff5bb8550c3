"""Result of one segmentation: label map, probabilities, statistics, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from crnn_cli.workflows.segment.paths import SegmentPaths
from crnn_cli.workflows.segment.volume import Volume

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.data.image import Image
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.labels.label_origin import LabelOrigin
    from crnn_cli.labels.names import Label
    from crnn_cli.labels.plausibility import Finding
    from crnn_cli.labels.statistics import LabelStatistics
    from crnn_cli.segmentation.segment import Segmentation


@dataclass(frozen=True)
class LabelledVolume:
    """Label map of a volume, and what it was made from and with.

    Parameters
    ----------
    labels : the structures that were asked for.
    result : label values and, where they were asked for, class probabilities, on the image's grid.
    removed : voxels that were removed as smaller pieces, by label value.
    """

    bundle: Bundle
    volume: Volume
    labels: Sequence[Label]
    result: Segmentation
    removed: dict[int, int] = field(default_factory=dict)

    def keep_asked(self, keep_largest: bool) -> LabelledVolume:
        """Set all labels but those asked for to background.

        Parameters
        ----------
        keep_largest : of each label keep the largest connected piece only, in each frame; ``removed`` counts the rest.
        """
        import numpy as np

        from crnn_cli.labels.components import keep_largest as largest_only

        values = [label.value for label in self.labels]
        labels = np.where(np.isin(self.result.labels, values), self.result.labels, 0).astype(np.uint8)
        removed: dict[int, int] = {}
        if keep_largest:
            labels, removed = largest_only(labels, values)
        for value in values:
            if self.result.removed.get(value):
                removed[value] = removed.get(value, 0) + self.result.removed[value]
        return replace(self, result=replace(self.result, labels=labels), removed=removed)

    @cached_property
    def label_image(self) -> LabelImage:
        """The label map, with the names of its labels and its origin."""
        from crnn_cli.labels.label_image import LabelImage

        return LabelImage.on_grid(self.volume.image, self.result.labels, tuple(self.labels), self._origin)

    def predicted_dice(self, label: Label) -> list[float] | None:
        """Predicted Dice of a label in each frame, to three digits; None where the model has no curves for it."""
        slices = self.bundle.slices
        if slices is None or slices.quality is None:
            return None
        expected = [frame[label.value - 1] for frame in self.result.expected_dice]
        return [round(slices.quality.predict(label.value, value), 3) for value in expected]

    @property
    def _origin(self) -> LabelOrigin | None:
        """The model, and its predicted Dice; None where it predicts none."""
        from crnn_cli.labels.label_origin import LabelOrigin

        dice = {label.value: self.predicted_dice(label) for label in self.labels}
        known = {value: tuple(each) for value, each in dice.items() if each is not None}
        return LabelOrigin(self.bundle.name, self.bundle.sha256, known) if known else None

    @cached_property
    def statistics(self) -> list[LabelStatistics]:
        """Volume, intensity and position of every label in every frame, as in `labels.statistics.label_statistics`.

        Computed at first use and kept.
        """
        from crnn_cli.labels.statistics import label_statistics

        sizes = self.volume.no_volumes is None
        return label_statistics(self.label_image, self.volume.image, self.labels, sizes=sizes)

    @cached_property
    def findings(self) -> list[Finding]:
        """What is implausible about the labels; computed at first use and kept."""
        import numpy as np

        from crnn_cli.labels.plausibility import find_implausible

        labels = self.result.labels if self.result.labels.ndim == 4 else self.result.labels[..., None]
        return find_implausible(np.moveaxis(labels, (3, self.volume.order.axes[0]), (0, 1)), self.labels)

    def probability_image(self, label: Label) -> Image | None:
        """Probability of one label, 0 to 1, float32; None where probabilities were not kept."""
        if self.result.probabilities is None:
            return None
        return replace(self.volume.image, array=self.result.probabilities[label.value])

    @property
    def is_empty(self) -> bool:
        """Whether everything is background."""
        return not any(row.voxels for row in self.statistics)


@dataclass(frozen=True)
class SegmentationRun:
    """A finished segmentation of an image in memory.

    Parameters
    ----------
    labelled : label map, probabilities, and what they were made from.
    report : complete but for the command and the files; lengths in mm, volumes in ml, time in s.
    """

    labelled: LabelledVolume
    report: dict[str, Any]

    @property
    def labels(self) -> LabelImage:
        """The label map, with the names of its labels."""
        return self.labelled.label_image

    def probabilities(self) -> dict[str, Image]:
        """Probability of each label by its name; empty where probabilities were not kept."""
        images = {label.name: self.labelled.probability_image(label) for label in self.labelled.labels}
        return {name: image for name, image in images.items() if image is not None}


@dataclass(frozen=True)
class SegmentFileRun:
    """A finished segmentation of a file.

    Parameters
    ----------
    labelled, report : as in `SegmentationRun`.
    paths : where the results go.
    """

    labelled: LabelledVolume
    report: dict[str, Any]
    paths: SegmentPaths

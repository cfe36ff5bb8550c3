"""Result of labels from drawn slices: label map, statistics, what is known of each slice.

Legend: T frame, S slice (in anatomical order), Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli.workflows.segment.drawn.slices import DrawnSlices, on_image_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crnn_cli.data.image import Image
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.labels.names import Label
    from crnn_cli.labels.overlap import LabelMap
    from crnn_cli.labels.statistics import LabelStatistics
    from crnn_cli.segmentation.drawn.series import FilledSeries
    from crnn_cli.workflows.segment.drawn.engine import DrawnEngine
    from crnn_cli.workflows.segment.drawn.tune import Tuning
    from crnn_cli.workflows.segment.paths import SegmentPaths
    from crnn_cli.workflows.segment.volume import Volume


def slices_asked_for(volume: Volume, slices: DrawnSlices) -> NDArray[np.bool_]:
    """Whether a slice lies in the range that was asked for, (S,)."""
    return np.array([volume.span.start < number <= volume.span.stop for number in slices.numbers])


@dataclass(frozen=True)
class DrawnResult:
    """Labels of a volume or series, and what they were made from and with.

    Attributes
    ----------
    engine, volume, slices : the method, the image, and what was drawn in it.
    labels : value, name and colour of each structure, in the order of their numbers 1, 2, ...
    filled : labels of every slice by number of the structure.
    tuning : None where there was none.
    """

    engine: DrawnEngine
    volume: Volume
    slices: DrawnSlices
    labels: Sequence[Label]
    filled: FilledSeries
    tuning: Tuning | None = None

    @cached_property
    def values_XYZT(self) -> LabelMap:  # noqa: N802 the axes are those of the array
        """Label values (x, y, z) or (x, y, z, t): uint8, or uint16 where one is above 255."""
        table = np.array([0, *(label.value for label in self.labels)], np.uint16)
        values: LabelMap = np.asarray(self._on_grid(table[self.filled.numbers_TSYX]))
        return values.astype(np.uint8) if int(table.max()) <= np.iinfo(np.uint8).max else values

    @cached_property
    def numbers_XYZT(self) -> NDArray[np.uint8]:  # noqa: N802 the axes are those of the array
        """Numbers of the structures in place of their values, for pictures."""
        return np.asarray(self._on_grid(self.filled.numbers_TSYX), np.uint8)

    @cached_property
    def label_image(self) -> LabelImage:
        """The label map, with the names of its labels."""
        from crnn_cli.labels.label_image import LabelImage

        return LabelImage.on_grid(self.volume.image, self.values_XYZT, tuple(self.labels))

    @cached_property
    def statistics(self) -> list[LabelStatistics]:
        """Volume, intensity and position of every label in every frame; computed at first use and kept."""
        from crnn_cli.labels.statistics import label_statistics

        sizes = self.volume.no_volumes is None
        return label_statistics(self.label_image, self.volume.image, self.labels, sizes=sizes)

    def probability_image(self, label: Label) -> Image | None:
        """Probability of one label, 0 to 1, float32; None where probabilities were not kept."""
        if self.filled.probability_KTSYX is None:
            return None
        number = [each.value for each in self.labels].index(label.value) + 1
        return replace(self.volume.image, array=self._on_grid(self.filled.probability_KTSYX[number]))

    def predicted_dice(self, expected: float | None) -> float | None:
        """Dice that an expected Dice stands for, to three digits; None where the model has no curve for it."""
        given = self.engine.given
        if expected is None or given is None or given.quality is None:
            return None
        return round(given.quality.predict(1, expected), 3)

    def _on_grid(self, each_TSYX: NDArray[np.generic]) -> NDArray[np.generic]:
        return on_image_grid(each_TSYX, self.slices.order, self.volume.image)


@dataclass(frozen=True)
class DrawnRun:
    """A finished result, of a file or of an image in memory.

    Attributes
    ----------
    result : the labels.
    report : complete but for the command and the files.
    paths : where the results go; None for an image in memory.
    adapted : folder of the bundle to be written; None for none.
    """

    result: DrawnResult
    report: dict[str, Any] = field(default_factory=dict)
    paths: SegmentPaths | None = None
    adapted: Path | None = None

    @property
    def labels(self) -> LabelImage:
        """The label map, with the names of its labels."""
        return self.result.label_image

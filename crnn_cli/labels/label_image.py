"""Label map as an image that knows the names of its labels."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from crnn_cli.data.image import Array, Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.label_origin import LabelOrigin
from crnn_cli.labels.names import Label


@dataclass(frozen=True, repr=False)
class LabelImage(Image):
    """A label map on the grid of the image that was labelled: voxels are label values, 0 is background.

    It is an `Image` in every respect; ``labels`` says what the values mean. Names are kept by a
    DICOM SEG, by a NIfTI file that `crnn_cli.save` or a pipe wrote, and by the report beside a file.

    Attributes
    ----------
    labels : value, name and colour of each structure; values in the array without an entry have no name.
    origin : the model that made it, where that is known.

    Raises
    ------
    UnsupportedDataError
        If the array is not of unsigned integers; else as `Image`.

    Examples
    --------
    >>> grid = Image(np.zeros((4, 4, 2), np.float32), np.eye(4))
    >>> labels = LabelImage.on_grid(grid, np.ones((4, 4, 2), np.uint8), [Label(1, "myocardium", (255, 0, 0))])
    >>> labels.names, labels.mask("myocardium").sum()
    ({1: 'myocardium'}, np.int64(32))
    """

    labels: tuple[Label, ...] = ()
    origin: LabelOrigin | None = None

    def __post_init__(self) -> None:
        """Check the geometry, as of any `Image`, and the type of the values."""
        super().__post_init__()
        if self.array.dtype.kind != "u":
            raise UnsupportedDataError(f"a label map holds unsigned integers; this array is of {self.array.dtype}")

    @classmethod
    def on_grid(
        cls, grid: Image, array: Array, labels: tuple[Label, ...] | list[Label], origin: LabelOrigin | None = None
    ) -> LabelImage:
        """Label map with the geometry and the frame time of ``grid``."""
        geometry = {each.name: getattr(grid, each.name) for each in fields(Image) if each.name != "array"}
        return cls(array=array, **geometry, labels=tuple(labels), origin=origin)

    @property
    def names(self) -> dict[int, str]:
        """Name of each label by its value."""
        return {label.value: label.name for label in self.labels}

    def mask(self, label: str | int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Boolean mask of one label, given by its name (case-insensitive) or its value.

        A value that does not occur gives an empty mask.

        Raises
        ------
        KeyError
            If no label has this name.
        """
        by_name = {known.name.lower(): known.value for known in self.labels}
        value = by_name[label.lower()] if isinstance(label, str) else label
        return np.asarray(self.array == value)

    def __repr__(self) -> str:
        """Shape, spacing, and the names of the labels."""
        shape = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{v:.3g}" for v in self.spacing)
        names = ", ".join(f"{value} {name}" for value, name in self.names.items()) or "no names"
        return f"LabelImage({shape}, {spacing} mm, {names})"

"""Label maps whose header scales their values to fractions, as of software that takes over the header of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crnn_cli.notices import Doubt, Fact, Remark

if TYPE_CHECKING:
    from crnn_cli.data.image import Array
    from crnn_cli.io.loaded_image import LoadedImage

_FEW, _SMALL = 16, 63
"""Most values, and the largest stored one, of what is taken for a label map without saying so."""
_GLANCE = 100_000  # voxels that are looked at first
SCALE_CODES = ("label-scale", "labels-rounded")
"""Codes of what is told of such a map."""
_UNSCALED = (1.0, 0.0)


def with_label_values(loaded: LoadedImage, certain: bool = False) -> LoadedImage:
    """A label map that is stored as integers with a scale, with whole numbers as values; anything else as it is.

    Values that are whole numbers but for the step of the scale are rounded. Of others the scale is left off, if the
    stored integers are few: it is that of an image. Both are told among the notes.

    Parameters
    ----------
    certain : whether the file is meant as a label map, whatever it says.
    """
    import numpy as np

    from crnn_cli.io.nifti.intent import LABELS
    from crnn_cli.labels.overlap import FEW_LABELS

    slope, offset = loaded.scale
    image, certain = loaded.image, certain or loaded.intent == LABELS
    if loaded.scale == _UNSCALED or image.is_complex or np.dtype(loaded.dtype).kind not in "ui":
        return loaded
    most = FEW_LABELS if certain else _FEW
    flat = image.array.ravel(order="K")
    if len(np.unique(flat[:: max(1, flat.size // _GLANCE)])) > most:
        return loaded
    values = np.unique(flat).astype(np.float64)
    stored = np.rint((values - offset) / slope)
    if not (np.isfinite(values).all() and 2 <= len(values) <= most) or np.array_equal(values, np.rint(values)):
        return loaded
    if _are_whole_but_for_the_step(values, abs(slope)):
        text = f"the scale of its header ({slope:.4g}) makes fractions of labels: they are rounded to whole numbers"
        return _with(loaded, np.rint(image.array), Fact("labels-rounded", text))
    if stored.min() >= 0 and (certain or stored.max() <= _SMALL):
        text = f"the scale of its header ({slope:.4g}) makes fractions of labels: it is left off"
        whole: Array = np.rint(np.divide(np.subtract(image.array, offset), slope)).astype(image.array.dtype)
        return _with(loaded, whole, Doubt("label-scale", text))
    return loaded


def _are_whole_but_for_the_step(values: Array, step: float) -> bool:
    """Whether different values lie within half a step of different whole numbers from 0."""
    import numpy as np

    whole = np.rint(values)
    near: Array = np.isclose(values, whole, rtol=1e-6, atol=step / 2)
    return bool(step < 0.5 and near.all() and whole[0] >= 0 and len(np.unique(whole)) == len(values))


def _with(loaded: LoadedImage, values: Array, note: Remark) -> LoadedImage:
    return replace(loaded, image=replace(loaded.image, array=values), notes=(*loaded.notes, note))

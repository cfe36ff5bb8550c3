"""What a model may be given: images of its modality and view, with sizes that mean something.

A network labels whatever it is given. So an input that is certainly not an image of the model's kind is refused, one
that may not be is a doubt, and where lengths are not known, or the view is not the one that the model was made for, no
volumes in millilitres are stated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.notices import Doubt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crnn_cli.bundles.config import SliceInput
    from crnn_cli.data.geometry import SliceOrder
    from crnn_cli.data.image import Affine, Array, Image
    from crnn_cli.io.dicom.series import Series

_FEW_VALUES = 16
"""Most whole numbers of a volume that is taken for a label map."""
_AIR, _SHARE_OF_AIR = -500, 0.05
"""Values below, in at least this share of the voxels, are Hounsfield units of air, and no magnitude."""
_MOST_NEGATIVE = 0.01
"""Share of negative voxels from which on an image is hardly a magnitude."""
_LONG_AXIS = (-0.655, 0.605, -0.453)
"""Direction of the human left ventricle from base to apex, RAS+: to the left, to the front, down. Hearts differ by some
30 degrees; two- and four-chamber views lie at right angles to their own axis, axial slices 63 degrees from this one."""
_WIDEST_ANGLE = 60.0
_MOST_FRAMES, _LONGEST_BEAT = 40, 1.5
"""Frames, and seconds where they are known, up to which a series is taken for one heart beat."""
_FAR, _FEWEST_OF_SLICE = 0.25, 7
"""Detour of single slices above which their frames are not in order, and frames from which on it tells; of 43 cines the
largest was 0.19."""


def require_image(array: Array, declared_labels: bool, name: str) -> None:
    """Refuse a label map.

    Parameters
    ----------
    array : of voxels.
    declared_labels : whether the file says that it is one.
    name : how the message calls the image.

    Raises
    ------
    UnsupportedDataError
        If the file says so, or the voxels hold at most 16 values, all whole numbers from 0.
    """
    few = _few_whole_values(array)
    if not declared_labels and not few:
        return
    why = "says that it is a label map" if declared_labels else f"holds the whole numbers {few} only: a label map"
    raise UnsupportedDataError(
        f"{name} {why}; labels are made of an image, not of labels",
        remedy=["give the image that these labels belong to"],
    )


def _few_whole_values(array: Array) -> str:
    """The values of an array in words if they are few whole numbers from 0 up, and differ; else empty."""
    import numpy as np

    values = np.unique(array[..., :1] if array.ndim == 4 else array)
    if not 2 <= len(values) <= _FEW_VALUES or np.iscomplexobj(values):
        return ""
    if values[0] < 0 or values[-1] > 255 or not np.array_equal(values, np.floor(values)):
        return ""
    whole = np.unique(array)
    return ", ".join(f"{v:g}" for v in whole) if len(whole) <= _FEW_VALUES else ""


def modality_doubts(array: Array, series: Series | None, fed: SliceInput, name: str, model: str) -> list[Doubt]:
    """Check that an image is of the modality that a model was made for.

    Parameters
    ----------
    array : real voxels.
    series : the DICOM series; None where the image is from elsewhere.
    fed : what the model is to be fed with; without a modality nothing is checked.
    name, model : for the message.

    Raises
    ------
    UnsupportedDataError
        If the series says that it is of another modality, or the values are Hounsfield units.
    """
    import numpy as np

    if fed.modality is None:
        return []
    if series is not None and series.modality and series.modality != fed.modality:
        raise UnsupportedDataError(
            f"{name} is of modality {series.modality}, and {model} is for {fed.modality}",
            remedy=["use a model for this modality with ", Param("model")],
        )
    if fed.modality != "MR":
        return []
    values = np.asarray(array, np.float32)
    air, negative = (float((values < limit).mean()) for limit in (_AIR, 0))
    if air >= _SHARE_OF_AIR:
        raise UnsupportedDataError(
            f"{name} has values down to {float(values.min()):g}, in {100 * air:.0f} % of the voxels below {_AIR}: "
            f"Hounsfield units of CT, or a phase; {model} is for magnitudes of MR",
            remedy=["use a model for this modality with ", Param("model")],
        )
    if negative < _MOST_NEGATIVE:
        return []
    return [
        Doubt(
            "not-a-magnitude",
            f"{100 * negative:.0f} % of the voxels of {name} are negative; {model} is for magnitudes of MR, which have "
            "no sign",
        )
    ]


def view_doubt(order: SliceOrder, affine: Affine, fed: SliceInput) -> tuple[Doubt | None, bool]:
    """Check that slices are short-axis slices, where a model is for those, as far as the affine can tell.

    Parameters
    ----------
    order : of the slices.
    affine : of the image, RAS+.
    fed : what the model is to be fed with; its labels tell whether it is for the heart in slices of no fixed plane.

    Returns
    -------
    A doubt, or None; and whether the slices lie along the patient's axes, as they also do where the orientation was
    lost.
    """
    import numpy as np

    from crnn_cli.data.geometry import ALONG_PATIENT_AXIS
    from crnn_cli.labels.plausibility import CAVITY, label_with_code

    if fed.plane is not None or label_with_code(fed.labels, CAVITY) is None:
        return None, False
    normal = affine[:3, order.axes[0]] / np.linalg.norm(affine[:3, order.axes[0]])
    if float(np.abs(normal).max()) >= ALONG_PATIENT_AXIS:
        text = (
            f"the header says that the slices are {order.plane}; short-axis slices are oblique, so the view is another"
        )
        return Doubt("not-short-axis", f"{text} one, or the orientation was lost"), True
    cosine = abs(float(normal @ np.array(_LONG_AXIS)))
    angle = float(np.degrees(np.arccos(min(1.0, cosine))))
    if angle <= _WIDEST_ANGLE:
        return None, False
    text = f"the slices lie {angle:.0f} degrees off the short axis of most hearts, as long-axis views do"
    return Doubt("not-short-axis", f"{text}; the model was trained on short-axis slices"), False


def frames_doubt(image: Image, order: SliceOrder, chosen: slice, fed: SliceInput) -> Doubt | None:
    """Check that the frames of a heart follow each other; longer series may show several beats, and are not looked at.

    Parameters
    ----------
    order : of the slices, and ``chosen``, those that are labelled, along their axis of the array.
    fed : what the model is to be fed with; its labels tell whether it is for the heart.
    """
    import numpy as np

    from crnn_cli.data.frame_order import FEWEST, TOO_LONG, detour, image_distances
    from crnn_cli.labels.plausibility import CAVITY, counted, label_with_code

    seconds = (image.frame_time or 0.0) * image.frames
    several = not FEWEST <= image.frames <= _MOST_FRAMES or seconds > _LONGEST_BEAT
    if several or label_with_code(fed.labels, CAVITY) is None:
        return None
    slices = np.moveaxis(image.array, order.axes[0], 0)[chosen]
    distances = [image_distances(each) for each in slices]
    text = "do not follow each other as in a heart beat"
    far = [chosen.start + s for s, each in enumerate(distances) if detour(each) > _FAR]
    if image.frames >= _FEWEST_OF_SLICE and 0 < len(far) <= len(distances) / 2:
        told = f"the frames of {counted('slice', far)} {text}: shuffled there, or a slice without the heart?"
        return Doubt("frames-out-of-order", told)
    whole = detour(np.sum(distances, axis=0))
    if whole <= TOO_LONG:
        return None
    more = f"the steps between them are {100 * whole:.0f} % longer than in another order: shuffled, or several beats?"
    return Doubt("frames-out-of-order", f"the frames {text}; {more}")


def why_no_volumes(image: Image, doubts: Sequence[Doubt], trusted_view: bool) -> str | None:
    """Reason for which no volumes in millilitres are stated; None where they are.

    Parameters
    ----------
    image : its spacing and what is doubtful about it.
    doubts : about view and spacing, as to the model.
    trusted_view : whether the orientation can be relied on: oblique, or of DICOM.
    """
    codes = {doubt.code for doubt in [*doubts, *image.doubts()]}
    if "implausible-spacing" in codes or {"unit-spacing", "spacing-not-trained"} <= codes:
        return "the size of the voxels is not known"
    if "not-short-axis" in codes and trusted_view:
        return "these are not short-axis slices"
    return None

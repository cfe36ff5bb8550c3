"""What can be done with a file: commands that run on it, and remarks where none does.

A command is proposed only after the checks that would refuse it; `crnn info` prints the proposals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.io.describe import Command, NextStep, Step

if TYPE_CHECKING:
    from crnn_cli.bundles.config import SliceInput
    from crnn_cli.data.image import Image
    from crnn_cli.data.raw_scan import RawScan
    from crnn_cli.io.dicom.listing import Listing
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.io.loaded_image import LoadedImage

_FACTORS = (8, 4, 2)
_LEAST_LINES = 4  # of a frame of a simulated scan
_FARTHEST = 4.0  # times outside the spacing of a model, as far as crnn segment warns and does not refuse


def steps_for_image(loaded: LoadedImage, file: str, given: tuple[Param, ...] = ()) -> NextStep:
    """What can be done with an image.

    Parameters
    ----------
    file : its name.
    given : parameters that were needed to read it, such as ``axes`` or ``series``.
    """
    from crnn_cli.data.geometry import thickest_axis

    image = loaded.image
    if is_label_map(loaded):
        return (Step(Command("labels", file), ("measures the labels",)),)
    remark: tuple[Step, ...] = ()
    if image.is_complex:
        reason = _why_no_reconstruction(image)
        if reason is None:
            return (Step(Command("reconstruct", file, given)),)
        remark = (Step(None, (*reason.parts, *((": ", *reason.remedy) if reason.remedy else ()))),)
    steps = [
        *(_simulation(image, file, given) if _is_dynamic(image) else ()),
        *_segmentations(image, loaded.series, file, given),
    ]
    if image.array.ndim == 3 and image.shape[2] > 1 and thickest_axis(image) != 2:
        remark = (*remark, Step(None, ("if its third axis is time, say so with ", Param("axes", "x,y,t"))))
    if not steps and not remark:
        remark = (Step(None, ("nothing here reconstructs or labels it",)),)
    return (*remark, *steps)


def is_label_map(loaded: LoadedImage) -> bool:
    """Whether a file says that it is a label map, or holds few whole numbers; in floating point, very few."""
    from crnn_cli.io.nifti.intent import LABELS
    from crnn_cli.labels.overlap import holds_few_labels
    from crnn_cli.workflows.segment.admission import require_image

    try:
        require_image(loaded.image.array, loaded.intent == LABELS, "the image")
    except UnsupportedDataError:
        return True
    return np.dtype(loaded.dtype).kind in "ui" and holds_few_labels(loaded.image.array)


def _why_no_reconstruction(image: Image) -> UnsupportedDataError | None:
    """Why a complex series cannot be reconstructed as an undersampled scan; None where it can."""
    from crnn_cli.data.acquisition import from_zero_filled

    try:
        from_zero_filled(image)
    except UnsupportedDataError as reason:
        return reason
    return None


def _is_dynamic(image: Image) -> bool:
    from crnn_cli.data.acquisition import require_dynamic

    try:
        require_dynamic(image)
    except UnsupportedDataError:
        return False
    return True


def _simulation(image: Image, file: str, given: tuple[Param, ...]) -> Iterator[Step]:
    """An undersampled scan simulated from a series in time, as fast as its matrix allows."""
    factor = next((factor for factor in _FACTORS if image.shape[1] >= _LEAST_LINES * factor), None)
    if factor is not None and not (image.is_complex and _is_undersampled(image)):
        undersample = Param("undersample", factor)
        yield Step(Command("reconstruct", file, (*given, undersample)), ("simulates an undersampled scan",))


def _is_undersampled(image: Image) -> bool:
    """Whether the k-space of a complex series has zeros inside the measured region."""
    from crnn_cli.data.acquisition import find_mask
    from crnn_cli.data.lazy_kspace import SeriesKspace

    try:
        return find_mask(SeriesKspace(image)) is not None
    except UnsupportedDataError:
        return True


def _segmentations(image: Image, series: Series | None, file: str, given: tuple[Param, ...]) -> Iterator[Step]:
    """The first published model, the default first, that is meant for such an image."""
    from crnn_cli.bundles.store import DEFAULT_MODELS, list_bundles

    if any(each.name == "axes" for each in given):
        return
    bundles = [bundle for bundle in list_bundles() if bundle.task == "segment"]
    for bundle in sorted(bundles, key=lambda each: each.name != DEFAULT_MODELS["segment"]):
        if bundle.slices is None or not _is_meant_for(bundle.slices, image, series):
            continue
        usual = bundle.name == DEFAULT_MODELS["segment"]
        choice = (Param("slices"),) if usual else (Param("slices", "auto"), Param("model", bundle.name))
        names = ", ".join(label.name for label in bundle.slices.labels)
        frames = " in every frame" if image.frames > 1 else ""
        yield Step(Command("segment", file, (*given, *choice)), (f"labels {names}{frames}",))
        return


def _is_meant_for(fed: SliceInput, image: Image, series: Series | None) -> bool:
    """Whether a model takes an image: its modality, its view, and thick slices or its own spacing and plane."""
    from crnn_cli.data.geometry import require_perpendicular, shortest_axis, slice_order, thickest_axis
    from crnn_cli.workflows.segment.admission import modality_doubts, view_doubt

    if image.shape[2] < 2 and image.array.ndim == 3:
        return False
    magnitude = replace(image, array=np.abs(image.array)) if image.is_complex else image
    try:
        require_perpendicular(image.affine, "the image")
        image.require_finite("the image")
        modality_doubts(magnitude.array, series, fed, "the image", "the model")
    except UnsupportedDataError:
        return False
    axis = thickest_axis(image)
    axis = shortest_axis(image) if axis is None else axis
    if fed.plane is not None:
        return axis is None and image.frames == 1 and _is_plausible(slice_order(image, fed.plane).spacing, fed, 1.0)
    if axis is None:
        return False
    order = slice_order(image, axis)
    view, along_axes = view_doubt(order, image.affine, fed)
    surely_other = view is not None and (series is not None or not along_axes)
    return not surely_other and _is_plausible(order.spacing, fed, _FARTHEST)


def _is_plausible(spacing: tuple[float, float, float], fed: SliceInput, farthest: float) -> bool:
    """Whether pixels, and of a volume the distance of its slices, are at most ``farthest`` times out of the range."""
    between, *in_slice = spacing
    ranges = [(value, fed.in_slice) for value in in_slice]
    ranges += [(between, fed.between_slices)] if farthest == 1 else []
    return all(least / farthest <= value <= most * farthest for value, (least, most) in ranges)


def steps_for_raw(scan: RawScan, file: str, given: tuple[Param, ...] = ()) -> NextStep:
    """What can be done with raw k-space: a reconstruction by a method that its frames and calibration lines allow.

    Parameters
    ----------
    given : parameters that were needed to read it, such as ``axes`` or ``variable``.
    """
    _, coils, frames, _, _ = scan.shape_ZCTYX
    if coils == 1 and frames == 1:
        return (Step(None, ("one frame of one coil: there is nothing to fill in",)),)
    reason = _why_no_sensitivities(scan)
    if reason is None:
        method = (Param("method", "sense"),) if frames == 1 else ()
        return (Step(Command("reconstruct", file, (*given, *method))),)
    remark = Step(None, (*reason.parts, "; give them with ", Param("maps", "FILE"), ", or lines for them with ",
                         Param("calibration", "FILE")))  # fmt: skip
    method = (Param("method", "zero-filled"),) if frames == 1 else ()
    one = Command("reconstruct", file, (*given, *method, Param("coils", 1)))
    return (remark, Step(one, ("combines the coils to one",)))


def _why_no_sensitivities(scan: RawScan) -> UnsupportedDataError | None:
    """Why no sensitivities can be estimated from the middle slice; None where they can, or there is one coil."""
    slices, coils, *_ = scan.shape_ZCTYX
    if coils == 1:
        return None
    import torch

    from crnn_cli.mri.coils import calibration_block

    measured = scan.read(slices // 2)
    apart = None if measured.calibration_CYX is None else torch.from_numpy(measured.calibration_CYX)
    try:
        calibration_block(torch.from_numpy(measured.kspace_CTYX), torch.from_numpy(measured.mask_TYX), apart)
    except UnsupportedDataError as reason:
        return reason
    return None


def steps_for_folder(listing: Listing, file: str, given: tuple[Param, ...] = ()) -> NextStep:
    """What can be done with the first series of a DICOM folder that is good for something, by its headers alone.

    Parameters
    ----------
    given : parameters that were needed to list it, such as ``slice_tolerance``.
    """
    stack = listing.only_stack
    readable = sorted((series for series in listing.series if series.grid), key=lambda series: not series.members)
    for series in readable if stack is None else [stack]:
        choice = (Param("series", series.number),) if stack is None and len(readable) > 1 else ()
        steps = _steps_for_series(series, file, (*choice, *given))
        if steps:
            return steps
    return (
        (Step(None, ("no series here can be reconstructed or labelled; crnn convert reads it",)),) if readable else ()
    )


def _steps_for_series(series: Series, file: str, given: tuple[Param, ...]) -> NextStep:
    """What can be done with a DICOM series that is readable; its pixels are not looked at."""
    from crnn_cli.data.image import Image

    assert series.affine is not None  # of a readable series
    shape = (series.size[1], series.size[0], series.slices, *((series.frames,) if series.frames > 1 else ()))
    image = Image(np.broadcast_to(np.float32(0), shape), series.affine, series.frame_time)
    simulation = _simulation(image, file, given) if series.frames > 1 else ()
    return (*simulation, *_segmentations(image, series, file, given))

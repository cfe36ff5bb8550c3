"""Functions for notebooks and scripts, from load to save. The commands run the same workflows.

    import crnn_cli as crnn

    scan = crnn.load("scan.nii")
    result = crnn.reconstruct(scan, model="cine-crnn")
    labels = crnn.segment(result.images, slices="axial")
    heart = crnn.function(labels)
    crnn.save(labels, "labels.nii.gz")

Nothing is printed: progress goes to a callback ``progress(done, total)``, warnings go to the logger ``crnn``. Errors
derive from `CrnnError`; their text names parameters as Python spells them. Not for diagnostic use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crnn_cli import notices
from crnn_cli.data.image import Image
from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import Param, UsageError
from crnn_cli.results import ForecastResult, ReconstructionResult
from crnn_cli.workflows.python_inputs import (
    Source,
    drawn_image,
    listed_numbers,
    model_name,
    open_file,
    open_image,
    open_scan,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crnn_cli.bundles.config import Bundle
    from crnn_cli.cardiac.function import CardiacFunction
    from crnn_cli.labels.label_image import LabelImage

Progress = notices.Progress


def _no_progress(done: int, total: int) -> None:
    del done, total


def load(
    path: Source, *, axes: str | None = None, series: str | int | None = None, phase: Source | None = None,
    slice_tolerance: float | None = None, variable: str | None = None, phases: int | None = None,
    kind: str | None = None, set_number: int | None = None, contrast: int | None = None,
    repetition: int | None = None, phase_number: int | None = None, view: int | None = None, drop_empty: bool = False,
) -> Image | RawScan:  # fmt: skip
    """Open a scan, a series or a label map; the format is told by the content.

    Parameters
    ----------
    path : NIfTI file; DICOM file, folder, zip or DICOMDIR; ISMRMRD, fastMRI, CMRxRecon or other HDF5; MATLAB; BART;
        NumPy. Large NIfTI files are mapped, raw k-space is read slice by slice when it is reconstructed.
    axes : what the stored axes are where the file does not say, such as ``x,y,t`` or ``coil,t,ky,kx``.
    series : number or UID of a DICOM series, where there are several; ``"3-8,10"`` joins series of one slice each. A
        stack of such series is found and joined without it, where it is the only one.
    phase : file with the phase of a magnitude series, in radians or scanner units; the image is then complex.
    slice_tolerance : how far slices may lie off even positions, in mm (DICOM, ISMRMRD).
    variable : name of the array in a MATLAB or HDF5 file that holds several.
    phases : number of cardiac phases to sort the lines of an ISMRMRD file into, by ECG time stamps.
    kind : ``kspace`` or ``image``, what an array holds where the two are in doubt.
    set_number, contrast, repetition, phase_number : counter of the readouts of an ISMRMRD file to take, where there are
        several.
    view : stack of slices of one direction in an ISMRMRD file, from 1.
    drop_empty : leave out frames of raw k-space of which a slice has no lines.

    Returns
    -------
    An `Image` (x, y, z) or (x, y, z, t), or a `RawScan` of k-space. Doubts about the geometry go to the log.

    Raises
    ------
    UnreadableError
        If the file is missing, broken, or of no known format.
    UnsupportedDataError
        If it is ambiguous: several series, axes that nothing names, uneven slices.
    UsageError
        If a choice does not belong to the format.
    """
    from crnn_cli.io.phase import join_phase
    from crnn_cli.workflows.reconstruct.phase import load_phase

    choices = {"axes": axes, "series": None if series is None else str(series), "slice_tolerance": slice_tolerance,
               "variable": variable, "phases": phases, "kind": kind, "set_number": set_number, "contrast": contrast,
               "repetition": repetition, "phase_number": phase_number, "view": view,
               "drop_empty": drop_empty or None}  # fmt: skip
    opened = open_file(Path(path), choices)
    if phase is None:
        return opened
    if isinstance(opened, RawScan):
        raise UsageError(Param("phase"), f" belongs to magnitude images, and {path} holds k-space")
    return join_phase(opened, load_phase(Path(phase), axes, slice_tolerance=slice_tolerance).image, str(phase))


def from_kspace(
    kspace: NDArray[np.complexfloating[Any, Any]], axes: str = "coil,t,ky,kx", *,
    mask: NDArray[np.generic] | None = None, affine: NDArray[np.floating[Any]] | None = None,
    frame_time: float | None = None,
) -> RawScan:  # fmt: skip
    """Take centred, orthonormal Cartesian k-space in memory as a scan.

    Parameters
    ----------
    kspace : complex, zero where not measured.
    axes : name of each axis: slice, coil, t, ky (phase encoding), kx (readout), kz.
    mask : 0/1 over (t, ky, kx), each axis 1 or as long as the k-space's; None: a sample that is exactly zero in all
        coils was not measured.
    affine : (4, 4) voxel index to RAS+ mm, of images (x along kx, y along ky, slices); None for voxels of 1 mm.
    frame_time : seconds between frames.

    Raises
    ------
    UsageError
        If the axes do not fit the array.
    UnsupportedDataError
        If the array is not complex, all zero, or its energy is not at the centre (images, or axes mixed up).
    """
    import numpy as np

    from crnn_cli.workflows.reconstruct.scan import raw_from_kspace

    boolean = None if mask is None else np.asarray(mask, bool)
    return raw_from_kspace(
        np.asarray(kspace), axes, boolean, None if affine is None else np.asarray(affine, np.float64), frame_time
    )


def load_model(name: Source) -> Bundle:
    """Open a published model, or a bundle folder, and verify its config.

    Raises
    ------
    UsageError
        If no published model has the name and no bundle lies there.
    UnreadableError
        If the bundle is damaged.
    """
    from crnn_cli.bundles.store import find_bundle

    return find_bundle(os.fspath(name))


def reconstruct(
    scan: Image | RawScan | Source, *, model: Bundle | Source | None = None, method: str = "crnn",
    mask: Image | NDArray[np.generic] | None = None, undersample: float | None = None, seed: int = 0,
    iterations: int | None = None, regularisation: float | None = None, noise_ratio: float | None = None,
    precision: str | None = None, ensemble: int | None = None, adapt: str | None = None,
    coils: int | None = None, maps: NDArray[np.complexfloating[Any, Any]] | None = None,
    map_sets: int | None = None,
    slice_number: int | None = None, hold_out_folds: int | None = None, uncertainty_runs: int = 0,
    keep_runs: bool = False, device: str = "auto", threads: int | None = None, progress: Progress = _no_progress,
) -> ReconstructionResult:  # fmt: skip
    """Reconstruct an undersampled dynamic scan.

    Parameters
    ----------
    scan : complex zero-filled images, raw k-space, or the name of a file of either (its sha256 is then in the report).
        With ``undersample`` a fully sampled series, magnitude or complex.
    model : published name, bundle folder, or what `load_model` returned; None for ``cine-crnn``.
    method : ``crnn``, ``zero-filled``, ``sliding-window``, ``sense``, ``tv``, ``llr`` or ``l+s``.
    mask : 0/1 over centred k-space with the axes of the images (x, y, z, t), length 1 is repeated; None: found from
        exact zeros.
    undersample : simulate a scan that is this many times faster; the report then compares with the truth.
    seed : of the simulated pattern and of ``adapt``.
    iterations : unrolled iterations, or those of a classical method; None for the default.
    regularisation : weight of a classical method, relative to the data.
    noise_ratio : noise variance of the samples relative to the network's error; 0 is hard data consistency. None:
        estimated for raw data, else 0.
    precision : ``fp32``, ``bf16``, or ``tf32`` on a GPU.
    ensemble : average over N flipped copies of the scan, 1 to 4.
    adapt : tune the network to the scan first, for a time such as ``3m``.
    coils, maps : of raw k-space: compress to so many virtual coils; sensitivities (slice, coil, y, x), or of several
        sets (slice, set, coil, y, x).
    map_sets : of raw k-space: sets of sensitivities to estimate, 1 or 2; None: two where the object is larger than the
        field of view.
    slice_number : reconstruct one slice alone, counted from 1.
    hold_out_folds : further runs that predict held-out lines, 0 to 2. None: 1 where the scan is small.
    uncertainty_runs : runs for a map of the standard deviation, 0 for none.
    keep_runs : keep the images of these runs, for `function`.
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    threads : of the CPU while this runs; None leaves PyTorch's number.
    progress : called with (steps done, steps in all).

    Raises
    ------
    CrnnError
        UnsupportedDataError for a scan that cannot be reconstructed as it is (magnitude alone, fully sampled, no time
        axis), UsageError for parameters that do not go together, DeviceError, UnreadableError.
    """
    from crnn_cli.workflows.reconstruct.adapt import parse_budget
    from crnn_cli.workflows.reconstruct.methods import MethodRequest
    from crnn_cli.workflows.reconstruct.run import RunSettings, prepare_engine, reconstruct_scan
    from crnn_cli.workflows.reconstruct.scan import select_slice

    request = MethodRequest(
        method, model_name(model), iterations, regularisation, noise_ratio, precision, None, ensemble
    )
    settings = RunSettings(
        hold_out_folds=hold_out_folds, uncertainty_runs=uncertainty_runs, adapt=parse_budget(adapt, None), seed=seed,
        keep_runs=keep_runs,
    )  # fmt: skip
    if keep_runs and not uncertainty_runs:
        raise UsageError(Param("keep_runs"), " needs ", Param("uncertainty_runs", 4), ": there are no runs to keep")
    with notices.recording(), _threads(threads):
        opened = open_scan(scan, mask, undersample, seed, coils, maps, map_sets, slice_number)
        if slice_number is not None:
            opened = select_slice(opened, slice_number)
        engine = prepare_engine(request, device)
        return ReconstructionResult.from_run(reconstruct_scan(opened, settings, engine, progress))


def segment(
    image: Image | Source, *, model: Bundle | Source | None = None, slices: str = "auto", labels: str | None = None,
    threshold: float = 0.5, keep_largest: bool = False, frame_by_frame: bool = False,
    spacing: tuple[float, ...] | None = None, drawn: Image | NDArray[np.generic] | Source | None = None,
    empty: Sequence[int] = (), fixed: Sequence[int] | None = None, frames: Sequence[int] | None = None,
    fill: str | None = None, minutes: float | None = None, steps: int | None = None, seed: int | None = None,
    precision: str | None = None, device: str = "auto", threads: int | None = None, progress: Progress = _no_progress,
) -> LabelImage:  # fmt: skip
    """Label a volume, or every frame of a series, slice by slice: by a model, or from slices that someone drew.

    Parameters
    ----------
    image : (x, y, z) or (x, y, z, t); of complex images the magnitude is labelled. Or the name of a file.
    model : published name, bundle folder, or what `load_model` returned; None for ``cardiac-sax-clstm``.
    slices : ``auto``, ``axial``, ``coronal`` or ``sagittal``, perhaps with a range from 1: ``axial:3-8``.
    labels : names or values to keep, with commas between them; None for all.
    threshold : probability that all structures together must reach in a voxel.
    keep_largest : keep the largest connected piece of each label in each frame only.
    frame_by_frame : label each frame of a cine on its own, where the model would settle it with its neighbours.
    spacing : voxel size x, y, z in mm, perhaps with the frame time in s, in place of that of the image.
    drawn : labels of some slices, of any structures, from which the other slices are labelled: an image on the same
        grid, an array of the same shape, or the name of a file. Drawn slices stay as they are. The model is then
        ``drawn-clstm``, and ``labels``, ``keep_largest`` and ``frame_by_frame`` are not used.
    empty, fixed : slices meant empty; of a whole, corrected map, those that count as drawn. Counted from 1, as stored.
    frames : of a series, the frames that are drawn, from 1; None for those with labels.
    fill : ``network``, ``distances`` (interpolated signed distances) or ``nearest``; None for ``network``.
    minutes, steps, seed : tune the network to the drawn slices first, for a time or a number of steps.
    precision, device, threads, progress : as of `reconstruct`.

    Returns
    -------
    A label map on the grid of the image: an `Image` with ``names``, ``mask(name)``.

    Raises
    ------
    CrnnError
        UnsupportedDataError if it is in doubt how the volume is sliced, UsageError for a label that the model lacks.
    """
    from crnn_cli.workflows.segment.options import SegmentOptions
    from crnn_cli.workflows.segment.steps import segment_image

    opened = image if isinstance(image, Image) else open_image(image)
    options = SegmentOptions(
        slices=slices, model=model_name(model), device=device, labels=labels, threshold=threshold,
        keep_largest=keep_largest, frame_by_frame=frame_by_frame, precision=precision,
        spacing=None if spacing is None else ",".join(map(str, spacing)),
        drawn=None if drawn is None else Path("drawn"), empty=listed_numbers(empty) or None,
        fixed=listed_numbers(fixed), frames=listed_numbers(frames), fill=fill, minutes=minutes, steps=steps, seed=seed,
    )  # fmt: skip
    with notices.recording(), _threads(threads):
        if drawn is not None:
            from crnn_cli.workflows.segment.drawn.steps import label_drawn

            return label_drawn(opened, drawn_image(drawn, opened), options, progress=progress).labels
        return segment_image(opened, options, progress=progress).labels


def function(
    source: Image | Source, *, labels: str | None = None, runs: Sequence[Image | Source] | Source | None = None,
    ed: int | None = None, es: int | None = None,
    height: float | None = None, weight: float | None = None, bsa: str = "mosteller", heart_rate: float | None = None,
    model: Bundle | Source | None = None, device: str = "auto", progress: Progress = _no_progress,
) -> CardiacFunction:  # fmt: skip
    """Measure a heart: volumes, ejection fraction, mass, heart rate, wall thickness.

    Parameters
    ----------
    source : label map of a short-axis cine; or the cine, which is labelled first. Or the name of a file of either.
    labels : what the values of a label map are without names: ``acdc``, ``mnms``, ``ukbb``, ``1=RV,2=MYO,3=LV``.
    runs : of the reconstruction that a cine is of, 4 or more: ``runs`` of `reconstruct`, files, or a folder of them.
    ed, es : frames of end diastole and end systole, from 1; None: those of the largest and the smallest cavity.
    height, weight, bsa : of the person, in cm and kg; formula of the body surface, ``mosteller`` or ``dubois``.
    heart_rate : per minute; None: from the header or the frames.
    model, device, progress : for labelling, as of `segment`.

    Returns
    -------
    Every number as a quantity with its unit, or the reason why there is none.

    Raises
    ------
    CrnnError
        UnsupportedDataError where no ventricle is labelled or nothing says what the values are; UsageError.
    """
    from crnn_cli.workflows.function.measure import measure_file, measure_image
    from crnn_cli.workflows.function.options import FunctionOptions

    folder, kept = None, None
    if isinstance(runs, str | os.PathLike):
        folder = Path(runs)
    elif runs is not None:
        kept = [each if isinstance(each, Image) else open_image(each) for each in runs]
    options = FunctionOptions(
        labels=labels, runs=folder, ed=ed, es=es, height=height, weight=weight, bsa=bsa, heart_rate=heart_rate,
        model=model_name(model), device=device,
    )  # fmt: skip
    with notices.recording():
        if isinstance(source, Image):
            return measure_image(source, options, progress, kept).function
        return measure_file(Path(source), options, progress, kept).function


def forecast(
    series: Image | Source, *, frames: int = 4, from_frame: int | None = None, reference: bool = False,
    model: Bundle | Source | None = None, device: str = "auto", threads: int | None = None,
    progress: Progress = _no_progress,
) -> ForecastResult:  # fmt: skip
    """Forecast the next frames of a series, each slice on its own.

    Parameters
    ----------
    series : (x, y, z, t) of 2 frames or more; of complex images the magnitude is forecast. Or the name of a file.
    frames : how many, 1 to 100.
    from_frame : the last frame that is read, from 1; None for the last of the series.
    reference : measure against the frames that follow.
    model : published name, bundle folder, or what `load_model` returned; None for ``cine-forecast``.
    device, threads, progress : as of `reconstruct`.

    Raises
    ------
    CrnnError
        UnsupportedDataError for images without a time axis or with nothing in them, UsageError for frames that are not
        there.
    """
    from crnn_cli.workflows.forecast.options import ForecastOptions
    from crnn_cli.workflows.forecast.run import forecast_source

    options = ForecastOptions(
        frames=frames, from_frame=from_frame, reference=reference, model=model_name(model), device=device
    )
    with notices.recording(), _threads(threads):
        source = series if isinstance(series, Image) else Path(series)
        return ForecastResult.from_run(forecast_source(source, options, progress))


def events(
    series: Image | Source, *, threshold: float | None = None, model: Bundle | Source | None = None,
    device: str = "auto", threads: int | None = None, progress: Progress = _no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Find frames and beats that do not follow from those before, each slice on its own.

    Parameters
    ----------
    series : (x, y, z, t) of two beats or more. Or the name of a file.
    threshold : surprise above which a frame is an event; None for the default.
    model, device, threads, progress : as of `forecast`.

    Returns
    -------
    The report of `crnn events` as a dict (docs/reference/report-json.md).

    Raises
    ------
    UnsupportedDataError
        If nothing comes back in the series, so that nothing says what is usual.
    """
    from crnn_cli.workflows.events.options import EventsOptions
    from crnn_cli.workflows.events.run import events_of_source

    options = EventsOptions(threshold=threshold, model=model_name(model), device=device)
    with notices.recording(), _threads(threads):
        return events_of_source(series if isinstance(series, Image) else Path(series), options, progress).report


def evaluate(
    tested: Image | Source, reference: Image | Source, *, kind: Literal["auto", "images", "labels"] = "auto",
    uncertainty: Image | Source | None = None, ignore_geometry: bool = False, fit_scale: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Measure images or label maps against a reference that lies in the same place, however its axes are stored.

    Parameters
    ----------
    kind : ``images`` for PSNR, SSIM, NMSE and HFEN of magnitudes, ``labels`` for Dice, Jaccard and surface distances;
        ``auto`` goes by the data.
    uncertainty : standard deviation of ``tested``: how often the reference lies within it.
    ignore_geometry : compare voxel by voxel as stored.
    fit_scale : multiply the tested image by the factor that fits best first.

    Returns
    -------
    The report of `crnn evaluate` as a dict.

    Raises
    ------
    UnsupportedDataError
        If the two do not lie on the same grid.
    """
    from crnn_cli.workflows.evaluate.evaluate import evaluate_images
    from crnn_cli.workflows.evaluate.options import EvaluateOptions

    first, second = (each if isinstance(each, Image) else Path(each) for each in (tested, reference))
    deviation = uncertainty if uncertainty is None or isinstance(uncertainty, Image) else Path(uncertainty)
    options = EvaluateOptions(kind=kind, ignore_geometry=ignore_geometry, fit_scale=fit_scale)
    with notices.recording():
        return evaluate_images(first, second, options, uncertainty=deviation).report


def save(
    content: Image | ReconstructionResult, path: Source, *, complex_output: bool = False, force: bool = False
) -> None:
    """Write images or labels, whole and read back, or not at all; nothing is replaced without ``force``.

    Parameters
    ----------
    content : an image or label map; or a reconstruction, whose magnitude is written with its report beside it.
    path : ``NAME.nii`` or ``NAME.nii.gz`` for NIfTI; a name without suffix for a folder of DICOM images.
    complex_output : of complex images write real and imaginary part, not the magnitude (NIfTI).

    Raises
    ------
    OutputExistsError
        If the file exists and not ``force``.
    OutputError
        If it cannot be written.
    UsageError
        If no format is written to such a name.
    """
    import numpy as np

    from crnn_cli.io import formats
    from crnn_cli.io.atomic_write import Output, write_together
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.report.sidecar import require_report_writable, sidecar_path

    target = Path(path)
    result = content if isinstance(content, ReconstructionResult) else None
    image = content.images if isinstance(content, ReconstructionResult) else content
    labels = isinstance(image, LabelImage)
    if image.is_complex and not complex_output:
        image = replace(image, array=np.abs(image.array))
    if result is not None:
        require_report_writable(target, force)
    formats.save(image, target, description="crnn, not for diagnostic use", labels=labels, force=force)
    if result is not None:
        text = json.dumps(result.report | {"output": str(target)}, indent=2) + "\n"
        write_together([Output(sidecar_path(target), text.encode())], force)


def _threads(count: int | None) -> AbstractContextManager[None]:
    """Let PyTorch use ``count`` threads on the CPU for a while; None changes nothing, and does not load it."""
    if count is None:
        return nullcontext()
    from crnn_cli.compute.threads import limited_threads

    return limited_threads(count)

"""What a file is in our eyes: format, axes, geometry, sampling, doubts, and what to do with it next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crnn_cli.data.acquisition import Acquisition, from_zero_filled, require_dynamic, require_encoded_by_slice
from crnn_cli.data.image import Image
from crnn_cli.data.orientation import axis_codes
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.images import is_dicom, load_image
from crnn_cli.io.nifti.image import decode_header, decode_image, read_bytes


@dataclass(frozen=True)
class SamplingDescription:
    """The sampling pattern of the middle slice, as its zeros show it."""

    acceleration: float
    acceleration_in_measured_region: float
    undersampled_axis: str
    undersampled_axes: int
    lines_per_frame: list[int]


@dataclass(frozen=True)
class FileDescription:
    """What `crnn info` says of a file; spacing in mm, frame time in s."""

    file: str
    format: str
    stored_type: str
    axes: str
    shape: list[int]
    complex: bool
    spacing_mm: list[float]
    orientation: str
    frame_time_s: float | None
    minimum: float
    maximum: float
    sampling: SamplingDescription | None
    doubts: list[str]
    next_step: str


def describe_file(
    source: Path, axes: str | None, series: str | None = None, *, uneven: float | None = None
) -> FileDescription:  # fmt: skip
    """Read an image and say what it is; see `FileDescription`. Sampling is looked at in the middle slice only."""
    if is_dicom(source) or series is not None or uneven is not None:
        found = load_image(source, axes, series, uneven=uneven)
        image, doubts = found.image, found.doubts()
        named, kind = "DICOM", str(image.array.dtype)
    else:
        content = read_bytes(source)
        named, kind = "NIfTI", decode_header(content, source).kind
        image = decode_image(content, source, axes)
        doubts = image.doubts()
    magnitude = np.abs(image.array) if image.is_complex else image.array
    finite = magnitude[np.isfinite(magnitude)]
    sampling, next_step = _judge(image, str(source))
    if finite.size < magnitude.size:
        doubts.append(f"{magnitude.size - finite.size} voxels are NaN or infinite")
    return FileDescription(
        file=str(source),
        format=named,
        stored_type=kind,
        axes="x, y, z, t" if image.array.ndim == 4 else "x, y, z",
        shape=list(image.shape),
        complex=image.is_complex,
        spacing_mm=[round(v, 4) for v in image.spacing],
        orientation=axis_codes(image.affine),
        frame_time_s=image.frame_time,
        minimum=float(finite.min()) if finite.size else 0.0,
        maximum=float(finite.max()) if finite.size else 0.0,
        sampling=sampling,
        doubts=doubts,
        next_step=next_step,
    )


def _judge(image: Image, name: str) -> tuple[SamplingDescription | None, str]:
    """Return the sampling and what can be done with the file."""
    if not image.is_complex and image.array.ndim == 4 and image.frames > 1:
        return None, (
            f"magnitude series: crnn reconstruct {name} --undersample 8 simulates; with --phase, reconstructs; "
            f"crnn segment {name} --slices labels every frame"
        )
    if not image.is_complex and image.array.ndim == 3 and image.shape[2] > 1:
        return (
            None,
            f"volume: crnn segment {name} --slices labels it; if its third axis is time, say so with --axes x,y,t",
        )
    try:
        require_dynamic(image)
        if image.is_complex:
            require_encoded_by_slice(image)
        middle = image.shape[2] // 2
        acquisition = from_zero_filled(replace(image, array=image.array[:, :, middle : middle + 1]))
    except UnsupportedDataError as reason:
        return None, str(reason)
    return _sampling(acquisition), f"crnn reconstruct {name}"


def _sampling(acquisition: Acquisition) -> SamplingDescription:
    lines = acquisition.mask_ZTYX.any(axis=3).sum(axis=2)[0]
    return SamplingDescription(
        acceleration=round(acquisition.acceleration, 3),
        acceleration_in_measured_region=round(acquisition.effective_acceleration, 3),
        undersampled_axis="xy"[acquisition.phase_axis],
        undersampled_axes=acquisition.undersampled_axes,
        lines_per_frame=sorted({int(n) for n in lines}),
    )

"""Descriptions of image files: format, axes, geometry, sampling pattern, doubts, and the commands that can follow."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crnn_cli.data.acquisition import Acquisition, from_zero_filled, require_dynamic, require_encoded_by_slice
from crnn_cli.data.image import Image
from crnn_cli.data.orientation import axis_codes
from crnn_cli.errors import Param, Spelling, UnsupportedDataError, Words, spelled
from crnn_cli.io.images import load_image
from crnn_cli.notices import Doubt, Fact


@dataclass(frozen=True)
class Command:
    """A command that can follow, as data: its name, the file, and parameters by their Python names.

    >>> Command("segment", "my scan.nii", (Param("slices"),)).spelled(lambda param: f"--{param.name}")
    "crnn segment 'my scan.nii' --slices"
    """

    name: str
    file: str
    params: tuple[Param, ...] = ()

    def spelled(self, spell: Spelling = str) -> str:
        """Spell the command as a shell reads it, with parameters spelled by ``spell``; names and text are quoted."""
        quoted = (Param(p.name, shlex.quote(p.value) if isinstance(p.value, str) else p.value) for p in self.params)
        return " ".join(["crnn", self.name, shlex.quote(self.file), *(spell(param) for param in quoted)])


NextStep = tuple[Words | Command, ...]
"""Advice on a file: text, parameters and commands, to be joined by `spell_next_step`."""


def spell_next_step(step: Sequence[Words | Command], spell: Spelling = str) -> str:
    """Join the pieces of an advice to one line, with parameters spelled by ``spell``."""
    return spelled([piece.spelled(spell) if isinstance(piece, Command) else piece for piece in step], spell)


@dataclass(frozen=True)
class SamplingDescription:
    """Sampling pattern of the middle slice, as the zeros of its k-space show it.

    Attributes
    ----------
    acceleration : samples of the grid over samples measured.
    effective_acceleration : the same inside the part of k-space that was measured at all.
    phase_encoding_axis : x or y, the array axis along which lines are missing.
    n_undersampled_axes : 1 where whole lines are missing, 2 where single samples are.
    lines_per_frame : the different numbers of lines of a frame, ascending.
    """

    acceleration: float
    effective_acceleration: float
    phase_encoding_axis: str
    n_undersampled_axes: int
    lines_per_frame: list[int]


@dataclass(frozen=True)
class FileDescription:
    """Description of an image file, as `crnn info` prints it.

    Attributes
    ----------
    file, format : path and name of the format.
    stored_type : numpy dtype of the stored voxels.
    axes : names of the axes of ``shape``.
    complex : whether the values are complex; ``minimum`` and ``maximum`` are then those of the magnitude.
    spacing_mm : voxel size along x, y and z.
    orientation : directions that the axes run to, such as LPS.
    frame_time_s : seconds from frame to frame, None if unknown.
    sampling : None where the file is no undersampled scan.
    doubts, facts : what is odd, or was assumed.
    next_step : what can be done with the file, for `spell_next_step`.
    """

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
    doubts: list[Doubt]
    facts: list[Fact]
    next_step: NextStep


def describe_file(
    source: Path, axes: str | None = None, series: str | None = None, *, slice_tolerance: float | None = None
) -> FileDescription:
    """Read an image and describe it; the sampling pattern is that of the middle slice.

    Parameters
    ----------
    axes, series, slice_tolerance : as in `crnn_cli.io.images.load_image`.

    Raises
    ------
    CrnnError
        See `crnn_cli.io.images.load_image`.
    """
    loaded = load_image(source, axes, series, slice_tolerance=slice_tolerance)
    image, remarks = loaded.image, loaded.remarks()
    magnitude = np.abs(image.array) if image.is_complex else image.array
    finite = magnitude[np.isfinite(magnitude)]
    sampling, next_step = _sampling_and_next_step(image, str(source))
    if finite.size < magnitude.size:
        remarks.append(Doubt("not-finite", f"{magnitude.size - finite.size} voxels are NaN or infinite"))
    return FileDescription(
        file=str(source),
        format=loaded.format,
        stored_type=loaded.dtype,
        axes="x, y, z, t" if image.array.ndim == 4 else "x, y, z",
        shape=list(image.shape),
        complex=image.is_complex,
        spacing_mm=[round(v, 4) for v in image.spacing],
        orientation=axis_codes(image.affine),
        frame_time_s=image.frame_time,
        minimum=float(finite.min()) if finite.size else 0.0,
        maximum=float(finite.max()) if finite.size else 0.0,
        sampling=sampling,
        doubts=[each for each in remarks if isinstance(each, Doubt)],
        facts=[each for each in remarks if isinstance(each, Fact)],
        next_step=next_step,
    )


def _sampling_and_next_step(image: Image, name: str) -> tuple[SamplingDescription | None, NextStep]:
    """Sampling pattern of an image, and what can be done with it."""
    segment = Command("segment", name, (Param("slices"),))
    if not image.is_complex and image.array.ndim == 4 and image.frames > 1:
        simulate = Command("reconstruct", name, (Param("undersample", 8),))
        phase = (" simulates; with ", Param("phase"), ", reconstructs; ")
        return None, ("magnitude series: ", simulate, *phase, segment, " labels every frame")
    if not image.is_complex and image.array.ndim == 3 and image.shape[2] > 1:
        time = " labels it; if its third axis is time, say so with "
        return None, ("volume: ", segment, time, Param("axes", "x,y,t"))
    try:
        require_dynamic(image)
        if image.is_complex:
            require_encoded_by_slice(image)
        middle = image.shape[2] // 2
        acquisition = from_zero_filled(replace(image, array=image.array[:, :, middle : middle + 1]))
    except UnsupportedDataError as reason:
        return None, (*reason.parts, *((": ", *reason.remedy) if reason.remedy else ()))
    return _sampling(acquisition), (Command("reconstruct", name),)


def _sampling(acquisition: Acquisition) -> SamplingDescription:
    lines = acquisition.mask_ZTYX.any(axis=3).sum(axis=2)[0]
    return SamplingDescription(
        acceleration=round(acquisition.acceleration, 3),
        effective_acceleration=round(acquisition.effective_acceleration, 3),
        phase_encoding_axis="xy"[acquisition.phase_axis],
        n_undersampled_axes=acquisition.undersampled_axes,
        lines_per_frame=sorted({int(n) for n in lines}),
    )

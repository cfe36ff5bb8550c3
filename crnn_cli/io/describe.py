"""Descriptions of image files: format, axes, geometry, sampling pattern, doubts; and advice on what to do with them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

import numpy as np

from crnn_cli.data.acquisition import from_zero_filled, require_dynamic, require_encoded_by_slice
from crnn_cli.data.geometry import knows_orientation
from crnn_cli.data.image import Image
from crnn_cli.data.orientation import axis_codes
from crnn_cli.errors import Param, Spelling, UnsupportedDataError, Words, spelled
from crnn_cli.io.loaded_image import LoadedImage
from crnn_cli.notices import Doubt, Fact, one_line


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
        file = f"./{self.file}" if self.file.startswith("-") and self.file != "-" else self.file
        quoted = (Param(p.name, _shell_word(p.value) if isinstance(p.value, str) else p.value) for p in self.params)
        return " ".join(["crnn", self.name, _shell_word(file), *(spell(param) for param in quoted)])


def _shell_word(text: str) -> str:
    r"""Word as a shell reads it; control characters, which no terminal lets copy, as bash and zsh spell them.

    >>> _shell_word("my scan.nii"), _shell_word("a\nb")
    ("'my scan.nii'", "$'a\\nb'")
    """
    if one_line(text) == text:
        return shlex.quote(text)
    kept = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{one_line(kept)}'"


@dataclass(frozen=True)
class Step:
    """A piece of advice on a file.

    Attributes
    ----------
    command : that can be run as it is; None where there is a remark only.
    remark : what the command does, or what is to be known.
    """

    command: Command | None
    remark: tuple[Words, ...] = ()


NextStep = tuple[Step, ...]
"""Advice on a file."""


def spell_next_step(steps: NextStep, spell: Spelling = str) -> str:
    """Join advice to one line, commands and parameters spelled by ``spell``.

    >>> spell_next_step((Step(Command("labels", "a.nii"), ("measures them",)),))
    'crnn labels a.nii (measures them)'
    """
    return "; ".join(_spelled(step, spell) for step in steps)


def _spelled(step: Step, spell: Spelling) -> str:
    remark = spelled(step.remark, spell)
    if step.command is None:
        return remark
    return step.command.spelled(spell) + (f" ({remark})" if remark else "")


def advice_lines(steps: NextStep, spell: Spelling = str) -> list[str]:
    """Write advice as lines for a shell: commands to be copied, what they do behind a ``#``; remarks by themselves."""
    lines = []
    for step in steps:
        remark = " ".join(spelled(step.remark, spell).split())
        if step.command is None:
            lines.append(f"note: {remark}")
        else:
            lines.append(f"next: {step.command.spelled(spell)}" + (f"  # {remark}" if remark else ""))
    return lines


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
    orientation : directions that the axes run to, such as LPS; None where no header says it.
    frame_time_s : seconds from frame to frame, None if unknown.
    sampling : None where the file is no undersampled scan.
    doubts, facts : what is odd, or was assumed.
    next_step : what can be done with the file; see `crnn_cli.workflows.proposals`.
    """

    file: str
    format: str
    stored_type: str
    axes: str
    shape: list[int]
    complex: bool
    spacing_mm: list[float]
    orientation: str | None
    frame_time_s: float | None
    minimum: float
    maximum: float
    sampling: SamplingDescription | None
    doubts: list[Doubt]
    facts: list[Fact]
    next_step: NextStep = ()


def describe_image(loaded: LoadedImage, name: str) -> FileDescription:
    """Describe an image that was read; the sampling pattern is that of the middle slice.

    Parameters
    ----------
    name : of its file.
    """
    image, remarks = loaded.image, loaded.remarks()
    magnitude = np.abs(image.array) if image.is_complex else image.array
    finite = magnitude[np.isfinite(magnitude)]
    if finite.size < magnitude.size:
        remarks.append(Doubt("not-finite", f"{magnitude.size - finite.size} voxels are NaN or infinite"))
    return FileDescription(
        file=name,
        format=loaded.format,
        stored_type=loaded.dtype,
        axes="x, y, z, t" if image.array.ndim == 4 else "x, y, z",
        shape=list(image.shape),
        complex=image.is_complex,
        spacing_mm=[round(v, 4) for v in image.spacing],
        orientation=axis_codes(image.affine) if knows_orientation(image) else None,
        frame_time_s=image.frame_time,
        minimum=float(finite.min()) if finite.size else 0.0,
        maximum=float(finite.max()) if finite.size else 0.0,
        sampling=_sampling(image),
        doubts=[each for each in remarks if isinstance(each, Doubt)],
        facts=[each for each in remarks if isinstance(each, Fact)],
    )


def _sampling(image: Image) -> SamplingDescription | None:
    """Sampling pattern of the middle slice of zero-filled images; None of other images."""
    if not image.is_complex:
        return None
    try:
        require_dynamic(image)
        require_encoded_by_slice(image)
        middle = image.shape[2] // 2
        acquisition = from_zero_filled(replace(image, array=image.array[:, :, middle : middle + 1]))
    except UnsupportedDataError:
        return None
    lines = acquisition.mask_ZTYX.any(axis=3).sum(axis=2)[0]
    return SamplingDescription(
        acceleration=round(acquisition.acceleration, 3),
        effective_acceleration=round(acquisition.effective_acceleration, 3),
        phase_encoding_axis="xy"[acquisition.phase_axis],
        n_undersampled_axes=acquisition.undersampled_axes,
        lines_per_frame=sorted({int(n) for n in lines}),
    )

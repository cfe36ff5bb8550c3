"""Options of a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crnn_cli.io.kspace.choices import RawChoices


@dataclass(frozen=True)
class ReconstructOptions:
    """Options of ``crnn reconstruct`` by their Python names; see the help of each option.

    Where the Python name differs: ``slice_number`` is --slice, ``complex_output`` --complex, ``format_name`` --format,
    ``set_number`` --set.
    """

    out: Path | None = None
    mask: Path | None = None
    phase: Path | None = None
    axes: str | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    slice_number: int | None = None
    undersample: float | None = None
    pattern: str | None = None
    centre_lines: int | None = None
    phase_axis: str | None = None
    seed: int | None = None
    method: str = "crnn"
    regularisation: float | None = None
    coils: int | None = None
    maps: Path | None = None
    map_sets: str | None = None
    save_maps: Path | None = None
    phases: int | None = None
    variable: str | None = None
    calibration: Path | None = None
    kind: str | None = None
    set_number: int | None = None
    contrast: int | None = None
    repetition: int | None = None
    phase_number: int | None = None
    view: int | None = None
    drop_empty: bool = False
    model: str | None = None
    iterations: int | None = None
    noise_ratio: float | None = None
    precision: str | None = None
    memory: str | None = None
    ensemble: int | None = None
    calibration_frames: int | None = None
    adapt: str | None = None
    adapt_steps: int | None = None
    save_adapted: Path | None = None
    generalise: bool = False
    device: str = "auto"
    preview: Path | None = None
    hold_out_folds: int | None = None
    uncertainty: Path | None = None
    uncertainty_runs: int | None = None
    save_runs: Path | None = None
    report: Path | None = None
    max_residual: float | None = None
    complex_output: bool = False
    format_name: str = "nifti"
    force: bool = False

    def raw_choices(self) -> RawChoices:
        """The options about what to take of a file of raw k-space."""
        return RawChoices(
            self.kind, self.set_number, self.contrast, self.repetition, self.phase_number, self.view, self.drop_empty
        )  # fmt: skip

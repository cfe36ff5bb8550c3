"""An undersampled scan of a simulated beating heart, with the truth beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.data.host_memory import bytes_in_words
from crnn_cli.errors import Param, UsageError
from crnn_cli.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.data.image import Affine
    from crnn_cli.mri.phantom.scan import PhantomScan

MOST_VALUES = 2**28
"""Complex numbers that one simulation may fill: 2 GiB."""
_SIZES = (16, 1024)


@dataclass(frozen=True)
class SimulateOptions:
    """The scan to simulate; see the help of `crnn simulate`.

    size : pixels, such as 192 or 192x160 (readout x phase encoding). spacing : pixel size in mm; None: the body fits.
    frame_time : in ms. snr : blood over the standard deviation of the noise (real part, one coil). breathing : in mm.
    """

    out: Path = Path("phantom")
    size: str = "192"
    frames: int = 25
    slices: int = 1
    spacing: float | None = None
    frame_time: float = 40.0
    undersample: float = 8.0
    pattern: str = "variable-density"
    centre_lines: int | None = None
    coils: int = 1
    snr: float = 40.0
    breathing: float = 0.0
    seed: int = 0
    oblique: bool = False
    force: bool = False


def simulate_scan(options: SimulateOptions, progress: notices.Progress) -> dict[str, Any]:
    """Simulate a scan, write its files, and report on it.

    Raises
    ------
    UsageError
        If the numbers do not fit each other.
    OutputError
        If a file cannot be written, or exists.
    """
    samples, lines = parse_size(options.size)
    _require_sensible(options)
    _require_moderate(samples * lines, options.frames, options.slices, options.coils)
    spacing = fitting_spacing(samples, lines) if options.spacing is None else options.spacing
    files = _plan(options.out, options.coils, options.force)

    import torch

    from crnn_cli.mri.phantom.ellipses import Grid
    from crnn_cli.mri.phantom.scan import PhantomScan
    from crnn_cli.mri.sampling import draw_pattern

    grid = Grid(samples, lines, spacing)
    scan = PhantomScan(
        grid, options.frames, options.slices, options.coils, options.snr, options.breathing, options.seed
    )
    generator = torch.Generator().manual_seed(options.seed)
    mask_TY = draw_pattern(options.pattern, options.frames, lines, options.undersample, generator, options.centre_lines)
    _warn(samples * spacing, lines * spacing, options.coils)
    arrays = _scan_slices(scan, mask_TY, progress)
    affine = phantom_affine((samples, lines, options.slices), spacing, scan.slice_spacing, options.oblique)
    _write(files, arrays, affine, options)
    report = _report(scan, mask_TY, files)
    report |= {"frame_time_s": options.frame_time / 1000, "pattern": options.pattern}
    return report | {"acceleration_asked": options.undersample}


def parse_size(size: str) -> tuple[int, int]:
    """Read (readout, phase-encoding) pixels from ``192`` or ``192x160``; UsageError where it is neither."""
    parts = size.lower().split("x")
    low, high = _SIZES
    if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise UsageError(Param("size", size), " is not understood: write for instance 192 or 192x160")
    samples, lines = int(parts[0]), int(parts[-1])
    if not (low <= samples <= high and low <= lines <= high):
        raise UsageError(Param("size", size), f" will not do: each side must be {low} to {high} pixels")
    return samples, lines


def fitting_spacing(samples: int, lines: int) -> float:
    """Pixel size in mm at which the body fits into the field of view with some air around it."""
    return max(360 / samples, 264 / lines)


def phantom_affine(shape: tuple[int, int, int], spacing: float, slice_spacing: float, oblique: bool) -> Affine:
    """Voxel to RAS+ matrix in mm with the origin in the centre voxel floor(N / 2).

    Plain: x right, y anterior, slices upwards. Oblique: slices from the apex (left, front, below) to the base.
    """
    import numpy as np

    directions = np.eye(3)
    if oblique:
        normal = np.array([0.6, -0.5, 0.62]) / np.linalg.norm([0.6, -0.5, 0.62])
        right = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
        right /= np.linalg.norm(right)
        directions = np.stack([right, np.cross(normal, right), normal], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = directions * [spacing, spacing, slice_spacing]
    affine[:3, 3] = -affine[:3, :3] @ [n // 2 for n in shape]
    return affine


def _require_sensible(options: SimulateOptions) -> None:
    if not (math.isfinite(options.frame_time) and options.frame_time > 0):
        raise UsageError(Param("frame_time", options.frame_time), ": give milliseconds above 0")
    if not 0 <= options.seed < 2**63:
        raise UsageError(Param("seed", options.seed), ": give a whole number from 0 to 2^63 - 1")
    if options.spacing is not None and not 0.1 <= options.spacing <= 50:
        raise UsageError(Param("spacing", options.spacing), ": give a pixel size from 0.1 to 50 mm")


def _require_moderate(pixels: int, frames: int, slices: int, coils: int) -> None:
    if frames < 2:
        raise UsageError(Param("frames", frames), ": a heartbeat needs at least 2 frames")
    if slices < 1 or coils < 1:
        raise UsageError(Param("slices", slices), " and ", Param("coils", coils), ": both must be 1 or more")
    values = pixels * frames * slices * (2 if coils == 1 else 2 + coils)
    if values > MOST_VALUES:
        raise UsageError(
            f"this scan would fill {bytes_in_words(values * 8)} with images and k-space, more than the "
            f"{MOST_VALUES * 8 / 2**30:g} GiB that one run makes: ask for fewer pixels, frames, slices or coils"
        )


def _plan(out: Path, coils: int, force: bool) -> dict[str, Path]:
    """Output files by kind, after checking that each can be written."""
    from crnn_cli.io.atomic_write import require_writable

    if out.name.endswith((".nii", ".gz", ".npy")):
        raise UsageError(
            Param("out", str(out)), " names one file, but several are written: give the beginning of their names"
        )
    start = out / "phantom" if out.is_dir() else out
    kinds = {"truth": "nii.gz", "zerofilled": "nii.gz", "mask": "nii.gz"}
    if coils > 1:
        kinds |= {"kspace": "npy", "coils": "npy"}
    names = {kind: start.with_name(f"{start.name}_{kind}.{suffix}") for kind, suffix in kinds.items()}
    for name in names.values():
        require_writable(name, force)
    return names


def _warn(width: float, height: float, coils: int) -> None:
    from crnn_cli.mri.phantom.anatomy import BODY

    if width < BODY[0] or height < BODY[1]:
        notices.warn(
            "field-of-view-small",
            f"the field of view of {width:.0f} x {height:.0f} mm is smaller than the body can be "
            f"({BODY[0]:.0f} x {BODY[1]:.0f} mm): what lies outside folds back, as on a scanner",
        )
    if coils > 1:
        notices.note(
            "combination-to-look-at",
            "the zero-filled images of several coils are a combination to look at, not to reconstruct from: "
            "only the _kspace.npy holds what was measured",
        )


def _scan_slices(scan: PhantomScan, mask_TY: Tensor, progress: notices.Progress) -> dict[str, Tensor]:
    """The arrays truth_ZTYX, zerofilled_ZTYX, mask_TY and, for several coils, kspace_ZCTYX and coils_CYX.

    Truth and zero-filled images of several coils are as bright as the root of the sum of squares of the coil images,
    as reconstructions are.
    """
    import torch

    from crnn_cli.mri.fourier import kspace_to_image
    from crnn_cli.mri.phantom.scan import combine_coils, simulate_slice

    truths, zerofilled, measured = [], [], []
    for index in range(scan.slices):
        data = simulate_slice(scan, index)
        kspace_CTYX = data.kspace_CTYX * mask_TY[:, :, None]
        images_CTYX = kspace_to_image(kspace_CTYX)
        truths.append(data.seen_TYX)
        zerofilled.append(images_CTYX[0] if scan.coils == 1 else combine_coils(images_CTYX, data.coils_CYX))
        if scan.coils > 1:
            measured.append(kspace_CTYX)
        progress(index + 1, scan.slices)
    arrays = {"truth": torch.stack(truths), "zerofilled": torch.stack(zerofilled), "mask": mask_TY}
    if scan.coils > 1:
        arrays |= {"kspace": torch.stack(measured), "coils": data.coils_CYX}
    return arrays


def _write(names: dict[str, Path], arrays: dict[str, Tensor], affine: Affine, options: SimulateOptions) -> None:
    """Write all files, or none."""
    import numpy as np

    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.io.kspace.npy_output import array_output
    from crnn_cli.io.nifti.image import image_output

    samples = arrays["truth"].shape[-1]
    mask_XYZT = np.repeat(arrays["mask"].numpy().T[None, :, None].astype(np.uint8), samples, axis=0)
    voxels = {kind: arrays[kind].numpy().transpose(3, 2, 0, 1) for kind in ("truth", "zerofilled")}
    outputs = [
        image_output(
            Image(np.ascontiguousarray(array), affine, options.frame_time / 1000),
            names[kind],
            f"crnn {__version__} SIMULATED heart, {kind}, seed {options.seed}",
        )
        for kind, array in {**voxels, "mask": mask_XYZT}.items()
    ]
    outputs += [array_output(arrays[kind].numpy(), names[kind]) for kind in ("kspace", "coils") if kind in names]
    write_together(outputs, options.force)


def _report(scan: PhantomScan, mask_TY: Tensor, names: dict[str, Path]) -> dict[str, Any]:
    from crnn_cli.mri.sampling import true_acceleration

    grid = scan.grid
    return {
        "tool": f"crnn {__version__}",
        "origin": "SIMULATED beating-heart phantom, k-space in closed form",
        "files": {kind: str(name) for kind, name in names.items()},
        "shape": [grid.samples, grid.lines, scan.slices, scan.frames],
        "spacing_mm": [grid.spacing, grid.spacing, scan.slice_spacing],
        "acceleration": round(true_acceleration(mask_TY), 4),
        "lines_per_frame": sorted({int(n) for n in mask_TY.sum(dim=1)}),
        "undersampled_axis": "y",
        "coils": scan.coils,
        "snr": scan.snr if math.isfinite(scan.snr) else None,
        "breathing_mm": scan.breathing,
        "seed": scan.seed,
    }


def summary_rows(report: dict[str, Any]) -> list[list[str]]:
    """Names and values that people read of a simulation."""
    return [
        ["shape (x, y, z, t)", " x ".join(map(str, report["shape"]))],
        ["spacing", " x ".join(f"{v:.4g}" for v in report["spacing_mm"]) + " mm"],
        ["acceleration", f"{report['acceleration']:.2f}x along y, {report['pattern']}"],
        ["coils, SNR", f"{report['coils']}, {'no noise' if report['snr'] is None else format(report['snr'], 'g')}"],
        *(["written", name] for name in report["files"].values()),
    ]

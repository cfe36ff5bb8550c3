"""``crnn simulate``: an undersampled scan of a beating heart, with the truth beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.data.image import Affine
    from crnn_cli.mri.phantom.scan import PhantomScan

MOST_VALUES = 2**28
_SIZES = (16, 1024)


def simulate(
    out: Annotated[Path, typer.Option("--out", "-o", help="Beginning of the output names, or a folder.")] = Path(
        "phantom"
    ),
    size: Annotated[str, typer.Option(help="Pixels, such as 192 or 192x160 (readout x phase encoding).")] = "192",
    frames: Annotated[int, typer.Option(help="Frames of one cardiac cycle.")] = 25,
    slices: Annotated[int, typer.Option(help="Slices from the apex to the base.")] = 1,
    spacing: Annotated[float | None, typer.Option(help="Pixel size in mm; by default the body fits.")] = None,
    frame_time: Annotated[float, typer.Option(help="Milliseconds per frame.")] = 40.0,
    undersample: Annotated[float, typer.Option(help="Acceleration; 1 measures everything.")] = 8.0,
    pattern: Annotated[str, typer.Option(help="variable-density or sheared-grid.")] = "variable-density",
    centre_lines: Annotated[int | None, typer.Option(help="Lines measured in every frame; 8 or two thirds.")] = None,
    coils: Annotated[int, typer.Option(help="Receive coils; more than one adds OUT_kspace.npy.")] = 1,
    snr: Annotated[float, typer.Option(help="Blood over noise SD (real part, one coil); inf for no noise.")] = 40.0,
    breathing: Annotated[float, typer.Option(help="Drift of heart and liver in mm, 0 to 10.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of anatomy, phase, pattern and noise.")] = 0,
    oblique: Annotated[bool, typer.Option("--oblique", help="Lay the slices as a short-axis scan does.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report to standard output.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")] = False,
) -> None:
    """Simulate an undersampled scan of a beating heart, its k-space exact by formula.

    Writes OUT_truth.nii.gz (complex, no noise), OUT_zerofilled.nii.gz (complex, what reconstruct takes) and
    OUT_mask.nii.gz (0/1 over centred k-space; y, the second array axis, is undersampled).

    Several coils: OUT_zerofilled is only their sensitivity-weighted combination; the measured data are in
    OUT_kspace.npy (slice, coil, t, ky, kx), the sensitivities in OUT_coils.npy (coil, y, x).

    Example: crnn simulate -o heart --undersample 8 --seed 1
    """
    samples, lines = parse_size(size)
    _require_sensible(frame_time, seed, spacing)
    _require_moderate(samples * lines, frames, slices, coils)
    if spacing is None:
        spacing = fitting_spacing(samples, lines)
    names = _plan(out, coils, force)

    import torch

    from crnn_cli.mri.phantom.ellipses import Grid
    from crnn_cli.mri.phantom.scan import PhantomScan
    from crnn_cli.mri.sampling import draw_pattern

    scan = PhantomScan(Grid(samples, lines, spacing), frames, slices, coils, snr, breathing, seed)
    generator = torch.Generator().manual_seed(seed)
    mask_TY = draw_pattern(pattern, frames, lines, undersample, generator, centre_lines)
    _warn(samples * spacing, lines * spacing, coils)
    arrays = _scan_slices(scan, mask_TY)
    affine = phantom_affine((samples, lines, slices), spacing, scan.slice_spacing, oblique)
    _write(names, arrays, affine, frame_time / 1000, seed, force)
    report = _report(scan, mask_TY, names) | {"frame_time_s": frame_time / 1000, "pattern": pattern}
    report["acceleration_asked"] = undersample
    _tell(report)
    if as_json:
        console.print_json(report)


def parse_size(size: str) -> tuple[int, int]:
    """Return (readout, phase-encoding) pixels of ``192`` or ``192x160``; UsageError where it is neither."""
    parts = size.lower().split("x")
    low, high = _SIZES
    if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise UsageError(f"--size {size} is not understood: write for instance 192 or 192x160")
    samples, lines = int(parts[0]), int(parts[-1])
    if not (low <= samples <= high and low <= lines <= high):
        raise UsageError(f"--size {size} will not do: each side must be {low} to {high} pixels")
    return samples, lines


def fitting_spacing(samples: int, lines: int) -> float:
    """Return the pixel size in mm at which the body fits into the field of view with some air around it."""
    return max(360 / samples, 264 / lines)


def phantom_affine(shape: tuple[int, int, int], spacing: float, slice_spacing: float, oblique: bool) -> Affine:
    """Return the voxel to RAS+ matrix in mm with the origin in the centre voxel floor(N / 2).

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


def _require_sensible(frame_time: float, seed: int, spacing: float | None) -> None:
    if not (math.isfinite(frame_time) and frame_time > 0):
        raise UsageError(f"--frame-time {frame_time:g}: give milliseconds above 0")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: give a whole number from 0 to 2^63 - 1")
    if spacing is not None and not 0.1 <= spacing <= 50:
        raise UsageError(f"--spacing {spacing:g}: give a pixel size from 0.1 to 50 mm")


def _require_moderate(pixels: int, frames: int, slices: int, coils: int) -> None:
    if frames < 2:
        raise UsageError(f"--frames {frames}: a heartbeat needs at least 2 frames")
    if slices < 1 or coils < 1:
        raise UsageError(f"--slices {slices} --coils {coils}: both must be 1 or more")
    values = pixels * frames * slices * (2 if coils == 1 else 2 + coils)
    if values > MOST_VALUES:
        raise UsageError(
            f"this scan would fill {values * 8 / 2**30:.1f} GiB with images and k-space, more than the "
            f"{MOST_VALUES * 8 / 2**30:g} GiB that one run makes: ask for fewer pixels, frames, slices or coils"
        )


def _plan(out: Path, coils: int, force: bool) -> dict[str, Path]:
    """Return the output names, after checking that each can be written."""
    from crnn_cli.io.atomic_write import require_writable

    if out.name.endswith((".nii", ".gz", ".npy")):
        raise UsageError(f"-o {out} names one file, but several are written: give the beginning of their names")
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
            f"the field of view of {width:.0f} x {height:.0f} mm is smaller than the body can be "
            f"({BODY[0]:.0f} x {BODY[1]:.0f} mm): what lies outside folds back, as on a scanner"
        )
    if coils > 1:
        notices.warn(
            "the zero-filled images of several coils are a combination to look at, not to reconstruct from: "
            "only the _kspace.npy holds what was measured"
        )


def _scan_slices(scan: PhantomScan, mask_TY: Tensor) -> dict[str, Tensor]:
    """Return truth_ZTYX, zerofilled_ZTYX, mask_TY and, for several coils, kspace_ZCTYX and coils_CYX."""
    import torch

    from crnn_cli.mri.fourier import kspace_to_image
    from crnn_cli.mri.phantom.scan import combine_coils, simulate_slice

    truths, zerofilled, measured = [], [], []
    with console.progress_bar("scanning") as progress:
        for index in range(scan.slices):
            data = simulate_slice(scan, index)
            kspace_CTYX = data.kspace_CTYX * mask_TY[:, :, None]
            images_CTYX = kspace_to_image(kspace_CTYX)
            truths.append(data.truth_TYX)
            zerofilled.append(images_CTYX[0] if scan.coils == 1 else combine_coils(images_CTYX, data.coils_CYX))
            if scan.coils > 1:
                measured.append(kspace_CTYX)
            progress(index + 1, scan.slices)
    arrays = {"truth": torch.stack(truths), "zerofilled": torch.stack(zerofilled), "mask": mask_TY}
    if scan.coils > 1:
        arrays |= {"kspace": torch.stack(measured), "coils": data.coils_CYX}
    return arrays


def _write(
    names: dict[str, Path], arrays: dict[str, Tensor], affine: Affine, frame_time: float, seed: int, force: bool
) -> None:
    """Write all files, or none."""
    import numpy as np

    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.io.kspace.npy_output import array_output
    from crnn_cli.io.nifti.image import image_output
    from crnn_cli.version import __version__

    samples = arrays["truth"].shape[-1]
    mask_XYZT = np.repeat(arrays["mask"].numpy().T[None, :, None].astype(np.uint8), samples, axis=0)
    voxels = {kind: arrays[kind].numpy().transpose(3, 2, 0, 1) for kind in ("truth", "zerofilled")}
    outputs = [
        image_output(
            Image(np.ascontiguousarray(array), affine, frame_time),
            names[kind],
            f"crnn {__version__} SIMULATED heart, {kind}, seed {seed}",
        )
        for kind, array in {**voxels, "mask": mask_XYZT}.items()
    ]
    outputs += [array_output(arrays[kind].numpy(), names[kind]) for kind in ("kspace", "coils") if kind in names]
    write_together(outputs, force)


def _report(scan: PhantomScan, mask_TY: Tensor, names: dict[str, Path]) -> dict[str, Any]:
    from crnn_cli.mri.sampling import true_acceleration
    from crnn_cli.version import __version__

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


def _tell(report: dict[str, Any]) -> None:
    rows = [
        ["shape (x, y, z, t)", " x ".join(map(str, report["shape"]))],
        ["spacing", " x ".join(f"{v:.4g}" for v in report["spacing_mm"]) + " mm"],
        ["acceleration", f"{report['acceleration']:.2f}x along y, {report['pattern']}"],
        ["coils, SNR", f"{report['coils']}, {'no noise' if report['snr'] is None else format(report['snr'], 'g')}"],
        *(["written", name] for name in report["files"].values()),
    ]
    console.table("crnn simulate", ["", ""], rows)

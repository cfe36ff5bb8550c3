"""``crnn compare``: one scan, several methods, a table and a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.options import Coils, Maps, Phases, SeriesChoice, SliceNumber, SliceTolerance, Variable
from crnn_cli.errors import CrnnError, UnsupportedDataError, UsageError
from crnn_cli.report.provenance import slice_label
from crnn_cli.workflows.reconstruct.scan import Scan, ScanRequest, Simulation, load, one_slice

if TYPE_CHECKING:
    import torch

    from crnn_cli.data.image import Image
    from crnn_cli.report.montage import Panel
    from crnn_cli.workflows.reconstruct.methods import PreparedMethod

ScanFile = Annotated[Path, typer.Argument(help="Raw k-space, NIfTI series or DICOM, as crnn reconstruct takes it.")]
Methods = Annotated[str, typer.Option(help="Names with commas between them, or all.")]
Reference = Annotated[Path | None, typer.Option(help="Fully sampled images of the same grid, NIfTI or DICOM.")]
HeldOut = Annotated[float, typer.Option(min=0, max=0.5, help="Share of the outer lines to predict; 0: no such column.")]
Preview = Annotated[Path | None, typer.Option(help="Picture: .png montage, or .gif of the beating heart.")]
Axes = Annotated[str | None, typer.Option(help="What the stored axes are, such as coil,t,ky,kx.")]
Undersample = Annotated[float | None, typer.Option(min=1, help="Of images: simulate a scan this many times faster.")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="Of the simulated pattern and of what is held out.")]
Model = Annotated[str | None, typer.Option(help="Of crnn: a published model, or a bundle folder.")]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures to standard output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a picture that exists.")]


def compare(
    scan: ScanFile,
    methods: Methods = "zero-filled,sense,tv,llr,crnn",
    reference: Reference = None,
    slice_number: SliceNumber = None,
    held_out: HeldOut = 0.1,
    preview: Preview = None,
    axes: Axes = None,
    variable: Variable = None,
    series: SeriesChoice = None,
    slice_tolerance: SliceTolerance = None,
    undersample: Undersample = None,
    seed: Seed = 0,
    coils: Coils = None,
    maps: Maps = None,
    phases: Phases = None,
    model: Model = None,
    device: DeviceName = "auto",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Reconstruct one scan by several methods, each at its default weight, and show how they differ.

    Residuals are ||A x - y|| / ||y||: at the measured samples, and at a tenth of the outer lines that a second run does
    not see. A small residual at the measured samples alone proves nothing; at lines held out it does.

    Examples: crnn compare raw.h5 --slice 4 --preview methods.png;
    crnn compare cine.nii.gz --undersample 8 --methods tv,crnn --json
    """
    method_names = _names(methods)
    _plan(preview, force)
    if reference is not None and undersample is not None:
        raise UsageError("--undersample simulates, and knows the truth: it needs no --reference")
    from crnn_cli.compute.device import choose_device

    place = choose_device(device)
    simulation = Simulation(undersample, "variable-density", None, "y", seed) if undersample else None
    asked = ScanRequest(scan, axes, series, slice_tolerance, None, None, simulation, coils, maps, phases, variable)
    whole = load(asked)
    chosen = [_chosen(name, model, place) for name in method_names]
    data, truth = whole, whole.truth if reference is None else _reference(whole.geometry, reference)
    if slice_number is not None:
        data = one_slice(whole, slice_number)
        truth = None if truth is None else truth.one_slice(slice_number - 1)
    rows, images = [], {}
    with console.progress_bar("comparing") as progress:
        runs = len(chosen) * (2 if held_out else 1)
        for number, method in enumerate(chosen):

            def told(done: int, total: int, before: float = number / len(chosen)) -> None:
                progress(round(1000 * (before + done / max(1, total) / runs)), 1000)

            row, made = _run(data, method, place, (held_out, seed), told)
            if made is not None:
                images[method.name] = made
                row |= _quality(made, truth, fitted=reference is not None)
            rows.append(row)
    _tell(rows, truth is not None, bool(held_out))
    if not images:
        raise UnsupportedDataError("no method could reconstruct this scan; the table says why")
    if preview is not None:
        _draw(preview, images, truth, data.source, force)
    if as_json:
        console.print_json({"scan": str(scan), "input": data.source, **data.facts(), "methods": rows})


def _names(methods: str) -> list[str]:
    from crnn_cli.workflows.reconstruct.methods import method_names

    known = method_names()
    asked = known if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise UsageError(f"--methods: {name} is not known: use {', '.join(known)}, or all")
    if not asked:
        raise UsageError(f"--methods names none: use {', '.join(known)}, or all")
    return list(dict.fromkeys(asked))


def _plan(preview: Path | None, force: bool) -> None:
    from crnn_cli.io.atomic_write import require_writable
    from crnn_cli.report.montage import require_preview_name

    if preview is not None:
        require_preview_name(preview)
        require_writable(preview, force)


def _chosen(name: str, model: str | None, place: torch.device) -> PreparedMethod:
    from crnn_cli.workflows.reconstruct.methods import NETWORK, MethodRequest, prepare_method

    return prepare_method(MethodRequest(name, model if name == NETWORK else None), place)


def _reference(grid: Image, reference: Path) -> Image:
    """Return the images in a file, brought to the grid of those of the scan."""
    from crnn_cli.data.alignment import reorient_to
    from crnn_cli.io.images import load_image

    image = load_image(reference).image
    if grid.codes == (0, 0) and image.shape == grid.shape:  # raw k-space that does not say where it lies
        return image
    if sorted(image.shape) != sorted(grid.shape) or grid.codes == (0, 0):
        raise UnsupportedDataError(f"{reference} is {image.shape}, the images of the scan are {grid.shape}")
    laid = reorient_to(image, grid.affine, grid.shape)
    if laid is None:
        raise UnsupportedDataError(f"{reference} does not lie where the images of the scan do")
    return laid


def _run(
    data: Scan, chosen: PreparedMethod, place: torch.device, judging: tuple[float, int], told: Any
) -> tuple[dict[str, Any], Image | None]:
    """Return the figures of a method and its images; of one that cannot, the reason."""
    from crnn_cli.assessment.held_out import HoldOutReconstructor
    from crnn_cli.reconstruction.reconstruct import reconstruct

    share, seed = judging
    row: dict[str, Any] = {"method": chosen.name, "title": chosen.title}
    began = time.perf_counter()
    try:
        result = reconstruct(data.slices, chosen.method, place, told)
        row |= {"seconds": round(time.perf_counter() - began, 2), "residual": result.residual}
        if share:
            judged = HoldOutReconstructor(chosen.method, share, seed)
            reconstruct(data.slices, judged, place)
            row["residual_held_out"] = judged.residual
    except CrnnError as reason:
        return row | {"failed": str(reason)}, None
    return row, data.to_image(result.images_ZTYX)


def _quality(made: Image, truth: Image | None, fitted: bool) -> dict[str, Any]:
    if truth is None:
        return {}
    import numpy as np
    import torch

    from crnn_cli.mri.metrics import quality

    tensors = [
        torch.from_numpy(np.abs(one.array.reshape(*one.shape[:3], -1)).transpose(2, 3, 1, 0).copy())
        for one in (made, truth)
    ]
    try:
        found = quality(tensors[0], tensors[1], "least-squares" if fitted else "none").summary()
    except UnsupportedDataError as reason:
        notices.warn(f"the quality was not measured: {reason}")
        return {}
    return {"psnr_db": found["psnr_db"], "ssim": found["ssim"]}


def _draw(
    preview: Path, images: dict[str, Image], truth: Image | None, source: dict[str, Any], force: bool
) -> None:  # fmt: skip
    """Write the picture: a row for each method, and its difference from the truth or from the last method."""
    import numpy as np

    from crnn_cli.data.geometry import displayed_directions, displayed_slice
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.report.montage import Panel, preview_output

    some = next(iter(images.values()))
    z = some.shape[2] // 2
    frames = {name: np.abs(displayed_slice(image, z)) for name, image in images.items()}
    against, base = list(frames)[-1], frames[list(frames)[-1]]
    panels: list[Panel] = []
    if truth is not None:
        against, base = "truth", np.abs(displayed_slice(truth, z))
        scale = float((base * frames[list(frames)[-1]]).sum() / max(float((base**2).sum()), 1e-30))
        base = base * scale
        panels.append(Panel("truth", base))
    for name, shown in frames.items():
        panels.append(Panel(name, shown))
        if name != against:
            panels.append(Panel(f"{name} - {against}, x 5", np.abs(shown - base), 5))
    caption = f"{slice_label(source, z, some.shape[2])}, not for diagnostic use, {displayed_directions(some)}"
    write_together(
        [preview_output(panels, (some.spacing[1], some.spacing[0]), some.frame_time, preview, caption)], force
    )


def _tell(rows: list[dict[str, Any]], truth: bool, held_out: bool) -> None:
    headings = ["method", "time", "residual", *(["held out"] if held_out else []), *(["PSNR", "SSIM"] if truth else [])]
    cells = []
    for row in rows:
        if "failed" in row:
            notices.warn(f"{row['method']}: {row['failed']}")
            cells.append([row["method"], "-", *["-"] * (len(headings) - 2)])
            continue
        line = [row["method"], f"{row['seconds']:.1f} s", f"{row['residual']:.1e}"]
        line += [f"{row['residual_held_out']:.3f}"] if held_out else []
        if truth:
            decibel = row.get("psnr_db")
            line += ["-" if decibel is None else f"{decibel:.2f} dB", f"{row['ssim']:.4f}" if "ssim" in row else "-"]
        cells.append(line)
    console.table("crnn compare", headings, cells)

"""What `crnn reconstruct` works on: images of an undersampled scan, a simulation from images, or raw k-space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import UsageError

if TYPE_CHECKING:
    from crnn_cli.data.acquisition import Acquisition, Complex
    from crnn_cli.data.image import Image
    from crnn_cli.data.sampling_mask import Mask
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.reconstruction.measurement import SliceSource
    from crnn_cli.reconstruction.raw_source import RawSliceSource


@dataclass(frozen=True)
class Simulation:
    """How a scan is to be undersampled in simulation."""

    acceleration: float
    pattern: str
    centre_lines: int | None
    phase_axis: str
    seed: int


@dataclass(frozen=True)
class ScanRequest:
    """What the options say about the input; see the help of each."""

    scan: Path
    axes: str | None = None
    series: str | None = None
    uneven: float | None = None
    phase: Path | None = None
    mask: Path | None = None
    simulation: Simulation | None = None
    coils: int | None = None
    maps: Path | None = None
    phases: int | None = None
    variable: str | None = None


@dataclass(frozen=True)
class Scan:
    """Measured data, and what is known about them.

    to_image : finished images (Z, T, Y, X) to an image with geometry. pattern : the masks of the slices read so far.
    axis : array axis of the images along which lines were left out. geometry : zeros, where the images lie.
    truth : of a simulation. raw : of raw k-space.
    """

    slices: SliceSource
    to_image: Callable[[Complex], Image]
    source: dict[str, Any]
    origin: str
    pattern: Callable[[], Mask]
    axis: int
    geometry: Image
    truth: Image | None = None
    series: Series | None = None
    raw: RawSliceSource | None = None

    def facts(self) -> dict[str, Any]:
        """Return what a report says about the data, after all slices were read."""
        from crnn_cli.data.sampling_mask import (
            acceleration,
            describe_pattern,
            effective_acceleration,
            undersampled_axes,
        )

        mask_ZTYX = self.pattern()
        found: dict[str, Any] = {
            "origin": self.origin,
            "acceleration": round(acceleration(mask_ZTYX), 4),
            "acceleration_in_measured_region": round(effective_acceleration(mask_ZTYX), 4),
            "undersampled_axis": "xyz"[self.axis],
            "undersampled_axes": undersampled_axes(mask_ZTYX),
            "pattern": describe_pattern(mask_ZTYX),
        }
        if self.raw is not None:
            found["coils"] = [self.raw.facts[z] for z in sorted(self.raw.facts)]
        return found


def load(asked: ScanRequest) -> Scan:
    """Return what the options name.

    Raises
    ------
    CrnnError
        See the readers, `data.acquisition` and `reconstruction.raw_source`; UsageError for options that do not belong.
    """
    from crnn_cli.io.kspace.read import is_raw

    if is_raw(asked.scan):
        return _load_raw(asked)
    for option in ("coils", "maps", "phases", "variable"):
        if getattr(asked, option) is not None:
            raise UsageError(f"--{option} belongs to raw k-space, and {asked.scan} holds images")
    image, source, series = _load_image(asked)
    acquisition = _acquire(image, _load_mask(asked, source), asked.simulation)
    return from_acquisition(acquisition, source, image if asked.simulation else None, series)


def one_slice(data: Scan, number: int) -> Scan:
    """Return one slice of the data, counted from 1, as if the scan held no other.

    Raises
    ------
    UsageError
        If there is no such slice, or all slices were encoded together.
    """
    from crnn_cli.reconstruction.measurement import SingleSliceSource

    if data.raw is not None and data.raw.scan.axes_ZYX[0] != 2:
        raise UsageError("--slice: this scan was encoded in three dimensions; all of it is reconstructed together")
    z, of, pattern = number - 1, data.slices.count, data.pattern
    slices, geometry = SingleSliceSource(data.slices, z), data.geometry.select_slice(z)
    return replace(
        data, slices=slices, geometry=geometry, source=data.source | {"slice": number, "slices": of},
        to_image=lambda images: replace(geometry, array=data.to_image(images).array),
        pattern=pattern if data.raw is not None else lambda: pattern()[z : z + 1],
        truth=None if data.truth is None else data.truth.select_slice(z),
        series=None if data.series is None else data.series.one_slice(z),
    )  # fmt: skip


def from_acquisition(
    acquisition: Acquisition, source: dict[str, Any], truth: Image | None, series: Series | None
) -> Scan:  # fmt: skip
    """Return the input of single-channel k-space."""
    from crnn_cli.reconstruction.measurement import SingleCoilSource

    return Scan(
        SingleCoilSource(acquisition), acquisition.to_image, source, acquisition.origin, lambda: acquisition.mask_ZTYX,
        acquisition.phase_axis, acquisition.geometry, truth, series,
    )  # fmt: skip


def _load_raw(asked: ScanRequest) -> Scan:
    from crnn_cli.data.raw_scan import place_images
    from crnn_cli.io.atomic_write import digest
    from crnn_cli.io.kspace.coil_maps import read_maps
    from crnn_cli.io.kspace.read import read_raw
    from crnn_cli.reconstruction.raw_source import CoilChoice, RawSliceSource

    given = {"--mask": asked.mask, "--phase": asked.phase, "--series": asked.series,
             "--undersample": asked.simulation}  # fmt: skip
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} does not belong to raw k-space, and {asked.scan} holds it")
    scan = read_raw(asked.scan, asked.axes, asked.variable, asked.phases, asked.uneven)
    for note in scan.notes:
        notices.warn(note)
    source = {"file": str(asked.scan), "format": scan.format, "axes": scan.stored, "sha256": digest(asked.scan)}
    source |= {} if asked.uneven is None else {"uneven_mm": f"{asked.uneven:g}"}
    maps = None
    if asked.maps is not None:
        maps = read_maps(asked.maps)
        source |= {"maps": str(asked.maps), "maps_sha256": digest(asked.maps)}
    slices = RawSliceSource(scan, CoilChoice(asked.coils, maps))
    origin = f"raw k-space, {scan.format}, {scan.shape_ZCTYX[1]} coil{'s' if scan.shape_ZCTYX[1] > 1 else ''}"
    return Scan(
        slices, lambda images: place_images(images, scan), source, origin, slices.pattern, scan.axes_ZYX[1],
        scan.geometry, raw=slices,
    )  # fmt: skip


def _load_image(asked: ScanRequest) -> tuple[Image, dict[str, Any], Series | None]:
    """Return the image, complex if its phase is known, what was read, and the DICOM series if it was one."""
    from crnn_cli.io.images import load_image
    from crnn_cli.io.phase import join_phase, phase_sibling

    found = load_image(asked.scan, asked.axes, asked.series, uneven=asked.uneven)
    image, source = found.image, dict(found.source)
    phase = asked.phase or phase_sibling(asked.scan)
    if phase is not None:
        if image.is_complex:
            raise UsageError(f"{asked.scan} is complex already: --phase belongs to a magnitude file")
        second = load_image(phase, asked.axes)
        image = join_phase(image, second.image, str(phase))
        source |= {"phase": str(phase), "phase_sha256": second.source["sha256"]}
    for doubt in found.doubts():
        notices.warn(doubt)
    notices.detail(f"read {asked.scan}: {image.shape}, {'complex' if image.is_complex else 'magnitude'}")
    return image, source, found.series


def _load_mask(asked: ScanRequest, source: dict[str, Any]) -> Image | None:
    """Return the mask in a file, if one is given; its axes are those of ``--axes`` if it has as many."""
    if asked.mask is None:
        return None
    from crnn_cli.io.images import load_image

    found = load_image(asked.mask)
    same = asked.axes is not None and found.stored_axes == asked.axes.count(",") + 1
    source |= {"mask": str(asked.mask), "mask_sha256": found.source["sha256"]}
    return load_image(asked.mask, asked.axes).image if same else found.image


def _acquire(image: Image, mask: Image | None, simulation: Simulation | None) -> Acquisition:
    from crnn_cli.data.acquisition import from_fully_sampled, from_zero_filled, require_dynamic

    if simulation is None:
        return from_zero_filled(image, mask)
    import torch

    from crnn_cli.mri.sampling import draw_pattern

    require_dynamic(image)
    axis = "xy".index(simulation.phase_axis)
    generator = torch.Generator().manual_seed(simulation.seed)
    masks = [
        draw_pattern(
            simulation.pattern, image.frames, image.shape[axis], simulation.acceleration, generator,
            simulation.centre_lines,
        )
        for _ in range(image.shape[2])
    ]  # fmt: skip
    kind = "complex" if image.is_complex else "magnitude (phase taken as zero)"
    origin = f"SIMULATED from a fully sampled {kind} series, {simulation.pattern}, seed {simulation.seed}"
    return from_fully_sampled(image, torch.stack(masks).numpy(), axis, origin)

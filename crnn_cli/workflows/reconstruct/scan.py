"""Scans to be reconstructed: zero-filled images, simulations from images, or raw k-space; from files or arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError
from crnn_cli.io.kspace.choices import NOTHING_CHOSEN, RawChoices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crnn_cli.data.acquisition import Acquisition, Complex
    from crnn_cli.data.image import Affine, Image
    from crnn_cli.data.raw_scan import RawScan
    from crnn_cli.data.sampling_mask import Mask
    from crnn_cli.io.dicom.series import Series
    from crnn_cli.reconstruction.measurement import SliceSource
    from crnn_cli.reconstruction.raw_source import RawSliceSource
    from crnn_cli.reconstruction.reconstruct import Reconstruction


@dataclass(frozen=True)
class Simulation:
    """Retrospective undersampling of a fully sampled series.

    Attributes
    ----------
    acceleration : all lines over measured lines.
    pattern : ``variable-density`` or ``sheared-grid``; see `crnn_cli.mri.sampling`.
    centre_lines : fully sampled central lines; None for 8, or two thirds of the lines where that is fewer.
    phase_axis : ``x`` or ``y``, the array axis that is undersampled.
    seed : of the pattern.
    """

    acceleration: float
    pattern: str = "variable-density"
    centre_lines: int | None = None
    phase_axis: str = "y"
    seed: int = 0


@dataclass(frozen=True)
class ScanRequest:
    """A scan in files, and what the options say about it; see the help of `crnn reconstruct`.

    Attributes
    ----------
    scan : NIfTI, DICOM or raw k-space; `crnn_cli.notices.STREAM` for standard input.
    axes : names of the stored axes, where the file does not say them.
    series : of a DICOM folder, its number or UID.
    slice_tolerance : mm that slices may lie off an even spacing.
    phase, mask : phase of a magnitude file; sampling mask.
    simulation : undersampling of fully sampled images.
    coils, maps : virtual coils; sensitivities of raw k-space.
    phases : cardiac phases of an ISMRMRD file.
    variable : array or group of an HDF5 or MATLAB file.
    slice_number : slice that will be selected, which of a DICOM series with holes may be read alone.
    map_sets : sets of sensitivities to estimate; None to find out (`crnn_cli.reconstruction.raw_source.CoilChoice`).
    raw : what else a file of raw k-space leaves open.
    calibration : raw k-space whose fully sampled centre the sensitivities are estimated from.
    """

    scan: Path
    axes: str | None = None
    series: str | None = None
    slice_tolerance: float | None = None
    phase: Path | None = None
    mask: Path | None = None
    simulation: Simulation | None = None
    coils: int | None = None
    maps: Path | None = None
    phases: int | None = None
    variable: str | None = None
    slice_number: int | None = None
    map_sets: int | None = None
    raw: RawChoices = NOTHING_CHOSEN
    calibration: Path | None = None


@dataclass(frozen=True)
class Scan:
    """Measured data, where their images lie, and where the data come from.

    Attributes
    ----------
    slices : source of the measured slices.
    to_image : gives images (Z, T, Y, X) on the output grid the geometry of the scan.
    source : files and their sha256, for the report; empty for data in memory.
    origin : in words, where the samples come from.
    phase_axis : array axis of the images that is the (first) phase encoding.
    geometry : zeros, with the shape and place of the images.
    truth : fully sampled images of a simulation, else None.
    series : DICOM series that the images come from, else None.
    raw : source of raw k-space, else None.
    """

    slices: SliceSource
    to_image: Callable[[Complex], Image]
    source: dict[str, Any]
    origin: str
    phase_axis: int
    geometry: Image
    truth: Image | None = None
    series: Series | None = None
    raw: RawSliceSource | None = None

    @property
    def simulated(self) -> bool:
        """Whether the scan was undersampled in simulation."""
        return self.truth is not None

    def to_map(self, values_ZTYX: NDArray[np.float32]) -> Image:
        """Give real values (Z, T, Y, X) on the output grid the geometry of the images."""
        import numpy as np

        image = self.to_image(values_ZTYX.astype(np.complex64))
        return replace(image, array=np.ascontiguousarray(image.array.real))

    def facts(self, result: Reconstruction[Any]) -> dict[str, Any]:
        """Facts about data and sampling for the report: origin, acceleration, pattern, coils.

        Parameters
        ----------
        result : with the masks and facts of all slices that were reconstructed.
        """
        from crnn_cli.data.sampling_mask import (
            acceleration,
            describe_pattern,
            effective_acceleration,
            undersampled_axes,
        )

        mask_ZTYX = result.mask_ZTYX
        facts: dict[str, Any] = {
            "simulated": self.simulated,
            "origin": self.origin,
            "acceleration": round(acceleration(mask_ZTYX), 4),
            "effective_acceleration": round(effective_acceleration(mask_ZTYX), 4),
            "phase_encoding_axis": "xyz"[self.phase_axis],
            "n_undersampled_axes": undersampled_axes(mask_ZTYX),
            "pattern": describe_pattern(mask_ZTYX),
        }
        return facts if self.raw is None else facts | {"coils": [dict(each) for each in result.facts]}


def load_scan(request: ScanRequest) -> Scan:
    """Open the scan in a file; images are read, raw k-space slice by slice while it is reconstructed.

    Raises
    ------
    UsageError
        If options do not belong to this kind of file.
    CrnnError
        As the readers, `crnn_cli.data.acquisition` and `crnn_cli.reconstruction.raw_source`.
    """
    from crnn_cli.io.formats import identify, is_kspace, require_not_foreign

    if is_kspace(request.scan):
        return _load_raw(request)
    if identify(request.scan) is None:
        require_not_foreign(request.scan)
    names = ("coils", "maps", "map_sets", "calibration", "phases", "variable")
    given = {name: getattr(request, name) for name in names}
    for option, value in (given | request.raw.given()).items():
        if value is not None:
            raise UsageError(Param(option), f" belongs to raw k-space, and {request.scan} holds images")
    image, source, series = _load_image(request)
    return scan_from_image(image, _load_mask(request, source), request.simulation, source, series)


def scan_from_image(
    image: Image, mask: Image | None = None, simulation: Simulation | None = None,
    source: dict[str, Any] | None = None, series: Series | None = None,
) -> Scan:  # fmt: skip
    """Take a series in memory as a scan of one coil.

    Parameters
    ----------
    image : complex zero-filled images of an undersampled scan; with ``simulation`` a fully sampled series, complex or
        magnitude.
    mask : 0/1 over centred k-space, its axes broadcastable to the image's; None to find it from the zeros.
    simulation : how the series is to be undersampled; None where it is.
    source : for the report.
    series : DICOM series of the images.

    Raises
    ------
    UnsupportedDataError
        As `crnn_cli.data.acquisition.from_zero_filled` and `from_fully_sampled`.
    """
    acquisition = _acquire(image, mask, simulation)
    return from_acquisition(acquisition, source or {}, image if simulation else None, series)


def raw_from_kspace(
    kspace: NDArray[np.complexfloating[Any, Any]], axes: str = "coil,t,ky,kx", mask: Mask | None = None,
    affine: Affine | None = None, frame_time: float | None = None,
) -> RawScan:  # fmt: skip
    """Take centred, orthonormal k-space in memory as raw data.

    Parameters
    ----------
    kspace : complex, zero where not measured.
    axes : names of its axes with commas between them: slice, coil, t, ky, kx, kz.
    mask : boolean (T, Y, X), each axis 1 or as long as the k-space's; None to find it from the zeros.
    affine : (4, 4) voxel index to RAS+ mm; None for voxels of 1 mm.
    frame_time : seconds between frames.

    Raises
    ------
    UsageError
        If the axes do not fit the array.
    UnsupportedDataError
        If the array is not complex, is zero everywhere, or clearly is not centred k-space.
    """
    from crnn_cli.io.kspace.grid import scan_from_array
    from crnn_cli.io.kspace.stored_array import StoredArray, parse_axes, require_complex

    name = "k-space in memory"
    require_complex(kspace.dtype, kspace.shape, name)
    stored = StoredArray("NumPy", Path(name), "", kspace.shape, lambda index: kspace[index])
    raw = scan_from_array(stored, parse_axes(axes, stored), mask_TYX=mask)
    geometry = raw.geometry
    if affine is not None:
        geometry = replace(geometry, affine=affine, codes=(1, 1))
    if frame_time is not None:
        geometry = replace(geometry, frame_time=frame_time)
    return replace(raw, geometry=geometry)


def select_slice(scan: Scan, number: int) -> Scan:
    """One slice of a scan, counted from 1, as if the scan held no other.

    Raises
    ------
    UsageError
        If there is no such slice, or all slices were encoded together.
    """
    from crnn_cli.reconstruction.measurement import SingleSliceSource

    if scan.raw is not None and scan.raw.scan.axes_ZYX[0] != 2:
        parts = ": this scan was encoded in three dimensions; all of it is reconstructed together"
        raise UsageError(Param("slice_number"), parts)
    if scan.series is not None and scan.series.alone is not None:
        return replace(scan, source=scan.source | {"slice": number, "slices": scan.series.alone.of})
    z, of = number - 1, scan.slices.count
    slices, geometry = SingleSliceSource(scan.slices, z), scan.geometry.select_slice(z)
    return replace(
        scan, slices=slices, geometry=geometry, source=scan.source | {"slice": number, "slices": of},
        to_image=lambda images: replace(geometry, array=scan.to_image(images).array),
        truth=None if scan.truth is None else scan.truth.select_slice(z),
        series=None if scan.series is None else scan.series.one_slice(z),
    )  # fmt: skip


def from_acquisition(
    acquisition: Acquisition, source: dict[str, Any], truth: Image | None = None, series: Series | None = None
) -> Scan:  # fmt: skip
    """Take single-channel k-space as a scan; ``truth`` are the images of a simulation."""
    from crnn_cli.reconstruction.measurement import SingleCoilSource

    return Scan(
        SingleCoilSource(acquisition), acquisition.to_image, source, acquisition.origin, acquisition.phase_axis,
        acquisition.geometry, truth, series,
    )  # fmt: skip


def _load_raw(request: ScanRequest) -> Scan:
    from crnn_cli.io.atomic_write import digest
    from crnn_cli.io.kspace.bart import file_of_samples
    from crnn_cli.io.kspace.calibration import read_calibration, with_calibration
    from crnn_cli.io.kspace.coil_maps import read_maps
    from crnn_cli.io.kspace.read import read_raw

    given = {"mask": request.mask, "phase": request.phase, "series": request.series,
             "undersample": request.simulation}  # fmt: skip
    for option, value in given.items():
        if value is not None:
            raise UsageError(Param(option), f" does not belong to raw k-space, and {request.scan} holds it")
    raw = read_raw(
        request.scan, request.axes, request.variable, request.phases, request.slice_tolerance, request.raw
    )  # fmt: skip
    file = file_of_samples(request.scan)
    source = {"file": str(file), "format": raw.format, "axes": raw.stored, "sha256": digest(file)}
    if request.slice_tolerance is not None:
        source["slice_tolerance_mm"] = f"{request.slice_tolerance:g}"
    source |= request.raw.given()
    maps = None
    if request.maps is not None:
        maps = read_maps(request.maps)
        source |= {"maps": str(request.maps), "maps_sha256": digest(request.maps)}
    if request.calibration is not None:
        raw = with_calibration(raw, read_calibration(request.calibration, request.axes))
        calibration = file_of_samples(request.calibration)
        source |= {"calibration": str(calibration), "calibration_sha256": digest(calibration)}
    return scan_from_raw(raw, request.coils, maps, source, request.map_sets)


def scan_from_raw(
    raw: RawScan, coils: int | None, maps: Complex | None, source: dict[str, Any], map_sets: int | None = None
) -> Scan:
    """Take raw k-space as a scan; what is odd about it is logged."""
    from crnn_cli.data.raw_scan import place_images
    from crnn_cli.reconstruction.raw_source import CoilChoice, RawSliceSource

    notices.tell(*raw.remarks)
    slices = RawSliceSource(raw, CoilChoice(coils, maps, map_sets))
    count = raw.shape_ZCTYX[1]
    origin = f"raw k-space, {raw.format}, {count} coil{'s' if count > 1 else ''}"
    return Scan(
        slices, lambda images: place_images(images, raw), source, origin, raw.axes_ZYX[1], raw.geometry, raw=slices
    )


def _load_image(request: ScanRequest) -> tuple[Image, dict[str, Any], Series | None]:
    """Image (complex where its phase is known), facts about the files, DICOM series if it is one."""
    from crnn_cli.io.images import load_image
    from crnn_cli.io.phase import join_phase, phase_sibling
    from crnn_cli.workflows.reconstruct.phase import load_phase

    loaded = load_image(
        request.scan, request.axes, request.series,
        slice_tolerance=request.slice_tolerance, slice_number=request.slice_number,
    )  # fmt: skip
    image, source = loaded.image, dict(loaded.source)
    phase = request.phase or phase_sibling(request.scan)
    if phase is not None:
        if image.is_complex:
            raise UsageError(f"{request.scan} is complex already: ", Param("phase"), " belongs to a magnitude file")
        phase_image = load_phase(
            phase, request.axes, slice_tolerance=request.slice_tolerance, slice_number=request.slice_number
        )
        image = join_phase(image, phase_image.image, str(phase))
        source |= {"phase": str(phase), "phase_sha256": phase_image.source["sha256"]}
    notices.tell(*loaded.remarks())
    if loaded.series is not None and loaded.series.is_phase:
        text = f"{request.scan}: the headers say that these are phase images, and they are taken for magnitudes"
        notices.tell(notices.Doubt("phase-as-magnitude", text))
    notices.detail(f"read {request.scan}: {image.shape}, {'complex' if image.is_complex else 'magnitude'}")
    return image, source, loaded.series


def _load_mask(request: ScanRequest, source: dict[str, Any]) -> Image | None:
    """Mask in a file, if one is given; its axes are those of ``axes`` if it has as many. Its sha256 goes to source."""
    if request.mask is None:
        return None
    from crnn_cli.io.mask import load_mask

    mask, sha256 = load_mask(request.mask, request.axes)
    source |= {"mask": str(request.mask), "mask_sha256": sha256}
    return mask


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

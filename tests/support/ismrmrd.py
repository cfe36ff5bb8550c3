"""Writes ISMRMRD files with known truth through the `ismrmrd` package, from the k-space of the phantom.

Legend: Z slice, C coil, T frame, K second phase encoding, Y phase encoding, X readout.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import ismrmrd
import numpy as np
from ismrmrd import xsd

from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice

SPACING = 4.0


@dataclass
class Made:
    """What a reader must find."""

    kspace_ZCTYX: Any
    mask_ZTYX: Any
    calibration_ZCYX: Any
    affine: Any
    frame_time: float


@dataclass(frozen=True)
class Options:
    """What the scan is like.

    samples : of the images along the readout; the encoded matrix has ``oversampling`` times as many.
    echo : samples missing at the beginning of each readout. partial, early : lines missing at the end and at the
    beginning of k-space; counters begin with the first line there is.
    calibration : None, "embedded" (4 lines, those of the pattern for imaging too) or "separate".
    noise : covariance of noise readouts; their dwell time is ``noise_dwell``.
    reverse : every second line is read backwards. discard : samples of nothing before and after each readout.
    tilt : seed of random directions, None for those of the patient. skip : lines (slice, frame, line) not measured.
    planes : of a 3-D scan.
    """

    samples: int = 12
    lines: int = 10
    oversampling: int = 2
    coils: int = 2
    frames: int = 3
    counter: str = "phase"
    slices: int = 2
    planes: int = 1
    echo: int = 0
    partial: int = 0
    early: int = 0
    reverse: bool = False
    averages: int = 1
    acceleration: int = 1
    calibration: str | None = None
    noise: Any = None
    noise_dwell: float = 5.0
    noise_readouts: int = 20
    discard: tuple[int, int] = (0, 0)
    tilt: int | None = 1
    shuffle: int | None = None
    skip: tuple = ()
    seed: int = 0

    @property
    def encoded(self):
        return self.samples * self.oversampling


@cache
def phantom(samples, lines, coils, frames, slices, seed):
    """Return noisy k-space (Z, C, T, Y, X)."""
    scan = PhantomScan(Grid(samples, lines, SPACING), frames, slices, coils, snr=20, seed=seed)
    return np.stack([simulate_slice(scan, z).kspace_CTYX.numpy() for z in range(slices)])


def directions(seed):
    """Return read, phase and slice directions as columns, right-handed or not."""
    if seed is None:
        return np.eye(3)
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q


def limit(maximum, centre):
    """Return the limits of a counter from 0."""
    return xsd.limitType(minimum=0, maximum=maximum, center=centre)


def header_of(o, matrix_z=1, **changes):
    """Return the XML header; ``changes`` are attributes of its only encoding, the TR in ms or the noise bandwidth."""
    space = lambda x, z: xsd.encodingSpaceType(  # noqa: E731
        matrixSize=xsd.matrixSizeType(x=x, y=o.lines, z=z),
        fieldOfView_mm=xsd.fieldOfViewMm(x=x * SPACING, y=o.lines * SPACING, z=8.0 * z),
    )
    limits = xsd.encodingLimitsType()
    limits.kspace_encoding_step_1 = limit(o.lines - 1 - o.partial - o.early, o.lines // 2 - o.early)
    limits.kspace_encoding_step_2 = limit(matrix_z - 1, matrix_z // 2)
    encoding = xsd.encodingType(
        encodedSpace=space(o.encoded, matrix_z), reconSpace=space(o.samples, matrix_z), encodingLimits=limits,
        trajectory=xsd.trajectoryType.CARTESIAN,
        parallelImaging=xsd.parallelImagingType(
            accelerationFactor=xsd.accelerationFactorType(
                kspace_encoding_step_1=o.acceleration, kspace_encoding_step_2=1
            ),
            calibrationMode=xsd.calibrationModeType(o.calibration) if o.calibration else None,
        ),
    )  # fmt: skip
    head = xsd.ismrmrdHeader(experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=123_000_000))
    head.encoding = [encoding]
    head.sequenceParameters = xsd.sequenceParametersType(TR=[changes.pop("tr", 3.0)])
    bandwidth = changes.pop("bandwidth", None)
    if bandwidth:
        head.acquisitionSystemInformation = xsd.acquisitionSystemInformationType(
            relativeReceiverNoiseBandwidth=bandwidth
        )
    for name, value in changes.items():
        setattr(encoding, name, value)
    return head.toXML("utf-8")


def readout(samples, axes, position, flags=(), **head):
    """Return an acquisition; names that are counters go into idx."""
    acquisition = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples, np.complex64))
    acquisition.available_channels = samples.shape[0]
    acquisition.center_sample = samples.shape[1] // 2
    acquisition.sample_time_us = 2.5
    acquisition.position[:] = list(position)
    for name, column in zip(("read_dir", "phase_dir", "slice_dir"), axes.T, strict=True):
        getattr(acquisition, name)[:] = list(column)
    for flag in flags:
        acquisition.setFlag(flag)
    for name, value in head.items():
        target = acquisition.idx if hasattr(acquisition.idx, name) else acquisition
        if name == "since_r_wave":
            acquisition.physiology_time_stamp[0] = value
        else:
            setattr(target, name, value)
    return acquisition


def write(place, acquisitions, xml, group="dataset", shuffle=None):
    """Write a file of acquisitions; scan counters follow their time, rows are shuffled."""
    for counter, acquisition in enumerate(acquisitions):
        acquisition.scan_counter = counter
    order = range(len(acquisitions))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(acquisitions))
    data = ismrmrd.Dataset(str(place), group, create_if_needed=True)
    data.write_xml_header(xml)
    data.close()
    with ismrmrd.File(str(place), "a") as file:
        file[group].acquisitions = [acquisitions[i] for i in order]
    return place


def pattern(o):
    """Return which lines each frame measures (T, Y), and which of them calibrate (Y)."""
    last = o.lines - o.partial
    measured = np.zeros((o.frames, o.lines), bool)
    for t in range(o.frames):
        measured[t, o.early + t % o.acceleration : last : o.acceleration] = True
    calibrates = np.zeros(o.lines, bool)
    if o.calibration:
        calibrates[o.lines // 2 - 2 : min(last, o.lines // 2 + 2)] = True
    return measured, calibrates


def affine_of(o, axes, origin):
    """Return voxel to RAS+ mm of the images: voxel N // 2 lies at the origin."""
    order = 1 if o.slices == 1 and o.planes == 1 else 0
    step = 8.0 if o.planes > 1 or order else 10.0
    columns = axes * [SPACING, SPACING, step]
    first = (o.samples // 2, o.lines // 2, o.planes // 2)
    lps = np.column_stack([columns, np.asarray(origin) - columns @ first])
    return np.vstack([np.diag([-1, -1, 1]) @ lps, [0, 0, 0, 1]])


def scan(o):
    """Return the acquisitions of a scan and what a reader must find."""
    rng = np.random.default_rng(o.seed)
    depth = max(o.slices, o.planes)
    images = phantom(o.encoded, o.lines, o.coils, o.frames, depth, o.seed)
    encoded = to_planes(images) if o.planes > 1 else images  # along Z, or along K
    axes, origin = directions(o.tilt), np.array([-20.0, 30.0, 12.5])
    measured, calibrates = pattern(o)
    mask = np.broadcast_to(measured, (depth, *measured.shape)).copy()
    for place in o.skip:
        mask[place] = False
    total = np.zeros_like(encoded)
    calibration = np.zeros_like(encoded[:, :, 0])
    made, clock = [], 1000
    counters = rng.permutation(o.slices)  # the slice counter does not follow the position
    for t in range(o.frames):
        for z in range(depth):
            where = {"slice": int(counters[z])} if o.planes == 1 else {"kspace_encode_step_2": z}
            position = origin + axes[:, 2] * 10.0 * (z if o.planes == 1 else 0)
            for y in range(o.lines):
                kinds = line_kinds(o, mask[z, t, y], calibrates[y] and t == 0)
                for flags, images_too in kinds:
                    for a in range(o.averages):
                        samples = encoded[z, :, t, y] + 0.01 * rng.normal(size=(o.coils, 1))
                        if images_too:
                            total[z, :, t, y] += samples
                        if flags:
                            calibration[z, :, y] += samples
                        stamp = {"acquisition_time_stamp": clock + 40 * t, "average": a}
                        counted = {"kspace_encode_step_1": y - o.early, o.counter: t}
                        made.append(cut(o, samples, y, axes, position, flags, **where, **stamp, **counted))
    total, calibration = total / o.averages, calibration / o.averages
    mask_ZTYX = np.repeat(mask[..., None], o.encoded, -1) if o.echo else mask[..., None].copy()
    for part in (total, calibration, mask_ZTYX):
        part[..., : o.echo] = 0
    if o.planes > 1:
        total, calibration = from_planes(total), from_planes(calibration)
    return noise_readouts(o, rng, axes) + made, Made(
        total, mask_ZTYX, calibration if o.calibration else None, affine_of(o, axes, origin), 0.1
    )


def line_kinds(o, measured, calibrates):
    """Return the readouts of a line: flags, and whether it is for images."""
    if not calibrates:
        return [((), True)] if measured else []
    if o.calibration == "embedded":
        return [((21,), True)] if measured else [((20,), False)]
    return [((20,), False)] + ([((), True)] if measured else [])


def cut(o, samples, y, axes, position, flags, **head):
    """Return the readout of a whole line: cut to the echo, with samples to discard, turned round."""
    pre, post = o.discard
    kept = samples[:, o.echo :]
    junk = np.full((len(kept), 1), 99, complex)
    kept = np.hstack([junk.repeat(pre, 1), kept, junk.repeat(post, 1)])
    centre = o.encoded // 2 - o.echo + pre
    if o.reverse and y % 2:
        kept, centre, pre, post, flags = kept[:, ::-1], kept.shape[1] - 1 - centre, post, pre, (*flags, 22)
    return readout(kept, axes, position, flags, center_sample=centre, discard_pre=pre, discard_post=post, **head)


def noise_readouts(o, rng, axes):
    """Return readouts of noise whose covariance is exactly that of the options."""
    if o.noise is None:
        return []
    n = 16
    white = rng.normal(size=(2, o.coils, n * o.noise_readouts))
    white = white[0] + 1j * white[1]
    inverse = np.linalg.inv(np.linalg.cholesky(white @ white.conj().T / white.shape[1]))
    coloured = np.linalg.cholesky(np.asarray(o.noise)) @ inverse @ white
    return [
        readout(part, axes, (0, 0, 0), (19,), center_sample=0, sample_time_us=o.noise_dwell)
        for part in np.split(coloured, o.noise_readouts, 1)
    ]


def to_planes(images):
    """Return k-space along the first axis, in double precision."""
    return np.fft.fftshift(np.fft.fft(np.fft.ifftshift(images.astype(complex), 0), axis=0, norm="ortho"), 0)


def from_planes(kspace):
    """Return images along the first axis."""
    return np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, 0), axis=0, norm="ortho"), 0)


def write_scan(place, o, **changes):
    """Write a scan; ``changes`` go into its header. Return what a reader must find."""
    acquisitions, made = scan(o)
    write(place, acquisitions, header_of(o, o.planes, **changes), shuffle=o.shuffle)
    return made


def write_beats(place, o, phases, lengths, bad=(), pause_after=None, shuffle=3):
    """Write a scan that reads each line over two heart beats, with time stamps since the R wave and no other counters.

    lengths : of the beats in ticks, two for each line. bad : beats whose samples are junk, not to be used.
    pause_after : beat after which the scan rests for 3000 ticks.
    Return k-space (C, T, Y, X) and mask (T, Y, 1) in cardiac phases.
    """
    images = phantom(o.encoded, o.lines, o.coils, phases, 1, o.seed)[0]
    total, count = np.zeros_like(images), np.zeros((phases, o.lines, 1))
    rng = np.random.default_rng(o.seed)
    made, r_wave = [], 5000
    for beat, length in enumerate(lengths):
        y = beat // 2
        for since in range(1 + beat % 3, length, 4):
            frame = since * phases // length
            samples = images[:, frame, y] + 0.01 * rng.normal(size=(o.coils, 1))
            if beat in bad:
                samples = 99 + 0 * samples
            else:
                total[:, frame, y] += samples
                count[frame, y] += 1
            stamps = {"acquisition_time_stamp": r_wave + since, "since_r_wave": since}
            made.append(readout(samples, np.eye(3), (0, 0, 0), kspace_encode_step_1=y, **stamps))
        r_wave += length + (3000 if beat == pause_after else 0)
    write(place, made, header_of(o), shuffle=shuffle)
    return total / np.maximum(count, 1), count > 0

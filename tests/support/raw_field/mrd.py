"""ISMRMRD files as converters and simulators write them, with h5py alone; with what is wrong in many of them.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout, K second phase encoding.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np
from ismrmrd.hdf5 import acquisition_header_dtype

from tests.support.raw_field.case import Case, pattern, phantom, transform

NOISE, CALIBRATION, BOTH, REVERSE, NAVIGATION = (1 << (flag - 1) for flag in (19, 20, 21, 22, 23))
PIXEL, THICKNESS, GAP = 4.0, 8.0, 10.0
XML = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>
<H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions><encoding>
<encodedSpace><matrixSize><x>{x}</x><y>{y}</y><z>{z}</z></matrixSize>
<fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>{fz}</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{nx}</x><y>{y}</y><z>{nz}</z></matrixSize>
<fieldOfView_mm><x>{nfx}</x><y>{fy}</y><z>{fz}</z></fieldOfView_mm></reconSpace>
<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""
LIMIT = "<{name}><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center></{name}>"


@dataclass
class Written:
    """What goes into the file: readouts as (samples (C, X), fields), and the numbers of the header."""

    readouts: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    header: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Size and peculiarities of a scan; ``odd`` names the latter."""

    slices: int
    coils: int
    frames: int
    lines: int
    samples: int
    oversampling: int
    planes: int
    counter: str
    odd: frozenset[str]

    @property
    def encoded(self):
        return self.samples * self.oversampling


ODD = {
    "zeros stored": 0.2, "oversampling removed": 0.15, "partial": 0.15, "early": 0.1, "no limits": 0.1, "echo": 0.15,
    "reversed": 0.12, "reversed half": 0.08, "reversed mirrored": 0.08, "stride": 0.1, "empty frame": 0.1,
    "sets": 0.1, "contrasts": 0.05, "repetitions too": 0.08, "noise scan": 0.15, "navigators": 0.1, "two planes": 0.1,
    "metres": 0.07, "views": 0.07, "almost whole": 0.05, "calibration": 0.15, "averages": 0.1, "shuffled": 0.3,
    "dead coil": 0.08, "more repetitions": 0.08, "slice missing": 0.05, "discard": 0.1, "centre 0": 0.07,
}  # fmt: skip
"""Peculiarities, and how often each is."""
APART = [{"oversampling removed", "echo", "reversed half", "reversed mirrored", "discard"},
         {"reversed", "reversed half", "reversed mirrored", "centre 0"}, {"echo", "reversed half", "centre 0"},
         {"no limits", "early"}, {"no limits", "partial"}, {"sets", "contrasts", "repetitions too", "views"},
         {"averages", "repetitions too"}, {"empty frame", "slice missing", "views"}, {"centre 0", "discard"},
         {"reversed mirrored", "echo", "discard"}, {"reversed half", "discard"}, {"stride", "empty frame"},
         {"centre 0", "oversampling removed"}, {"zeros stored", "reversed half"}]  # fmt: skip
"""Peculiarities of which a scan has one at most, so that its truth is known."""


def make_mrd(rng, folder):
    """Return a case of ISMRMRD."""
    plan = _plan(rng)
    kind = str(rng.choice(["full", "random", "regular"]))
    kspace = phantom(rng, (plan.slices, plan.coils, plan.frames, plan.lines, plan.encoded), plan.oversampling)
    if "dead coil" in plan.odd:
        kspace[:, plan.coils // 2] = 0
    mask = np.broadcast_to(pattern(rng, plan.frames, plan.lines, kind), (plan.slices, plan.frames, plan.lines)).copy()
    case = Case(folder / "scan.h5", ["ismrmrd", kind, *sorted(plan.odd)])
    place = Place(rng, plan)
    written = Written(header=_header(plan))
    _outer_lines(plan, mask, written)
    case.truth_ZCTYX, case.mask_ZTYX = kspace.copy(), mask[..., None].copy()
    _imaging(rng, plan, kspace, mask, place, written, case)
    _others(rng, plan, place, written, case)
    _refusals(rng, plan, written, case)
    case.affine = place.affine(plan)
    write_readouts(rng, plan, written, case)
    return case


def _plan(rng):
    odd = {name for name, often in ODD.items() if rng.random() < often}
    for apart in APART:
        both = sorted(odd & apart)
        odd -= set(both[1:])
    plan = Plan(
        slices=int(rng.integers(1, 4)), coils=int(rng.integers(1, 4)), frames=int(rng.integers(1, 5)),
        lines=int(rng.integers(20, 37)), samples=2 * int(rng.integers(12, 21)), oversampling=int(rng.integers(1, 3)),
        planes=1, counter=str(rng.choice(["phase", "repetition"])), odd=frozenset(),
    )  # fmt: skip
    if plan.oversampling == 1:
        odd -= {"oversampling removed"}
    if plan.frames == 1:
        odd -= {"repetitions too"}
    if plan.frames < 3:
        odd -= {"empty frame", "stride"}
    if plan.coils == 1:
        odd -= {"dead coil"}
    if plan.slices < 3:
        odd -= {"slice missing"}
    if "repetitions too" in odd:
        plan = replace(plan, counter="phase")
    if plan.counter == "repetition" and "stride" in odd:
        odd -= {"more repetitions"}
    return replace(plan, odd=frozenset(odd))


class Place:
    """Where slices lie: a random orientation, slice counters in any order."""

    def __init__(self, rng, plan):
        self.axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        self.origin = rng.uniform(-60, 60, 3) if "metres" not in plan.odd else rng.uniform(0.02, 0.05, 3)
        self.counters = rng.permutation(plan.slices)
        self.steps = GAP * np.arange(plan.slices)
        if "slice missing" in plan.odd:
            self.steps[-1] += GAP

    def of(self, z, unit=1.0):
        """Return the fields of a readout of slice z; lengths in ``unit`` mm."""
        names = zip(("read_dir", "phase_dir", "slice_dir"), self.axes.T, strict=True)
        position = self.origin + self.axes[:, 2] * self.steps[z] / unit
        return {"slice": int(self.counters[z]), "position": position, **dict(names)}

    def affine(self, plan):
        """Return voxel to RAS+ mm."""
        origin = self.origin * (1000 if "metres" in plan.odd else 1)
        step = GAP if plan.slices > 1 else THICKNESS
        columns = self.axes * [PIXEL, PIXEL, step]
        corner = origin - columns @ [plan.samples // 2, plan.lines // 2, 0]
        return np.vstack([np.diag([-1, -1, 1]) @ np.column_stack([columns, corner]), [0, 0, 0, 1]])


def _header(plan):
    unit = 1000 if "metres" in plan.odd else 1
    z = 2 if "two planes" in plan.odd else 1
    numbers = {"x": plan.encoded, "y": plan.lines, "z": z, "nx": plan.samples, "nz": z}
    if "almost whole" in plan.odd:
        numbers |= {"y": f"{plan.lines - 0.0003:.4f}", "z": f"{z - 0.0001:.4f}"}
    fields = {"fx": plan.encoded * PIXEL, "fy": plan.lines * PIXEL, "fz": THICKNESS, "nfx": plan.samples * PIXEL}
    return numbers | {name: length / unit for name, length in fields.items()}


def _outer_lines(plan, mask, written):
    """Leave out lines at the end or the beginning of k-space; counters begin with the first line there is."""
    n = plan.lines
    last = n - n // 5 if "partial" in plan.odd else n
    first = n // 6 if "early" in plan.odd else 0
    mask[..., last:] = mask[..., :first] = False
    if "no limits" not in plan.odd:
        written.limits["kspace_encoding_step_1"] = (last - first - 1, n // 2 - first)
    written.header["first"] = first


def _imaging(rng, plan, kspace, mask, place, written, case):
    """Readouts for images, in the order of time; the truth follows what cannot be measured."""
    odd, unit = plan.odd, 1000 if "metres" in plan.odd else 1
    width = plan.encoded
    if "oversampling removed" in odd:
        width = plan.samples
        case.truth_ZCTYX = _crop(kspace, width)
        case.codes.append("oversampling-removed")
        kspace = case.truth_ZCTYX
    echo = width // 4 if "echo" in odd else 0
    if echo or "reversed half" in odd:
        case.mask_ZTYX = np.repeat(case.mask_ZTYX, width, -1)
        case.mask_ZTYX[..., :echo] = False
    clock = 1000
    for t in range(plan.frames):
        for z in range(plan.slices):
            for n, y in enumerate(np.flatnonzero(mask[z, t]) if "zeros stored" not in odd else range(plan.lines)):
                fields = place.of(z, unit) | {"kspace_encode_step_1": int(y) - written.header["first"]}
                if fields["kspace_encode_step_1"] < 0:
                    continue
                samples = kspace[z, :, t, y] * mask[z, t, y]
                fields |= {plan.counter: 3 * t + 1 if "stride" in odd else t, "acquisition_time_stamp": clock + n}
                turn = n % 2 == 1 and any(name.startswith("reversed") for name in odd)
                samples, more = _readout(plan, samples, echo, turn)
                if "reversed half" in odd and turn:
                    case.mask_ZTYX[z, t, y, 0] = False
                for a in range(2 if "averages" in odd else 1):
                    written.readouts.append((samples, fields | more | {"average": a}))
        clock += 40
    if plan.odd & {"stride"}:
        case.codes.append("counter-stride")


def _crop(kspace, width):
    first = kspace.shape[-1] // 2 - width // 2
    images = transform(kspace, (-1,), inverse=True)[..., first : first + width]
    return transform(images, (-1,)).astype(np.complex64)


def _readout(plan, samples, echo, turn):
    """Return the stored samples of a line, and the fields about them."""
    x, flags, pre, post = samples.shape[1], 0, 0, 0
    stored, centre = samples[:, echo:], x // 2 - echo
    if "discard" in plan.odd:
        pre, post = 2, 3
        junk = np.full((len(stored), 1), 50 + 0j)
        stored, centre = np.hstack([junk.repeat(pre, 1), stored, junk.repeat(post, 1)]), centre + pre
    if turn:
        flags = REVERSE
        if "reversed half" in plan.odd:  # sample x // 2 is the centre also in the stored order
            stored = samples[:, (2 * (x // 2) - np.arange(x)) % x]
        else:
            stored, pre, post = stored[:, ::-1], post, pre
            mirrored = "reversed mirrored" in plan.odd
            centre = stored.shape[1] - centre if mirrored else stored.shape[1] - 1 - centre
    if "centre 0" in plan.odd:
        centre = 0
    return stored, {"flags": flags, "center_sample": centre, "discard_pre": pre, "discard_post": post}


def _others(rng, plan, place, written, case):
    """Readouts for other purposes: noise, navigators, calibration."""
    odd, shape = plan.odd, written.readouts[0][0].shape
    unit = 1000 if "metres" in odd else 1
    if "noise scan" in odd:
        for _ in range(20):
            noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
            written.readouts.insert(0, (noise, place.of(0, unit) | {"flags": NOISE, "center_sample": 0}))
    if "navigators" in odd:
        for at in (3, 5):
            junk = np.full(shape, 1e4 + 0j)
            written.readouts.insert(
                at, (junk, place.of(0, unit) | {"flags": NAVIGATION, "kspace_encode_step_1": 60000})
            )
    if "calibration" in odd:
        whole = plan.samples if "oversampling removed" in odd else plan.encoded
        extra = rng.normal(size=(6, plan.coils, whole)) + 0j
        for i, samples in enumerate(extra):
            fields = {"kspace_encode_step_1": plan.lines // 2 - 3 + i - written.header["first"], "flags": CALIBRATION}
            written.readouts.append((samples, place.of(0, unit) | fields | {"center_sample": whole // 2}))
    if "dead coil" in odd and "noise scan" not in odd:
        case.codes.append("dead-coil")


def _refusals(rng, plan, written, case):
    """What leaves a choice, or must be refused."""
    odd, chosen = plan.odd, rng.random() < 0.6
    images = [each for each in written.readouts if not each[1].get("flags", 0) & ~REVERSE]
    for name, counter, param in (
        ("sets", "set", "set_number"), ("contrasts", "contrast", "contrast"),
        ("repetitions too", "repetition", "repetition"),
    ):  # fmt: skip
        if name not in odd:
            continue
        written.readouts += [(3 * samples, fields | {counter: 2}) for samples, fields in images]
        if chosen:
            case.chosen[param] = 0
        else:
            case.refused = "both phase and repetition" if name == "repetitions too" else f"2 values of {counter}"
    if "views" in odd:
        turned = {"read_dir": images[0][1]["phase_dir"], "phase_dir": -images[0][1]["read_dir"]}
        written.readouts += [(2 * samples, fields | turned | {"slice": 9}) for samples, fields in images[:4]]
        case.chosen |= {"view": 1} if chosen else {}
        case.refused = None if chosen else "2 views"
    if "slice missing" in odd and case.refused is None:
        case.refused = "not evenly spaced"
    if "empty frame" in odd:
        _without_frame(rng, plan, written, case)
    if "more repetitions" in odd:
        written.limits["repetition"] = (11, 0)
        case.codes.append("fewer-than-stated")
    if "two planes" in odd:
        case.codes.append("planes-never-vary")
    if "metres" in odd:
        case.codes.append("field-of-view-in-metres")
    if "no limits" in odd:
        case.codes.append("no-encoding-limits")


def _without_frame(rng, plan, written, case):
    """Take one frame away from one slice."""
    t = int(rng.integers(plan.frames))
    counter = int(rng.permutation(plan.slices)[0])
    written.readouts = [
        (samples, fields) for samples, fields in written.readouts
        if fields.get("flags", 0) & ~REVERSE or fields[plan.counter] != t or fields["slice"] != counter
    ]  # fmt: skip
    known = plan.slices > 1 or 0 < t < plan.frames - 1  # of the first or the last frame of the only slice nobody knows
    if case.refused is None and rng.random() < 0.5:
        case.chosen["drop_empty"] = True
        case.codes += ["empty-frames"] if known else []
        kept = np.arange(plan.frames) != t
        case.truth_ZCTYX, case.mask_ZTYX = case.truth_ZCTYX[:, :, kept], case.mask_ZTYX[:, kept]
    elif case.refused is None and known:
        case.refused = "drop_empty"
    elif case.refused is None:
        kept = np.arange(plan.frames) != t
        case.truth_ZCTYX, case.mask_ZTYX = case.truth_ZCTYX[:, :, kept], case.mask_ZTYX[:, kept]


def write_readouts(rng, plan, written, case):
    """Write the file of a case."""
    rows = written.readouts
    if "shuffled" in plan.odd:
        rows = [rows[i] for i in rng.permutation(len(rows))]
    kind = np.dtype([("head", acquisition_header_dtype), ("traj", h5py.vlen_dtype(np.float32)),
                     ("data", h5py.vlen_dtype(np.float32))])  # fmt: skip
    table = np.zeros(len(rows), kind)
    for i, (samples, fields) in enumerate(rows):
        head = table["head"][i]
        head["version"], head["scan_counter"], head["sample_time_us"] = 1, i + 1, 5.0
        head["active_channels"] = head["available_channels"] = len(samples)
        head["number_of_samples"] = samples.shape[1]
        for name, value in fields.items():
            (head["idx"] if name in head["idx"].dtype.names else head)[name] = value
        table["data"][i] = np.ascontiguousarray(samples, np.complex64).view(np.float32).ravel()
        table["traj"][i] = np.zeros(0, np.float32)
    limits = "".join(
        LIMIT.format(name=name, last=last, centre=centre) for name, (last, centre) in written.limits.items()
    )
    with h5py.File(case.path, "w") as file:
        group = str(rng.choice(["dataset", "dataset", "scan"]))
        file.create_dataset(f"{group}/data", data=table, maxshape=(None,), chunks=True)
        file.create_dataset(f"{group}/xml", data=[XML.format(limits=limits, **written.header)],
                            dtype=h5py.string_dtype())  # fmt: skip

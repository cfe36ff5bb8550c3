"""Volumes, ejection fraction, mass and flow from the volume curves of one cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.cardiac.chambers import LEFT, MYOCARDIUM, RIGHT
from crnn_cli.cardiac.quantities import Quantity, derived
from crnn_cli.cardiac.volume_curves import Curve, Rates, StructureVolumes, count_beats, peak_rates
from crnn_cli.errors import Param, UnsupportedDataError, UsageError

DENSITY = 1.05
"""Density of myocardium in g/ml."""
FEWEST_SLICES = 3
"""Slices that a structure must be in for its volume by discs."""
FEWEST_FRAMES = 8
"""Frames that a cycle must have to be followed."""
PAIR = 2
"""Frames where end diastole and end systole alone are labelled: they carry all numbers but `OVER_THE_CYCLE`."""
OVER_THE_CYCLE = ("heart_rate", "cardiac_output", "peak_ejection_rate", "peak_filling_rate")
"""Names of the quantities that need the frames between."""
ONE_FRAME = "one frame: there is no end systole"
"""Why a single volume has no end-systolic numbers."""
NO_DIASTOLE = "one frame, of end systole: there is no end diastole"
"""Why a single volume that is said to be of end systole has no end-diastolic numbers."""
AS_LARGE = 0.02
"""Part of the stroke by which a cavity may be smaller than the largest to count as large."""
AS_SMALL = 0.01
"""Part of the stroke by which a cavity may be larger than the smallest to count as small."""
_RETURNED = 0.5  # share of the stroke that is filled again in the last frame of a whole cycle
_HEART_RATES = (20, 240)  # per minute
_OF_FRAMES = (0.75, 1.5)  # rate that the frames cover once over the true one; gated frames may leave out a third


@dataclass(frozen=True)
class Phases:
    """End-diastolic and end-systolic frame, from 0.

    Attributes
    ----------
    origin : where they come from: ``found``, ``given``, or ``labelled``: no other frame has a label.
    unknown : why other frames may be meant, so that volumes at these say nothing; empty where they are known.
    only : of a single volume, the phase that it is of: ``ed``, or ``es`` where it was given as that; empty of a cine.
    """

    ed: int
    es: int
    origin: str
    unknown: str = ""
    only: str = ""

    def frames(self) -> dict[str, int]:
        """Frames by phase, ``ed`` and ``es``: both, or that of a single volume."""
        both = {"ed": self.ed, "es": self.es}
        return {self.only: both[self.only]} if self.only else both

    @property
    def lacking(self) -> str:
        """Why a single volume has no numbers of the other phase; empty of a cine."""
        return {"": "", "ed": ONE_FRAME, "es": NO_DIASTOLE}[self.only]


@dataclass(frozen=True)
class Ventricle:
    """Volumes of a ventricle; see `Quantity` for what is refused.

    Attributes
    ----------
    edv, esv, stroke_volume : in ml.
    ejection_fraction : in per cent; a ratio, so it is known where the voxel size is not.
    """

    name: str
    edv: Quantity
    esv: Quantity
    stroke_volume: Quantity
    ejection_fraction: Quantity

    def quantities(self) -> dict[str, Quantity]:
        """All quantities by the names of the report."""
        return {"edv": self.edv, "esv": self.esv, "stroke_volume": self.stroke_volume,
                "ejection_fraction": self.ejection_fraction}  # fmt: skip


def find_phases(volumes: dict[str, StructureVolumes], ed: int | None = None, es: int | None = None) -> Phases:
    """Frames of the largest and the smallest cavity; of the left ventricle where it is labelled.

    Before the next beat the cavity is nearly as large for several frames, and the largest of them is the one with the
    largest error. Of frames whose cavity is smaller by at most `AS_LARGE` of the stroke, the one nearest the beginning
    of the cycle is end diastole: the first frame of a gated cine follows the R wave.

    Around end systole the cavity is as good as the smallest for a frame or two. Of frames whose left cavity is larger
    by at most `AS_SMALL` of the stroke, that in which both cavities together are smallest is end systole. A right
    ventricle that one of these frames lacks says nothing. The end-systolic volume is hence at most `AS_SMALL` of the
    stroke above the smallest.

    Frames without the cavity are not looked at. Where two frames alone have a label of any structure, as where end
    diastole and end systole alone were drawn, they are these two. Else a frame without the cavity may be the one that
    is looked for, so that the phases are not known unless both are given.

    A single volume is taken for end diastole, unless it is given as end systole.

    Parameters
    ----------
    ed, es : given frames, from 0; None for those to be found.

    Raises
    ------
    UsageError
        If a given frame is not there, one frame is given as both, or the cavity is no larger in end diastole than in
        end systole.
    UnsupportedDataError
        If no ventricle is labelled in any frame, or its volume never changes.
    """
    name = LEFT if LEFT in volumes and volumes[LEFT].curve.any() else RIGHT
    if name not in volumes or not volumes[name].curve.any():
        raise UnsupportedDataError("no frame has a label of a ventricle: there is nothing to measure")
    curve_T = volumes[name].curve
    for param, frame in (("ed", ed), ("es", es)):
        if frame is not None and not 0 <= frame < len(curve_T):
            raise UsageError(Param(param, frame + 1), f" is not there: the frames are 1 to {len(curve_T)}")
    if len(curve_T) == 1:
        if ed is not None and es is not None:
            raise UsageError(Param("ed", 1), " and ", Param("es", 1), ": there is one frame, and it is one of the two")
        origin = "found" if ed is None and es is None else "given"
        return Phases(0, 0, origin, only="ed" if es is None else "es")
    if np.ptp(curve_T) == 0:
        raise UnsupportedDataError(f"the {name} has the same volume in all {len(curve_T)} frames: no heart beats here")
    right_T = volumes[RIGHT].curve if name == LEFT and RIGHT in volumes else None
    frames = (_end_diastole(curve_T) if ed is None else ed, _end_systole(curve_T, right_T) if es is None else es)
    found = Phases(*frames, "given")
    if ed is None or es is None:
        pair = np.flatnonzero(labelled_frames(volumes)).tolist() == sorted(frames)
        found = Phases(*frames, "labelled" if pair and len(curve_T) > 2 else "found")
        if found.origin == "found" and not curve_T.all():
            lacking = _not_labelled(volumes[name])
            found = replace(found, unknown=f"{lacking}, which may be end diastole or end systole: give both frames")
    if curve_T[found.ed] <= curve_T[found.es]:
        given = [word for word in ((Param("ed", found.ed + 1) if ed is not None else ""), " ",
                                   (Param("es", found.es + 1) if es is not None else "")) if word]  # fmt: skip
        raise UsageError(
            *given, f": the {name} is no larger in frame {found.ed + 1} than in frame {found.es + 1}",
            remedy=("end diastole is the frame of the larger cavity",),
        )  # fmt: skip
    return found


def labelled_frames(volumes: dict[str, StructureVolumes]) -> NDArray[np.bool_]:
    """Frames in which any structure is labelled; (T,)."""
    found: NDArray[np.bool_] = np.any([each.curve > 0 for each in volumes.values()], axis=0)
    return found


def _end_diastole(curve_T: Curve) -> int:
    large = np.flatnonzero(curve_T >= curve_T.max() - AS_LARGE * np.ptp(curve_T[curve_T > 0]))
    return int(large[np.minimum(large, len(curve_T) - large).argmin()])


def _end_systole(curve_T: Curve, right_T: Curve | None) -> int:
    there_T = curve_T > 0
    smallest = curve_T[there_T].min() + AS_SMALL * np.ptp(curve_T[there_T])
    small = np.flatnonzero(there_T & (curve_T <= smallest))
    both_T = curve_T if right_T is None or not right_T[small].all() else curve_T + right_T
    return int(small[both_T[small].argmin()])


def measure_ventricle(volumes: StructureVolumes, phases: Phases, unknown_size: str, cut: str) -> Ventricle:
    """Volumes and ejection fraction of a ventricle.

    Parameters
    ----------
    unknown_size : why volumes in ml are refused; empty where the voxel size is known.
    cut : why nothing can be said, such as that the heart is cut by the field of view; empty where it is whole.
    """
    curve_T = volumes.curve
    reason = cut or _unusable(volumes, phases)
    if reason:
        edv = esv = Quantity.refused("ml", reason)
        percent = Quantity.refused("%", reason)
    else:
        edv, esv = (Quantity(float(curve_T[frame]), "ml") for frame in (phases.ed, phases.es))
        percent = derived("%", lambda a, b: 100 * (a - b) / a, edv, esv)
        if phases.only:
            percent = Quantity.refused("%", phases.lacking)
    if unknown_size and not reason:
        edv, esv = Quantity.refused("ml", unknown_size), Quantity.refused("ml", unknown_size)
    edv, esv = _of_only(phases, edv, esv)
    return Ventricle(volumes.name, edv, esv, derived("ml", lambda a, b: a - b, edv, esv), percent)


def measure_mass(
    myocardium: StructureVolumes, phases: Phases, unknown_size: str, cut: str
) -> tuple[Quantity, Quantity]:
    """Mass of the left ventricle's myocardium in end diastole and end systole, in g.

    Parameters
    ----------
    unknown_size, cut : as of `measure_ventricle`.
    """
    masses = []
    for frame in (phases.ed, phases.es):
        slices = int(np.count_nonzero(myocardium.discs_ST[:, frame]))
        reason = cut or _few(MYOCARDIUM, slices, frame) or unknown_size
        value = float(myocardium.curve[frame]) * DENSITY
        masses.append(Quantity.refused("g", reason) if reason else Quantity(value, "g"))
    return _of_only(phases, masses[0], masses[1])


def _of_only(phases: Phases, ed: Quantity, es: Quantity) -> tuple[Quantity, Quantity]:
    """Numbers of end diastole and end systole, the one refused that a single volume is not of."""
    if phases.only == "es":
        return Quantity.refused(ed.unit, phases.lacking), es
    return ed, Quantity.refused(es.unit, phases.lacking) if phases.only else es


def _unusable(volumes: StructureVolumes, phases: Phases) -> str:
    """Why a structure has no volumes; empty where it has. Of phases that were not found, other frames do not count."""
    if phases.unknown:
        return phases.unknown
    frames = [phases.ed, phases.es]
    looked_at_T = volumes.curve if phases.origin == "found" else volumes.curve[frames]
    if not looked_at_T.all():
        return _not_labelled(volumes, None if phases.origin == "found" else frames)
    slices = np.count_nonzero(volumes.discs_ST, axis=0)
    return _few(volumes.name, int(slices[phases.ed]), phases.ed)


def _not_labelled(volumes: StructureVolumes, frames: list[int] | None = None) -> str:
    """Which of the frames, or of all, lack a structure, in words."""
    looked_at = range(len(volumes.curve)) if frames is None else sorted(set(frames))
    empty = [frame for frame in looked_at if volumes.curve[frame] == 0]
    named = ", ".join(str(frame + 1) for frame in empty[:5]) + (" and more" if len(empty) > 5 else "")
    return f"the {volumes.name} is not labelled in frame{'s' if len(empty) > 1 else ''} {named}"


def _few(name: str, slices: int, frame: int) -> str:
    few = f"the {name} is in {slices} slice{'' if slices == 1 else 's'} of frame {frame + 1}"
    return f"{few}, and volumes by discs need {FEWEST_SLICES}" if slices < FEWEST_SLICES else ""


def not_whole_cycle(curve_T: Curve, phases: Phases) -> str:
    """Why the frames do not cover the cycle once; empty where they do.

    The cavity empties once, and fills again after end systole: at least half of the stroke, until the frame before it
    begins anew.
    """
    if len(curve_T) < FEWEST_FRAMES:
        return f"{len(curve_T)} frames are too few to follow the cycle"
    if not curve_T.all():
        return "the cavity is not labelled in every frame, so the cycle cannot be followed"
    beats = count_beats(curve_T)
    if beats > 1:
        return f"the cavity empties {beats} times: the frames show several beats, or are out of order"
    ed, es = curve_T[phases.ed], curve_T[phases.es]
    before = curve_T[(phases.ed - 1) % len(curve_T)]
    if ed <= es or (before - es) < _RETURNED * (ed - es):
        return "the frames do not cover the whole cycle: the cavity has not filled again in the last one"
    return ""


def rates_differ(curve_T: Curve, phases: Phases, frame_time: float | None, heart_rate: float | None) -> str:
    """How the heart rate contradicts the times of the frames, in words; empty where it does not, or nothing is known.

    Parameters
    ----------
    frame_time : seconds between frames.
    heart_rate : per minute, given or of a header.
    """
    if frame_time is None or heart_rate is None or not_whole_cycle(curve_T, phases):
        return ""
    found = 60 / (frame_time * len(curve_T))
    low, high = _OF_FRAMES
    if low <= found / heart_rate <= high:
        return ""
    frames = f"{len(curve_T)} frames of {1000 * frame_time:.4g} ms show one beat, {found:.0f} a minute"
    return f"the heart rate is {heart_rate:g} a minute, but {frames}: cardiac output or peak rates are wrong"


@dataclass(frozen=True)
class Flow:
    """What needs times: heart rate per minute, cardiac output in l/min, peak rates in ml/s."""

    heart_rate: Quantity
    cardiac_output: Quantity
    ejection_rate: Quantity
    filling_rate: Quantity
    rates: Rates | None


def measure_flow(
    volumes: StructureVolumes, ventricle: Ventricle, phases: Phases, frame_time: float | None, heart_rate: float | None
) -> Flow:
    """Heart rate, cardiac output and peak rates.

    Parameters
    ----------
    frame_time : seconds between frames; None where unknown.
    heart_rate : given, per minute; None: from the frames, where they cover the cycle once.
    """
    curve_T = volumes.curve
    partial = not_whole_cycle(curve_T, phases)
    unknown = "the time between frames is not known" if frame_time is None else partial
    rate = Quantity.refused("/min", unknown)
    if heart_rate is not None:
        rate = Quantity(heart_rate, "/min")
    elif frame_time is not None and not partial:
        found = 60 / (frame_time * len(curve_T))
        low, high = _HEART_RATES
        beats = f"{found:.0f}" if found >= 10 else f"{found:.2g}"
        implausible = f"{len(curve_T)} frames of {1000 * frame_time:.4g} ms would be {beats} beats a minute"
        rate = Quantity(found, "/min") if low <= found <= high else Quantity.refused("/min", implausible)
    output = derived("l/min", lambda stroke, beats: stroke * beats / 1000, ventricle.stroke_volume, rate)
    reason = ventricle.stroke_volume.reason or unknown or ("" if heart_rate is not None else rate.reason)
    if reason or frame_time is None:
        none = Quantity.refused("ml/s", reason)
        return Flow(rate, output, none, none, None)
    rates = peak_rates(curve_T, frame_time)
    return Flow(rate, output, Quantity(rates.ejection, "ml/s"), Quantity(rates.filling, "ml/s"), rates)

"""Function of the heart from a label map of one cycle: phases, volumes, ejection fraction, mass, flow, wall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.cardiac.chambers import CODES, LEFT, MYOCARDIUM, RIGHT, Chambers
from crnn_cli.cardiac.intervals import Intervals
from crnn_cli.cardiac.quantities import Quantity, derived
from crnn_cli.cardiac.ventricles import (
    FEWEST_FRAMES,
    FEWEST_SLICES,
    Flow,
    Phases,
    Ventricle,
    find_phases,
    labelled_frames,
    measure_flow,
    measure_mass,
    measure_ventricle,
    not_whole_cycle,
    rates_differ,
)
from crnn_cli.cardiac.volume_curves import HARMONICS, StructureVolumes, count_beats, roughness, structure_volumes
from crnn_cli.cardiac.wall import SEGMENTS, Wall, measure_wall
from crnn_cli.data.frame_order import FEWEST, TOO_LONG, detour, label_distances
from crnn_cli.data.geometry import SliceOrder, slice_order, thickest_axis
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.names import Label
from crnn_cli.labels.plausibility import Finding, find_implausible
from crnn_cli.notices import Doubt

CONVENTION = (
    "Volumes by discs: area times the distance from slice to slice, gaps included. Every slice with a label counts; "
    "base and apex are as labelled. Papillary muscles and trabeculae count as the labels have them: by the convention "
    "of ACDC to the cavities. Mass: 1.05 g/ml. Nothing is smoothed but the curve that peak rates are taken from."
)
"""What the numbers rest on, in words."""
ROUGH = 0.08
"""Roughness of a ventricle's curve (`crnn_cli.cardiac.volume_curves.roughness`) from which on it is doubtful."""
STROKES_DIFFER = 0.3
"""Difference of the ventricles' stroke volumes, relative to the larger, from which on they are doubtful."""
HEARTS = (3.0, 1500.0)
"""Least and largest end-diastolic volume in ml of a ventricle of a human heart, of a newborn or dilated."""


@dataclass(frozen=True)
class Subject:
    """What is known of the person and the heart beat.

    Attributes
    ----------
    body_surface : in m2, with the ``formula`` it is from; None where unknown.
    heart_rate : per minute; None: from the frames.
    """

    body_surface: float | None = None
    formula: str = ""
    heart_rate: float | None = None


@dataclass(frozen=True)
class CardiacFunction:
    """Numbers of one heart, each a `Quantity` with its unit or the reason why there is none.

    Attributes
    ----------
    volumes : of each structure, by name: discs and curve.
    ventricles : by name.
    mass : of the left ventricle in end diastole and end systole.
    flow : of the left ventricle, or of the right one where that alone is labelled.
    wall : thickness by segment, or the reason why there is none.
    doubts : what makes the numbers doubtful.
    intervals : what their intervals are made of; None where they have none.
    """

    phases: Phases
    frame_time: float | None
    volumes: dict[str, StructureVolumes]
    ventricles: dict[str, Ventricle]
    mass: tuple[Quantity, Quantity]
    flow: Flow
    wall: Wall | str
    subject: Subject = field(default_factory=Subject)
    doubts: tuple[Doubt, ...] = ()
    intervals: Intervals | None = None

    def quantities(self) -> dict[str, dict[str, Quantity]]:
        """All numbers by ``left``, ``right`` and ``heart``; with a known body surface also the indexed ones."""
        named = {"left": self.ventricles.get(LEFT), "right": self.ventricles.get(RIGHT)}
        found = {side: each.quantities() for side, each in named.items() if each is not None}
        if "left" in found:
            found["left"] |= {"mass_ed": self.mass[0], "mass_es": self.mass[1]}
        found["heart"] = {
            "heart_rate": self.flow.heart_rate, "cardiac_output": self.flow.cardiac_output,
            "peak_ejection_rate": self.flow.ejection_rate, "peak_filling_rate": self.flow.filling_rate,
        }  # fmt: skip
        surface = self.subject.body_surface
        for side in found if surface is not None else ():
            for name, quantity in list(found[side].items()):
                if name in ("edv", "esv", "stroke_volume", "mass_ed", "mass_es", "cardiac_output"):
                    found[side][f"{name}_index"] = derived(f"{quantity.unit}/m2", lambda v: v / surface, quantity)
        if self.intervals is None:
            return found
        made = {}
        for side, values in found.items():
            own = self.main_side if side == "heart" else side
            made[side] = self.intervals.with_intervals(own, values, found[own], self.phases.ed, self.phases.es)
        return made

    @property
    def main_side(self) -> str:
        """Side whose ventricle the numbers of the heart are of: ``left``, or ``right`` where that alone is labelled."""
        return "left" if LEFT in self.ventricles else "right"

    def numbers(self) -> dict[str, float | None]:
        """All numbers, None if refused, by side and name, such as ``left.edv``; those of the heart by the main side."""
        return {
            f"{self.main_side if side == 'heart' else side}.{name}": quantity.value
            for side, values in self.quantities().items()
            for name, quantity in values.items()
        }

    def curves(self) -> dict[str, list[float | None]]:
        """Volume of each structure in every frame, in ml, by name; None in frames without any label."""
        labelled_T = labelled_frames(self.volumes)
        return {
            name: [float(v) if there else None for v, there in zip(each.curve, labelled_T, strict=True)]
            for name, each in self.volumes.items()
        }

    def slice_table(self) -> list[dict[str, Any]]:
        """Which slices count, in end diastole and end systole: ml of each structure, by slice from 1 as stored."""
        slices = next(iter(self.volumes.values())).discs_ST.shape[0]
        return [
            {"slice": z + 1}
            | {
                f"{name.replace(' ', '_')}_{phase}_ml": round(float(each.discs_ST[z, frame]), 3)
                for phase, frame in self.phases.frames().items()
                for name, each in self.volumes.items()
            }
            for z in range(slices)
        ]

    def as_json(self) -> dict[str, Any]:
        """The facts of a report; frames count from 1, and a phase that a single volume is not of is None."""
        frames = {phase: frame + 1 for phase, frame in self.phases.frames().items()}
        times = None if self.frame_time is None else [
            round(frame * self.frame_time, 6) for frame in range(len(next(iter(self.volumes.values())).curve))
        ]  # fmt: skip
        return {
            "end_diastole": frames.get("ed"), "end_systole": frames.get("es"), "phases": self.phases.origin,
            "convention": CONVENTION,
            "intervals": None if self.intervals is None else self.intervals.as_json(),
            "body_surface_m2": self.subject.body_surface, "body_surface_formula": self.subject.formula or None,
            "quantities": {
                side: {name: quantity.as_json() for name, quantity in values.items()}
                for side, values in self.quantities().items()
            },
            "curves_ml": {
                name: [None if v is None else round(v, 4) for v in curve] for name, curve in self.curves().items()
            },
            "times_s": times,
            "slices": self.slice_table(),
            "wall": _wall_as_json(self.wall),
        }  # fmt: skip


def _wall_as_json(wall: Wall | str) -> dict[str, Any]:
    if isinstance(wall, str):
        return {"reason": wall}

    def rounded(values: np.ndarray[Any, Any]) -> list[float | None]:
        return [None if np.isnan(v) else round(float(v), 2) for v in values]

    return {
        "reason": None, "segments": list(SEGMENTS), "thickness_ed_mm": rounded(wall.end_diastolic),
        "thickness_es_mm": rounded(wall.end_systolic), "thickening_percent": rounded(wall.thickening),
        "slices": {name: list(z) for name, z in zip(("basal", "mid", "apical"), wall.slices, strict=True)},
    }  # fmt: skip


def assess_function(
    labels: Image, chambers: Chambers, subject: Subject | None = None, ed: int | None = None, es: int | None = None,
    unknown_size: str | None = None,
) -> CardiacFunction:  # fmt: skip
    """Measure the function of a heart.

    Parameters
    ----------
    labels : label map (x, y, z) or (x, y, z, t) of short-axis slices through one heart beat.
    chambers : what its values are.
    ed, es : frames of end diastole and end systole, from 0; None: those of the largest and the smallest cavity.
    unknown_size : why nothing is stated in ml, g and mm; empty where sizes are known. None: where the voxels are of
        exactly 1 mm, the file has lost them, and where they are of a size that cannot be, they are not known.

    Raises
    ------
    UsageError, UnsupportedDataError
        If no frame has a ventricle, a given frame is not there, or nothing tells along which axis the slices follow.
    """
    subject = subject or Subject()
    order = stack_order(labels)
    volumes = structure_volumes(labels, chambers, order)
    phases = find_phases(volumes, ed, es)
    unknown = _unknown_size(labels) if unknown_size is None else unknown_size
    findings = _without_undrawn(find_implausible(*_as_frames(labels, chambers, order)), volumes, phases)
    cut = _cut(findings)
    ventricles = {
        name: measure_ventricle(volumes[name], phases, unknown, cut.get(name, ""))
        for name in (LEFT, RIGHT)
        if name in volumes
    }
    none = Quantity.refused("g", "no label is the myocardium")
    mass = (none, none)
    if MYOCARDIUM in volumes:
        mass = measure_mass(volumes[MYOCARDIUM], phases, unknown, cut.get(MYOCARDIUM, ""))
    main = LEFT if LEFT in ventricles else RIGHT
    flow = measure_flow(volumes[main], ventricles[main], phases, labels.frame_time, subject.heart_rate)
    wall: Wall | str = unknown or phases.lacking
    wall = wall or measure_wall(labels, chambers, order, phases.ed, phases.es)
    partial = _partial(volumes[main], phases)
    doubts = (
        *_assumed(phases), *_size(ventricles[main], labels), *(each.doubt for each in findings),
        *_doubts(volumes, ventricles),
        *_rates(rates_differ(volumes[main].curve, phases, labels.frame_time, subject.heart_rate)),
        *(partial or _shuffled(labels, order)),
    )  # fmt: skip
    return CardiacFunction(phases, labels.frame_time, volumes, ventricles, mass, flow, wall, subject, doubts)


def require_stack(image: Image, name: str) -> None:
    """Refuse an image of too few slices for volumes by discs.

    Parameters
    ----------
    name : of the image, in the message.

    Raises
    ------
    UnsupportedDataError
        If there are fewer than `crnn_cli.cardiac.ventricles.FEWEST_SLICES`, or nothing tells which axis they are along.
    """
    slices = image.shape[stack_order(image).axes[0]]
    if slices < FEWEST_SLICES:
        raise UnsupportedDataError(
            f"{name} has {slices} slice{'' if slices == 1 else 's'}, and volumes by discs need {FEWEST_SLICES}",
            remedy=("give the whole short-axis stack",),
        )


def stack_order(labels: Image) -> SliceOrder:
    """Order of short-axis slices: across the widest spacing, or as stored where the spacing is lost.

    Raises
    ------
    UnsupportedDataError
        If nothing tells along which axis they follow each other.
    """
    thick = thickest_axis(labels)
    if thick is not None:
        return slice_order(labels, thick)
    if labels.spacing == (1.0, 1.0, 1.0) or labels.shape[2] == min(labels.shape[:3]):
        return slice_order(labels, 2)  # the spacing is lost, or as good as even: slices are stored last
    raise UnsupportedDataError(
        f"a map of {' x '.join(map(str, labels.shape[:3]))}: nothing tells along which axis slices follow each other"
    )


def _unknown_size(labels: Image) -> str:
    lost = labels.pixdim is None and labels.spacing == (1.0, 1.0, 1.0)
    if lost:
        return "the voxel size is exactly 1 x 1 x 1 mm: the file has lost it"
    wrong = any(doubt.code == "implausible-spacing" for doubt in labels.doubts())
    size = " x ".join(f"{step:.4g}" for step in labels.spacing)
    return f"voxels of {size} mm cannot be: the header has another unit, or is wrong" if wrong else ""


def _without_undrawn(
    findings: Sequence[Finding], volumes: dict[str, StructureVolumes], phases: Phases
) -> list[Finding]:
    """Findings, but structures missing where nothing was drawn: beside phases that were given or alone have labels."""
    undrawn = set(np.flatnonzero(~labelled_frames(volumes)).tolist())
    if phases.origin == "found" or not undrawn:
        return list(findings)
    return [each for each in findings if each.doubt.code != "structure-missing" or set(each.frames) != undrawn]


def _cut(findings: Sequence[Finding]) -> dict[str, str]:
    """Why structures may not be whole, by their names: they reach the edge of the slices."""
    names = [each.label for each in findings if each.doubt.code == "structure-at-edge"]
    why = "may be cut by the edge of the map, which it reaches; a map cropped to its labels needs an empty margin"
    return {name: f"the {name} {why}" for name in names}


def _assumed(phases: Phases) -> tuple[Doubt, ...]:
    """Doubt about a single volume of which nobody said the phase."""
    text = "one frame, taken for end diastole: nothing says which phase it is of"
    return (Doubt("phase-assumed", text),) if phases.only and phases.origin == "found" else ()


def _size(ventricle: Ventricle, labels: Image) -> tuple[Doubt, ...]:
    """Doubt about a heart of a size that no human heart has, as with voxels in another unit than mm."""
    volume = next((each.value for each in (ventricle.edv, ventricle.esv) if each.value is not None), None)
    if volume is None or HEARTS[0] <= volume <= HEARTS[1]:
        return ()
    size = " x ".join(f"{step:.4g}" for step in labels.spacing)
    text = (
        f"the {ventricle.name} holds {volume:.2g} ml, as no human heart does: are voxels of {size} mm right, or is the"
    )
    return (Doubt("heart-size-unusual", f"{text} unit another one?"),)


def _rates(contradiction: str) -> tuple[Doubt, ...]:
    return (Doubt("heart-rate-differs", contradiction),) if contradiction else ()


def _doubts(volumes: dict[str, StructureVolumes], ventricles: dict[str, Ventricle]) -> tuple[Doubt, ...]:
    """What makes the curves doubtful."""
    doubts = []
    for name in ventricles:
        curve_T = volumes[name].curve
        rough = roughness(curve_T) if curve_T.all() else None
        if rough is not None and rough > ROUGH:
            text = (
                f"the curve of the {name} is not smooth: {100 * rough:.0f} % of the stroke beside {HARMONICS} harmonics"
            )
            doubts.append(Doubt("curve-not-smooth", f"{text}; frames out of order, or bad labels?"))
    strokes = [each.stroke_volume.value for each in ventricles.values() if each.stroke_volume.value]
    if len(strokes) == 2 and abs(strokes[0] - strokes[1]) > STROKES_DIFFER * max(strokes):
        text = f"the ventricles eject {strokes[0]:.0f} and {strokes[1]:.0f} ml: a leak, a shunt, or bad labels?"
        doubts.append(Doubt("strokes-differ", text))
    return tuple(doubts)


def _partial(volumes: StructureVolumes, phases: Phases) -> tuple[Doubt, ...]:
    """Doubt that the phases are those of one beat, where many frames do not show the cavity empty and fill once."""
    reason = not_whole_cycle(volumes.curve, phases)
    if len(volumes.curve) < FEWEST_FRAMES or not reason or phases.origin != "found" or not volumes.curve.all():
        return ()
    one = count_beats(volumes.curve) < 2
    means = "the true end systole may lie beyond the frames" if one else "volumes may be of different beats"
    return (Doubt("cycle-not-covered", f"{reason}; {means}"),)


def _shuffled(labels: Image, order: SliceOrder) -> tuple[Doubt, ...]:
    """Doubt that the frames with labels follow each other, by the voxels whose label changes from one to the next."""
    slices = np.moveaxis(labels.array.reshape((*labels.shape[:3], labels.frames)), order.axes[0], 0)
    labelled_T = slices.any(axis=(0, 1, 2))
    if np.count_nonzero(labelled_T) < FEWEST:
        return ()
    longer = detour(np.sum([label_distances(each[..., labelled_T]) for each in slices], axis=0))
    if longer <= TOO_LONG:
        return ()
    text = (
        f"from frame to frame {100 * longer:.0f} % more voxels change their label than in another order of the frames"
    )
    return (Doubt("frames-out-of-order", f"{text}: shuffled, several beats, or bad labels?"),)


def _as_frames(labels: Image, chambers: Chambers, order: SliceOrder) -> tuple[NDArray[np.uint8], list[Label]]:
    """Labels 1 to 3 as (frame, slice, row, column), slices in the order of the array; and what they are."""
    frames = labels.array.reshape((*labels.shape[:3], labels.frames))
    renamed = np.zeros(frames.shape, np.uint8)
    names = []
    for number, (name, value) in enumerate(chambers.named().items(), start=1):
        renamed[frames == value] = number
        names.append(Label(number, name, (255, 255, 255), ("SCT", CODES[name], name)))
    return np.moveaxis(np.moveaxis(renamed, 3, 0), 1 + order.axes[0], 1), names

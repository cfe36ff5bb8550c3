"""Label maps against a reference: overlap, surface distances and volumes of each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crnn_cli import notices
from crnn_cli.errors import CrnnError, UnsupportedDataError
from crnn_cli.labels.overlap import Overlap, as_labels, label_values, matches, overlaps, voxel_millilitres
from crnn_cli.workflows.evaluate.options import EvaluateOptions
from crnn_cli.workflows.evaluate.pair import Candidate, Pair

if TYPE_CHECKING:
    from crnn_cli.labels.surface import Spacing, SurfaceDistances

AVERAGED = ("dice", "jaccard", "hd95_mm", "mean_surface_distance_mm")
"""Measures that are averaged over labels."""
_APART, _ONE = 0.1, 0.5  # Dice below which labels of one value, and above which labels of two values, are doubtful


def measure_labels(pair: Pair, options: EvaluateOptions) -> tuple[dict[str, Any], list[str]]:
    """Measure every label that is in one of the maps or has a name, in all frames together and in each.

    Returns
    -------
    Measures, threshold and measures of each frame, as in the report; and what was missed of the threshold, in words.

    Raises
    ------
    UnsupportedDataError
        If one of them is no label map, or a Dice is required and the reference has no label.
    """
    measured = _measure(pair)
    frames = measured.pop("frames")
    if not measured["labels"]:
        notices.warn("no-labels", "neither map has a label")
    short = _short_of(measured["labels"], options.require_dice)
    missed = [f"Dice {options.require_dice:g} was required, label {', '.join(short)}"] if short else []
    required = {"required": {"dice": options.require_dice}, "passed": not missed if options.requires_quality else None}
    return measured | required | {"frames": frames}, missed


def label_title(entry: dict[str, Any]) -> str:
    """Value and, where it is known, name of a label."""
    return str(entry["value"]) if entry["name"] is None else f"{entry['value']} {entry['name']}"


def _measure(pair: Pair) -> dict[str, Any]:
    names = pair.tested.label_names
    maps = [_label_series(each) for each in (pair.tested, pair.reference)]
    _warn_of_other_values(pair, matches(maps[0], maps[1]))
    values = sorted({*label_values(*maps), *names})
    spacing, refused = _spacing(pair.reference)
    voxel = voxel_millilitres(pair.reference.image)
    counts, distances = [], []
    for frame in range(pair.tested.image.frames):
        tested, reference = (each[..., frame] for each in maps)
        counts.append(overlaps(tested, reference, values))
        distances.append({value: _distances(tested == value, reference == value, spacing) for value in values})

    def entries(frames: Sequence[int]) -> list[dict[str, Any]]:
        return [
            _entry(value, names.get(value), [counts[f][value] for f in frames], [distances[f][value] for f in frames],
                   voxel)
            for value in values
        ]  # fmt: skip

    together, each_frame = entries(range(len(counts))), [entries([frame]) for frame in range(len(counts))]
    return {
        "distances_refused": refused,
        "labels": together,
        "mean": _mean(together),
        "frames": [{"frame": t, "labels": labels, "mean": _mean(labels)} for t, labels in enumerate(each_frame)],
    }


def _warn_of_other_values(pair: Pair, dice: dict[tuple[int, int], float]) -> None:
    """Doubt that one value is one structure: by the names of both maps, or as labels of other values lie together."""
    tested, reference = pair.tested, pair.reference

    def title(candidate: Candidate, value: int) -> str:
        return label_title({"value": value, "name": candidate.label_names.get(value)})

    told = [
        f"label {title(tested, a)} of {tested.name} has the value {b} in {reference.name}"
        for a, name in tested.label_names.items()
        for b, other in reference.label_names.items()
        if a != b and name.lower() == other.lower()
    ]
    if not told:
        told = [
            f"label {title(tested, a)} of {tested.name} lies where {reference.name} has label {title(reference, b)} "
            f"(Dice {value:.2f})"
            for (a, b), value in dice.items()
            if a != b and value > _ONE and max(dice.get((a, a), 0.0), dice.get((b, b), 0.0)) < _APART
        ]
    if told:
        notices.warn("labels-differ", f"{'; '.join(told)}; labels are compared by their values")


def _label_series(candidate: Candidate) -> np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]:
    """Label values (x, y, z, t)."""
    image = candidate.image
    return as_labels(image.array, candidate.name).reshape((*image.shape[:3], image.frames))


def _spacing(reference: Candidate) -> tuple[Spacing | None, str | None]:
    """Voxel size that distances are measured with, or why they cannot be, which is also said."""
    from crnn_cli.labels.surface import orthogonal_spacing

    grid = reference.image
    if grid.pixdim is not None:
        size = " x ".join(f"{v:.4g}" for v in grid.pixdim)
        notices.warn(
            "affine-lost-spacing",
            f"the affine of {reference.name} has lost its voxel size; sizes go by the {size} mm stated beside it",
        )
    try:
        return orthogonal_spacing(grid), None
    except CrnnError as reason:
        notices.warn("no-surface-distances", f"no surface distances: {reason}")
        return None, str(reason)


def _distances(tested: Any, reference: Any, spacing: Spacing | None) -> SurfaceDistances | None:
    from crnn_cli.labels.surface import surface_distances

    return None if spacing is None else surface_distances(tested, reference, spacing)


def _entry(
    value: int, name: str | None, frames: list[Overlap], distances: list[SurfaceDistances | None], voxel: float
) -> dict[str, Any]:
    """Measures of one label over some frames: voxels pooled, volumes and distances averaged."""
    pooled = sum(frames, start=Overlap(0, 0, 0))
    volume, reference = (voxel * voxels / len(frames) for voxels in (pooled.tested, pooled.reference))
    measured = [each for each in distances if each is not None]
    return {
        "value": value,
        "name": name,
        "dice": pooled.dice,
        "jaccard": pooled.jaccard,
        "hd95_mm": _average([each.hd95 for each in measured]),
        "mean_surface_distance_mm": _average([each.mean for each in measured]),
        "volume_ml": volume,
        "reference_volume_ml": reference,
        "volume_difference_ml": volume - reference,
        "volume_difference_percent": pooled.difference_percent,
        "voxels": pooled.tested,
        "reference_voxels": pooled.reference,
        "common_voxels": pooled.common,
        "frames_with_distances": len(measured),
    }


def _mean(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the labels for which a measure is defined, and how many those are."""
    defined = {name: [entry[name] for entry in entries if entry[name] is not None] for name in AVERAGED}
    counts = {"labels": len(defined["dice"]), "labels_with_distances": len(defined["hd95_mm"])}
    return {**{name: _average(values) for name, values in defined.items()}, **counts}


def _average(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _short_of(entries: list[dict[str, Any]], require_dice: float | None) -> list[str]:
    """Labels of the reference that fall short of the Dice required, in words."""
    if require_dice is None:
        return []
    present = [entry for entry in entries if entry["reference_voxels"]]
    if not present:
        raise UnsupportedDataError("the reference has no label, so that no Dice can be required of the image")
    return [f"{label_title(entry)} has {entry['dice']:.4g}" for entry in present if entry["dice"] < require_dice]

"""`crnn evaluate` of label maps: overlap, surface distances and volumes of each label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.errors import QualityError, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM
from crnn_cli.report.sidecar import sidecar_path

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.io.images import LoadedImage
    from crnn_cli.labels.overlap import Overlap
    from crnn_cli.labels.surface import Spacing, SurfaceDistances

COLUMNS = ("label", "Dice", "Jaccard", "HD95 (mm)", "mean (mm)", "volume (ml)", "diff. (ml)", "diff. (%)")
AVERAGED = {"dice": ".4f", "jaccard": ".4f", "hd95_mm": ".2f", "mean_surface_distance_mm": ".2f"}
"""The measures that are averaged over labels, and how many digits of them are shown."""


def are_label_maps(files: tuple[LoadedImage, LoadedImage], names: tuple[str, ...]) -> bool:
    """Tell whether both files are label maps.

    A file is one by its intent code, or if it holds few whole numbers stored as integers (of DICOM, after the rescale).
    Stored as floating point they count where the other file is a label map.

    Raises
    ------
    UnsupportedDataError
        If only one of them is.
    """
    import numpy as np

    from crnn_cli.io.nifti.intent import LABELS
    from crnn_cli.labels.overlap import holds_few_labels

    kinds = [one.dtype for one in files]
    integers = [np.dtype(kind).kind in "ui" for kind in kinds]
    meant = [one.intent == LABELS for one in files]
    able = [says or holds_few_labels(one.image.array) for one, says in zip(files, meant, strict=True)]
    sure = [says or (can and whole) for says, can, whole in zip(meant, able, integers, strict=True)]
    if all(able) and not any(sure):
        console.say("both files hold few whole numbers in floating point: --labels compares them as label maps")
    if not any(sure) or all(able):
        return any(sure)
    label, other = (0, 1) if able[0] else (1, 0)
    raise UnsupportedDataError(
        f"{names[label]} ({kinds[label]}) looks like a label map and {names[other]} ({kinds[other]}) like an image: "
        "compare like with like, or say what both are with --labels or --images"
    )


def require_fitting(as_labels: bool, for_images: dict[str, bool], for_labels: dict[str, bool]) -> None:
    """Raise UsageError where an option was given that is for the other kind of file."""
    for option, given in (for_images if as_labels else for_labels).items():
        if given and as_labels:
            raise UsageError(f"{option} is for images, these are label maps; --images compares them as images")
        if given:
            raise UsageError(f"{option} is for label maps, these are images; --labels compares them as label maps")


def evaluate_labels(
    pair: tuple[Image, Image], names: tuple[str, ...], image: Path, grid: dict[str, bool], require_dice: float | None,
    per_frame: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare two label maps on one grid and print what was found.

    Raises
    ------
    UnsupportedDataError
        If one of them is no label map, or a Dice is required and the reference has no label.
    QualityError
        If a label of the reference does not reach the Dice required.
    """
    report = _compare(pair, names, _label_names(image))
    missed = _missed(report, require_dice)
    if as_json:
        files = {"image": names[0], "reference": names[1], **grid, "compared": "labels"}
        frames = report.pop("frames")
        required = {"dice": require_dice, "met": not missed}
        console.print_json({**files, **report, "required": required, "frames": frames})
    else:
        _show(names, report, per_frame)
    if missed:
        short = ", ".join(missed)
        raise QualityError(f"{names[0]} against {names[1]}: Dice {require_dice:g} was required, label {short}")


def _label_names(image: Path) -> dict[int, str]:
    """Return the names of labels that the report beside an image gives; what is malformed there is ignored."""
    import json

    try:
        listed = [] if image == STREAM else json.loads(sidecar_path(image).read_text())["labels"]
        entries = [one for one in listed if isinstance(one, dict)]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}
    pairs = [(one.get("value"), one.get("name")) for one in entries]
    return {v: n for v, n in pairs if type(v) is int and 0 < v <= 65535 and isinstance(n, str) and n.strip()}


def _compare(pair: tuple[Image, Image], names: tuple[str, ...], labels: dict[int, str]) -> dict[str, Any]:
    """Return figures of each label that is in one of the maps or in ``labels``, together and in each frame."""
    from crnn_cli.labels.overlap import as_labels, label_values, overlaps, voxel_millilitres

    shapes = [(*one.shape[:3], one.frames) for one in pair]
    both = [as_labels(one.array, name).reshape(s) for one, name, s in zip(pair, names, shapes, strict=True)]
    values = sorted({*label_values(*both), *labels})
    spacing, refused = _spacing(pair[1], names[1])
    voxel = voxel_millilitres(pair[1])
    counted, apart = [], []
    for frame in range(pair[0].frames):
        tested, reference = (one[..., frame] for one in both)
        counted.append(overlaps(tested, reference, values))
        apart.append({value: _distances(tested == value, reference == value, spacing) for value in values})

    def entries(frames: Sequence[int]) -> list[dict[str, Any]]:
        return [
            _entry(
                value, labels.get(value), [counted[f][value] for f in frames], [apart[f][value] for f in frames], voxel
            )
            for value in values
        ]

    whole, every = entries(range(len(counted))), [entries([frame]) for frame in range(len(counted))]
    return {
        "distances_refused": refused,
        "labels": whole,
        "mean": _mean(whole),
        "frames": [{"frame": frame, "labels": one, "mean": _mean(one)} for frame, one in enumerate(every)],
    }


def _spacing(reference: Image, name: str) -> tuple[Spacing | None, str | None]:
    """Return the voxel size that distances are measured with, or why they cannot be, which is also said."""
    from crnn_cli.labels.surface import orthogonal_spacing

    if reference.pixdim is not None:
        size = " x ".join(f"{v:.4g}" for v in reference.pixdim)
        notices.warn(f"the affine of {name} has lost its voxel size; sizes go by the {size} mm stated beside it")
    try:
        return orthogonal_spacing(reference), None
    except UnsupportedDataError as reason:
        notices.warn(f"no surface distances: {reason}")
        return None, str(reason)


def _distances(tested: Any, reference: Any, spacing: Spacing | None) -> SurfaceDistances | None:
    from crnn_cli.labels.surface import surface_distances

    return None if spacing is None else surface_distances(tested, reference, spacing)


def _entry(
    value: int, name: str | None, frames: list[Overlap], apart: list[SurfaceDistances | None], voxel: float
) -> dict[str, Any]:
    """Return the figures of one label over some frames: voxels pooled, volumes and distances averaged."""
    from crnn_cli.labels.overlap import Overlap

    pooled = sum(frames, start=Overlap(0, 0, 0))
    volume, reference = (voxel * voxels / len(frames) for voxels in (pooled.tested, pooled.reference))
    measured = [one for one in apart if one is not None]
    return {
        "value": value,
        "name": name,
        "dice": pooled.dice,
        "jaccard": pooled.jaccard,
        "hd95_mm": _average([one.hd95 for one in measured]),
        "mean_surface_distance_mm": _average([one.mean for one in measured]),
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
    """Return means over the labels for which a measure is defined, and how many those are."""
    defined = {name: [one[name] for one in entries if one[name] is not None] for name in AVERAGED}
    counts = {"labels": len(defined["dice"]), "labels_with_distances": len(defined["hd95_mm"])}
    return {**{name: _average(found) for name, found in defined.items()}, **counts}


def _average(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _missed(report: dict[str, Any], require_dice: float | None) -> list[str]:
    """Return which labels of the reference fall short of the Dice required, in words."""
    if require_dice is None:
        return []
    present = [one for one in report["labels"] if one["reference_voxels"]]
    if not present:
        raise UnsupportedDataError("the reference has no label, so that no Dice can be required of the image")
    return [f"{_title(one)} has {one['dice']:.4g}" for one in present if one["dice"] < require_dice]


def _show(names: tuple[str, ...], report: dict[str, Any], per_frame: bool) -> None:
    """Print the table of all frames together, and one of every frame if asked for."""
    count = len(report["frames"])
    together = f", {count} frames together" if count > 1 else ""
    rows = [_cells(one, count) for one in report["labels"]]
    if report["labels"]:
        rows.append(["mean", *_averaged(report["mean"]), "", "", ""])
    else:
        notices.warn("neither map has a label")
    console.table(f"labels of {names[0]} against {names[1]}{together}", COLUMNS, rows)
    if per_frame:
        frames = [[str(f["frame"]), *_cells(one, 1)] for f in report["frames"] for one in f["labels"]]
        console.table("per frame", ["frame", *COLUMNS], frames)


def _cells(entry: dict[str, Any], frames: int) -> list[str]:
    if entry["dice"] is None:
        return [_title(entry), "absent in both", *[""] * 6]
    dice, jaccard, *distances = _averaged(entry)
    if 0 < entry["frames_with_distances"] < frames:
        distances = [f"{distance} ({entry['frames_with_distances']}/{frames})" for distance in distances]
    volume, difference = f"{entry['volume_ml']:.4g}", f"{entry['volume_difference_ml']:+.4g}"
    percent = _number(entry["volume_difference_percent"], "+.1f")
    return [_title(entry), dice, jaccard, *distances, volume, difference, percent]


def _averaged(entry: dict[str, Any]) -> list[str]:
    return [_number(entry[name], form) for name, form in AVERAGED.items()]


def _number(value: float | None, form: str) -> str:
    return "undefined" if value is None else format(value, form)


def _title(entry: dict[str, Any]) -> str:
    return str(entry["value"]) if entry["name"] is None else f"{entry['value']} {entry['name']}"

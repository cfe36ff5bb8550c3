"""What the origin of a label map says of the errors of its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import CrnnError
from crnn_cli.notices import STREAM

_MOST_REPORTS = 16

if TYPE_CHECKING:
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.cardiac.chambers import Chambers
    from crnn_cli.cardiac.intervals import LabelDoubt
    from crnn_cli.data.image import Image
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.labels.label_origin import LabelOrigin


def label_doubt(labels: Image, chambers: Chambers, bundle: Bundle | None = None) -> LabelDoubt | None:
    """What gives the numbers of a label map their intervals; None where its model is not known or has no limits.

    Parameters
    ----------
    bundle : the model that made the labels; None: it is found by their origin, and must have the same weights.
    """
    from crnn_cli.cardiac.intervals import LabelDoubt
    from crnn_cli.labels.label_image import LabelImage

    origin = labels.origin if isinstance(labels, LabelImage) else None
    if origin is None:
        return None
    bundle = bundle or _published(origin)
    if bundle is None or bundle.slices is None or bundle.slices.intervals is None:
        return None
    named = chambers.named().items()
    dice = {name: origin.dice[value] for name, value in named if len(origin.dice.get(value, ())) == labels.frames}
    return LabelDoubt(bundle.slices.intervals, dice)


def with_origin_beside(labels: LabelImage, file: Path) -> LabelImage:
    """A label map with the origin that the report of `crnn segment` beside it tells.

    It is as it was where there is no such report, or the labels have changed since: their sizes are others.
    """
    from crnn_cli.report.sidecar import DAMAGE, read_sidecar

    if labels.origin is not None or file == STREAM:
        return labels
    for path in _reports_beside(file):
        try:
            report = read_sidecar(path)
            same = all(_sizes(labels, each["value"]) == each["voxels"] for each in report["labels"])
        except (CrnnError, *DAMAGE):
            continue
        if same and report["labels"]:
            return replace(labels, origin=_of_report(report))
    return labels


def _reports_beside(file: Path) -> list[Path]:
    """Files that may be the report of a label map: beside a file, or in a folder of SEG objects."""
    from crnn_cli.report.sidecar import sidecar_path

    beside = sidecar_path(file)
    return [beside, *sorted(file.glob("*.json"))[:_MOST_REPORTS]] if file.is_dir() else [beside]


def _of_report(report: dict[str, Any]) -> LabelOrigin | None:
    from crnn_cli.labels.label_origin import origin_of

    try:
        dice = {each["value"]: each["predicted_dice"] for each in report["labels"]}
        return origin_of({"model": report["model"]["name"], "sha256": report["model"]["sha256"], "dice": dice})
    except (KeyError, TypeError):
        return None


def _sizes(labels: LabelImage, value: int) -> list[int]:
    """Voxels of a label in each frame."""
    frames = labels.array.reshape((*labels.shape[:3], labels.frames))
    return [int(n) for n in (frames == value).sum(axis=(0, 1, 2))]


def _published(origin: LabelOrigin) -> Bundle | None:
    """The published model of an origin, if its weights are still the same."""
    from crnn_cli.bundles.store import find_bundle

    try:
        bundle = find_bundle(origin.model, "segment")
    except CrnnError:
        return None
    return bundle if bundle.sha256 == origin.sha256 else None

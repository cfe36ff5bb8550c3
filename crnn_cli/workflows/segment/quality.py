"""Predicted quality of labels, for the report, as doubts, and against a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crnn_cli.notices import Doubt

if TYPE_CHECKING:
    from crnn_cli.workflows.segment.options import SegmentOptions
    from crnn_cli.workflows.segment.result import LabelledVolume


def quality_facts(labelled: LabelledVolume) -> dict[str, Any] | None:
    """The lowest predicted Dice, with its label and frame (from 0), and the limit of doubt; None without curves."""
    slices = labelled.bundle.slices
    if slices is None or slices.quality is None:
        return None
    rows = [(dice, label.name, frame) for label in labelled.labels
            for frame, dice in enumerate(labelled.predicted_dice(label) or [])]  # fmt: skip
    dice, name, frame = min(rows)
    return {
        "lowest": {"predicted_dice": dice, "label": name, "frame": frame}, "doubt_below": slices.quality.doubt_below
    }  # fmt: skip


def quality_doubts(labelled: LabelledVolume) -> list[Doubt]:
    """Doubts about structures whose predicted Dice is low; none where nothing is labelled at all."""
    facts = quality_facts(labelled)
    if facts is None or labelled.is_empty:
        return []
    doubts = []
    for label in labelled.labels:
        dice = labelled.predicted_dice(label) or []
        low = [frame for frame, value in enumerate(dice) if value < facts["doubt_below"]]
        if not low:
            continue
        least = min(low, key=lambda frame: dice[frame])
        where = "" if len(dice) == 1 else f" in {len(low)} of {len(dice)} frames, the lowest in frame {least + 1}"
        text = f"{label.name}: predicted Dice {dice[least]:.2f}{where}; look at these labels before using them"
        doubts.append(Doubt("low-predicted-dice", text))
    return doubts


def has_passed(labelled: LabelledVolume, options: SegmentOptions) -> bool | None:
    """Whether all that was required is met; None where nothing was."""
    passed = []
    if options.require_labels:
        passed.append(not labelled.is_empty)
    facts = quality_facts(labelled)
    if options.require_quality is not None and facts is not None:
        passed.append(facts["lowest"]["predicted_dice"] >= options.require_quality)
    return all(passed) if passed else None

"""What `crnn reconstruct` and `crnn report` say of how far to trust a reconstruction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crnn_cli.cli.reconstruct_input import source_of
from crnn_cli.errors import QualityError

if TYPE_CHECKING:
    from crnn_cli.cli.reconstruct_input import Input

MEASURES = {"held_out": "lines held out", "residual": "the samples"}


def folds_of(asked: int | None, data: Input, wanted: bool) -> int:
    """Return how many times lines are held out: as asked, else once if somebody looks at it or the scan is small.

    A fold costs as much as the reconstruction itself. That is a few seconds for a slice, but minutes for a whole heart,
    which nobody asked for: the size decides, not the clock, so that a run does not depend on how busy a machine is.

    Parameters
    ----------
    wanted : a page or a threshold was asked for.
    """
    from crnn_cli.trust import SMALL

    if asked is not None:
        return asked
    return 1 if wanted or math.prod(data.geometry.shape) <= SMALL else 0


def judged(found: dict[str, Any]) -> tuple[str, float | None]:
    """Return where the residual that counts was measured, and it: at lines held out, else at the samples."""
    held = found["trust"]["held_out"].get("overall")
    return ("residual", found["residual"]) if held is None else ("held_out", held)


def require_residual(found: dict[str, Any], limit: float | None) -> None:
    """Raise QualityError if the residual that counts is above the limit."""
    if limit is None:
        return
    where, value = judged(found)
    if value is None or value > limit:
        said = "not known" if value is None else f"{value:.4g}"
        raise QualityError(
            f"the residual at {MEASURES[where]} is {said}, and --max-residual asks for at most {limit:g}; the images "
            "were written: look at them before you use them"
        )


def rows(found: dict[str, Any]) -> list[list[str]]:
    """Return rows of (what, value, what it means) for a report; none of one of an older version."""
    trust = found.get("trust")
    if trust is None:
        return []
    return [
        ["residual at lines held out", _held(trust["held_out"]), "error where the method was not shown the data; 1 is "
         "no better than zeros, and it cannot be below the noise"],
        ["not determined by the data", _share(trust["undetermined"]["overall"]), "share of the image's energy that "
         "rests on the method alone"],
        ["frames that stand out", _standing_out(trust["stand_out"], source_of(found)), "error more than 3 robust "
         "deviations above those of their slice, each against what is to be expected at its samples; frames from 0, "
         "slices from 1"],
    ]  # fmt: skip


def with_floor(residual: dict[str, Any], digits: str = ".3f") -> str:
    """Return a residual and, where it is known, what noise alone would give."""
    value, floor = residual["overall"], residual["noise_floor"]
    said = "not known" if value is None else f"{value:{digits}}"
    return said if floor is None else f"{said} (noise alone: {floor:.2g})"


def _held(held: dict[str, Any]) -> str:
    if held.get("overall") is None:
        return f"not measured: {held['reason']}" if held["reason"] else "not measured: the samples are zero"
    folds = "1 fold" if held["folds"] == 1 else f"{held['folds']} folds"
    return f"{with_floor(held)}, {folds} of {100 * held['share']:.3g} % of the lines"


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.3g} % of the energy"


def _standing_out(frames: list[dict[str, Any]], source: dict[str, Any]) -> str:
    if not frames:
        return "none"
    said = [
        f"frame {one['frame']} of slice {source.get('slice', one['slice'])} "
        f"({one['times_expected']:.1f} x at {MEASURES[one['measure']]})"
        for one in frames[:6]
    ]
    return ", ".join(said) + (f" and {len(frames) - 6} more" if len(frames) > 6 else "")

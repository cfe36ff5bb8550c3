"""Which model made a label map, and how good it holds its labels to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MOST = 4096  # frames that are looked at


@dataclass(frozen=True)
class LabelOrigin:
    """The model of a label map, and the predicted Dice of what it labelled.

    Attributes
    ----------
    model : name of the bundle.
    sha256 : of its weights.
    dice : predicted Dice of each frame, by label value.
    """

    model: str
    sha256: str
    dice: Mapping[int, tuple[float, ...]]

    def as_json(self) -> dict[str, Any]:
        """Plain values, which `origin_of` reads."""
        return {"model": self.model, "sha256": self.sha256, "dice": {str(k): list(v) for k, v in self.dice.items()}}


def origin_of(entry: Any) -> LabelOrigin | None:
    """Origin from plain values; None where they are malformed.

    >>> origin = LabelOrigin("cardiac-sax-clstm", "075c", {3: (0.95, 0.91)})
    >>> origin_of(origin.as_json()) == origin, origin_of({"model": 3})
    (True, None)
    """
    try:
        model, sha256, dice = entry["model"], entry["sha256"], entry["dice"]
        if not isinstance(model, str) or not isinstance(sha256, str):
            return None
        return LabelOrigin(model, sha256, {int(value): _shares(given) for value, given in dice.items()})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _shares(given: Sequence[Any]) -> tuple[float, ...]:
    """Numbers from 0 to 1.

    Raises
    ------
    ValueError
        If one is not, or there are too many.
    """
    shares = tuple(float(v) for v in given)
    if len(shares) > _MOST or not all(0 <= v <= 1 for v in shares):
        raise ValueError("not predicted Dice")
    return shares

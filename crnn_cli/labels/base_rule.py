"""Rule for the slices at the base of the heart, as a bundle states it; `crnn_cli.labels.doubtful_base` applies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BaseRule:
    """What the outermost slices at the base need in order to keep a structure; of each structure 1, 2, ...

    Attributes
    ----------
    certainty : least, as a share of the median, 0 to 1; 0: any is enough.
    cover : least, 0 to 1; 0: any is enough.
    """

    certainty: Sequence[float]
    cover: Sequence[float]

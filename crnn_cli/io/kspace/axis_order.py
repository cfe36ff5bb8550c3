"""Which axis of an array is which, as far as its values tell: an order to propose, and a doubt about one given.

Energy has its peak in the middle along kx, ky and kz. Frames that follow each other are alike, sample by sample; coils
are not, as each has a phase of its own. Coils measure at the same time: where the sampling changes, it is from frame to
frame. None of it is certain, so that nothing is read by it.

Legend: C coil, T frame.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.errors import CrnnError, Param, UnsupportedDataError
from crnn_cli.io.kspace.checks import peaks_along
from crnn_cli.io.kspace.stored_array import NAMES, StoredArray
from crnn_cli.notices import Doubt, Remark

EXAMPLES = {2: "ky,kx", 3: "coil,ky,kx", 4: "coil,t,ky,kx", 5: "slice,coil,t,ky,kx", 6: "average,slice,coil,t,ky,kx"}
BY_MATLAB = {2: "kx,ky", 3: "kx,ky,coil", 4: "kx,ky,coil,t", 5: "kx,ky,coil,slice,t", 6: "kx,ky,coil,slice,t,average"}
"""Usual orders of axes, by their number: of row-major arrays, and of those of MATLAB."""
_LOOKED_AT = 2**24
"""Values of an array up to which it is read for a proposal."""
_ALIKE, _UNLIKE = 0.85, 0.75
"""Likeness of neighbours along an axis from which on they look like frames, and up to which like coils."""
_FEWEST = 3
"""Neighbours along an axis from which their likeness says something."""
_MIDDLE = 24
"""Lines and samples around the middle of k-space that are compared."""


def axes_in_doubt(stored: StoredArray) -> UnsupportedDataError:
    """Error for an array whose axes nothing tells; it proposes names, by the values where they say something."""
    wide = sum(n > 1 for n in stored.shape)
    matlab = any(each.code == "matlab-order" for each in stored.remarks)
    examples = BY_MATLAB if matlab else EXAMPLES
    usual = examples.get(len(stored.shape), examples.get(wide, examples[5]))
    likely = likely_axes(stored, kx_first=matlab)
    return UnsupportedDataError(
        f"{stored.title}: nothing in the file says which axis is which, and a guess could turn time into space",
        remedy=(
            "name them in the stored order, " + ("for instance " if likely is None else "by the values perhaps "),
            Param("axes", likely or usual),
            f" (from {', '.join(NAMES)}, or - for one of length 1)",
        ),
    )


def likely_axes(stored: StoredArray, kx_first: bool = False) -> str | None:
    """Names of the stored axes that its values make likely, as for `parse_axes`; None where they do not say enough.

    Parameters
    ----------
    kx_first : of the two axes of k-space the first is the readout, as in MATLAB; else the last.
    """
    if math.prod(stored.shape) > _LOOKED_AT:
        return None
    try:
        values = stored.part((slice(None),) * len(stored.shape))
    except CrnnError:
        return None
    names = ["-" if n == 1 else "" for n in stored.shape]
    peaked = [axis for axis in peaks_along(values) if not names[axis]]
    if len(peaked) != 2:
        return None
    names[peaked[0]], names[peaked[1]] = ("kx", "ky") if kx_first else ("ky", "kx")
    others = [axis for axis, name in enumerate(names) if not name]
    alone = [axis for axis, name in enumerate(names) if name == "-"]
    moved = values.transpose(*alone, *others, *peaked).reshape([values.shape[axis] for axis in (*others, *peaked)])
    found = _named(_middle(moved), moved != 0)
    if found is None:
        return None
    for axis, name in zip(others, found, strict=True):
        names[axis] = name
    return ",".join(names)


def doubt_exchanged(kspace_CT: Complex) -> list[Remark]:
    """Doubt about coils that are as alike as frames, and frames as unlike as coils.

    Parameters
    ----------
    kspace_CT : (C, T, ...).
    """
    if min(kspace_CT.shape[:2]) < _FEWEST:
        return []
    coils, frames = _likeness(_middle(kspace_CT))
    if not (coils >= _ALIKE and frames <= _UNLIKE):
        return []
    text = (
        f"neighbours along coil are as alike as frames are (correlation {coils:.2f}), and along t as unlike as coils "
        f"({frames:.2f}): the two axes may have been exchanged"
    )
    return [Doubt("axes-exchanged", text)]


def _named(values: Complex, measured: NDArray[np.bool_]) -> list[str] | None:
    """Names of the axes before the last two: at most one of coils and one of frames; None where they are in doubt."""
    count = values.ndim - 2
    if count == 0:
        return []
    changing = [axis for axis in range(count) if _changes(measured, axis)]
    likeness = _likeness(values)
    unlike = [axis for axis in range(count) if axis not in changing and likeness[axis] <= _UNLIKE]
    frames = changing or [axis for axis in range(count) if likeness[axis] >= _ALIKE]
    if len(frames) > 1 or len(unlike) > 1 or len(frames) + len(unlike) < count:
        return None
    return ["coil" if axis in unlike else "t" for axis in range(count)]


def _changes(measured: NDArray[np.bool_], axis: int) -> bool:
    """Whether the sampling changes along an axis; entries without any sample do not count."""
    entries = np.moveaxis(measured, axis, 0)
    entries = entries[entries.any(axis=tuple(range(1, entries.ndim)))]
    return bool((entries != entries[:1]).any())


def _middle(values: Complex) -> Complex:
    """Middle of k-space, of magnitudes up to 1; its axes are the last, but for coils and frames."""
    inner = [slice(max(0, n // 2 - _MIDDLE // 2), n // 2 + _MIDDLE // 2) for n in values.shape[-2:]]
    part = values[..., inner[0], inner[1]]
    return part / max(float(np.abs(part).max()), 1e-30)


def _likeness(values: Complex) -> list[float]:
    """Median correlation of neighbours along each axis but the last two, real part; of samples that both have."""
    found = []
    for axis in range(values.ndim - 2):
        entries = np.moveaxis(values, axis, 0)
        pairs = [_correlation(one, other) for one, other in itertools.pairwise(entries)]
        known = [value for value in pairs if value is not None]
        found.append(float(np.median(known)) if known else 0.0)
    return found


def _correlation(one: Complex, other: Complex) -> float | None:
    both = (one != 0) & (other != 0)
    power = math.sqrt(float((np.abs(one[both]) ** 2).sum()) * float((np.abs(other[both]) ** 2).sum()))
    return float(np.vdot(one[both], other[both]).real) / power if power else None

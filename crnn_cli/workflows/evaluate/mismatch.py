"""Pairs that do not belong together as they are: another brightness, flipped or turned axes, frames in another order.

What the image would agree with much better is told, nothing is changed: errors must fall to less than half, by a
transform that happens between programs. Agreement is by the share of the reference's energy that no factor explains,
``1 - <a, b>^2 / (|a|^2 |b|^2)``, so that flips are found whatever the brightness.

Legend: Z slice, T frame, Y, X pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from crnn_cli import notices

if TYPE_CHECKING:
    from torch import Tensor

_POOR = 0.01
"""Share of the energy that differs, up to which a pair belongs together without doubt."""
_BETTER = 0.5
"""Share of that error up to which a transformed image agrees much better."""
_MOST = 2**22
"""Voxels of a frame, or of a slice, up to which transforms are tried."""


def doubt_mismatch(tested_ZTYX: Tensor, reference_ZTYX: Tensor, scale_fitted: bool) -> None:
    """Doubt a pair that would agree much better after a factor, a flip, a roll by half a field of view, or in time.

    Parameters
    ----------
    tested_ZTYX, reference_ZTYX : magnitudes of one shape.
    scale_fitted : whether a factor is fitted before the images are compared.
    """
    if not scale_fitted:
        _doubt_brightness(tested_ZTYX, reference_ZTYX)
    t, z = (n // 2 for n in (tested_ZTYX.shape[1], tested_ZTYX.shape[0]))
    frame, wanted = tested_ZTYX[:, t].double(), reference_ZTYX[:, t].double()
    if frame.numel() <= _MOST:
        best = _best(frame, wanted, _in_space(frame))
        if best is not None:
            text = f"the image agrees much better with the reference {best}: their axes may not run alike"
            notices.warn("agrees-better-turned", text)
            return
    series, wanted = tested_ZTYX[z].double(), reference_ZTYX[z].double()
    best = _best(series, wanted, _in_time(series)) if series.numel() <= _MOST else None
    if best is not None:
        text = f"the image agrees much better with the reference {best}: the frames may begin at another phase"
        notices.warn("agrees-better-shifted", text)


def _doubt_brightness(tested: Tensor, reference: Tensor) -> None:
    pairs = ((tested, reference), (tested, tested), (reference, reference))
    both, own, energy = (float((one.double() * other).sum()) for one, other in pairs)
    if not (both > 0 and own > 0 and energy > 0):
        return
    before = (own - 2 * both + energy) / energy
    after = max(0.0, 1 - both**2 / (own * energy))
    if before > _POOR and after < _BETTER * before:
        gain = f"{10 * math.log10(before / after):.1f} dB" if after > 1e-9 * before else "more than 90 dB"
        text = f"the brightness differs: times {both / own:.4g} the image would have a PSNR higher by {gain}"
        notices.warn("brightness-differs", text)


def _best(image: Tensor, wanted: Tensor, turned: Iterator[tuple[str, Tensor]]) -> str | None:
    """Name of the transform after which an image agrees best; None where it is not much better than without.

    None of them changes the energy of the image.
    """
    energies = float(image.square().sum()) * float(wanted.square().sum())
    now = _unexplained(image, wanted, energies)
    if now <= _POOR:
        return None
    errors = {name: _unexplained(other, wanted, energies) for name, other in turned}
    best = min(errors, key=lambda name: errors[name], default="")
    return best if best and errors[best] < _BETTER * now else None


def _unexplained(image: Tensor, wanted: Tensor, energies: float) -> float:
    """Share of the energy that no factor explains; 0 where one of the two is zero.

    Parameters
    ----------
    energies : product of the energies of both.
    """
    both = float((image * wanted).sum())
    return 1 - both * abs(both) / energies if energies else 0.0


def _in_space(image_ZYX: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Flips, exchanges of x and y, and rolls by half a field of view."""
    axes = {"x": 2, "y": 1} | ({"z": 0} if len(image_ZYX) > 1 else {})
    for count in range(1, len(axes) + 1):
        for names in itertools.combinations(axes, count):
            yield f"flipped along {' and '.join(names)}", image_ZYX.flip([axes[name] for name in names])
    if image_ZYX.shape[1] == image_ZYX.shape[2]:
        turned = image_ZYX.transpose(1, 2)
        yield "with x and y exchanged", turned
        for names in (("x",), ("y",), ("x", "y")):
            text = f"with x and y exchanged, and flipped along {' and '.join(names)}"
            yield text, turned.flip([axes[name] for name in names])
    for names in (("x",), ("y",), ("x", "y")):
        shifts = [image_ZYX.shape[axes[name]] // 2 for name in names]
        text = f"rolled by half a field of view along {' and '.join(names)}"
        yield text, image_ZYX.roll(shifts, [axes[name] for name in names])


def _in_time(image_TYX: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Cyclic shifts, and the reversed order."""
    frames = len(image_TYX)
    for shift in range(1, frames):
        by = shift if shift <= frames // 2 else shift - frames
        yield f"{abs(by)} frame{'s' * (abs(by) > 1)} {'later' if by > 0 else 'earlier'}", image_TYX.roll(shift, 0)
    if frames > 2:
        yield "in the reversed order of time", image_TYX.flip(0)

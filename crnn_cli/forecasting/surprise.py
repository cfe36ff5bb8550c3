"""Surprise: how far a frame is from its forecast, against the noise and the change that was to be expected.

    e_t = mean of |x_t - forecast|^2 over the tenth of the blocks of pixels with the most of it
    c_t = the same of the change that was expected: from the recalled frame to the one that followed it
    a_t = 10 log10(e_t / (n + c_t / 4))                      dB
    s_t = (a_t - m) / max(d, 2 dB)

Blocks of pixels average noise away; the worst tenth of them is where something happens, however large the still
surroundings are. n is the 20th percentile of e, the noise. A beat that is a little slower or faster is foreseen a part
of a frame too early or too late, which costs a part of the change: so the change counts. m is the median of a over the
frames that are judged, d their standard deviation as estimated by the median absolute deviation. All but the constants
is learned on the series itself.

Legend: T frame, Y, X pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 4  # pixels along the side
_WORST = 0.1
_LEAST = 1e-9  # mean square, in units of the network's intensities
_NOISE = 20  # percentile
_CHANGE = 0.25
_LEAST_DEVIATION = 2.0  # dB
_NORMAL = 1.4826  # standard deviation of a normal distribution by its median absolute deviation
Values = NDArray[np.float64]


def difference_db(one_YX: Tensor, other_YX: Tensor) -> float:
    """Mean square of a difference where it is largest, e_t and c_t of the formula, in dB.

    >>> round(difference_db(torch.ones(20, 20), torch.zeros(20, 20)), 6)
    0.0

    Parameters
    ----------
    one_YX, other_YX : in the network's intensities.
    """
    rows, columns = (max(1, size // _BLOCK) for size in one_YX.shape)
    means = F.adaptive_avg_pool2d((one_YX - other_YX)[None, None], (rows, columns)).flatten()
    worst = torch.topk(means.square(), max(1, math.ceil(_WORST * len(means)))).values
    return 10 * math.log10(max(float(worst.mean()), _LEAST))


@dataclass(frozen=True)
class Usual:
    """What is usual in a series.

    Attributes
    ----------
    allowed_T : n + c_t / 4 of the formula, in dB.
    middle, deviation : m and max(d, 2 dB).
    """

    allowed_T: Values
    middle: float
    deviation: float

    def surprise(self, errors_T: Values) -> Values:
        """Surprise of errors in dB, s_t of the formula."""
        return (errors_T - self.allowed_T - self.middle) / self.deviation

    def limits_db(self, threshold: float) -> Values:
        """Errors in dB whose surprise is the threshold."""
        return self.allowed_T + self.middle + threshold * self.deviation


def learn_usual(errors_T: Values, changes_T: Values, judged_T: NDArray[np.bool_]) -> Usual:
    """Learn what is usual in a series.

    >>> errors, changes = np.array([-40.0, -40, -40, -40, -10]), np.full(5, -90.0)
    >>> learn_usual(errors, changes, np.ones(5, bool)).surprise(errors).round(2)
    array([ 0.,  0.,  0.,  0., 15.])

    Parameters
    ----------
    errors_T, changes_T : of each frame, in dB.
    judged_T : frames that count, one at least.
    """
    noise = np.percentile(_power(errors_T[judged_T]), _NOISE)
    allowed_T = 10 * np.log10(noise + _CHANGE * _power(changes_T))
    above = (errors_T - allowed_T)[judged_T]
    middle = float(np.median(above))
    deviation = _NORMAL * float(np.median(np.abs(above - middle)))
    return Usual(allowed_T, middle, max(deviation, _LEAST_DEVIATION))


def _power(values_db: Values) -> Values:
    power: Values = 10 ** (values_db / 10)
    return power

"""Surprise: how far a frame is from its forecast, where that is most, and how unusual that is in its series.

    a_t = 10 log10(mean of |x_t - forecast|^2 over the tenth of the blocks of pixels with the most of it)     dB
    s_t = (a_t - m) / max(d, 0.5 dB)

Blocks of pixels average noise away; the worst tenth of them is where something happens, however large the still
surroundings are. m is the median of a over the frames that could be judged, d their standard deviation as estimated by
the median absolute deviation. So the series itself says what is usual in it: noise, rhythm, and how well its beats are
foreseen.

Legend: T frame, Y, X pixel.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 4  # pixels along the side
_WORST = 0.1
_LEAST = 1e-9  # mean square, in units of the network's intensities
_LEAST_DEVIATION = 0.5  # dB
_NORMAL = 1.4826  # standard deviation of a normal distribution by its median absolute deviation
Values = NDArray[np.float64]


def error_db(frame_YX: Tensor, forecast_YX: Tensor) -> float:
    """Error of a forecast where it is worst, a_t of the formula.

    >>> round(error_db(torch.ones(20, 20), torch.zeros(20, 20)), 6)
    0.0

    Parameters
    ----------
    frame_YX, forecast_YX : in the network's intensities.
    """
    rows, columns = (max(1, size // _BLOCK) for size in frame_YX.shape)
    means = F.adaptive_avg_pool2d((frame_YX - forecast_YX)[None, None], (rows, columns)).flatten()
    worst = torch.topk(means.square(), max(1, math.ceil(_WORST * len(means)))).values
    return 10 * math.log10(max(float(worst.mean()), _LEAST))


def usual_error(errors_T: Values, judged_T: NDArray[np.bool_]) -> tuple[float, float]:
    """Median and deviation of the errors that are judged, m and d of the formula; NaN where none is.

    Parameters
    ----------
    errors_T : in dB.
    judged_T : frames that count.
    """
    usual = errors_T[judged_T]
    if not len(usual):
        return math.nan, math.nan
    middle = float(np.median(usual))
    return middle, max(_NORMAL * float(np.median(np.abs(usual - middle))), _LEAST_DEVIATION)


def surprise(errors_T: Values, judged_T: NDArray[np.bool_]) -> Values:
    """How unusual each error is, s_t of the formula; NaN where it is not judged.

    >>> errors = np.array([-40.0, -41, -39, -40, -20])
    >>> surprise(errors, np.ones(5, bool)).round(1)
    array([ 0. , -0.7,  0.7,  0. , 13.5])

    Parameters
    ----------
    errors_T : in dB.
    judged_T : frames that count.
    """
    middle, deviation = usual_error(errors_T, judged_T)
    return np.where(judged_T, (errors_T - middle) / deviation, np.nan)

"""Surprise: how far a frame is from its forecast, where that is most, and how unusual that is in its series.

    a_t = 10 log10(mean of |x_t - forecast|^2 over the tenth of the blocks of pixels with the most of it)     dB
    s_t = (a_t - m_t) / max(d, 0.5 dB)

Blocks of pixels average noise away; the worst tenth of them is where something happens, however large the still
surroundings are. m_t is the median of a over the frames of other beats at the same place in the beat, a tenth of a beat
to either side; of all frames where these are fewer than 3. d is the standard deviation of a - m as estimated by the
median absolute deviation. So the series itself says what is usual in it: noise, rhythm, and how well each part of its
beats is foreseen.

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
_PLACE = 0.1  # of a beat
_LEAST_ALIKE = 3
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


def usual_error(errors_T: Values, judged_T: NDArray[np.bool_], beats_T: Values) -> tuple[Values, float]:
    """What is usual at the place of each frame in its beat, m_t of the formula, and the deviation d; in dB.

    Parameters
    ----------
    errors_T : in dB.
    judged_T : frames that count.
    beats_T : beats passed at each frame, with fractions.

    Returns
    -------
    m_t and d; NaN where no frame is judged.
    """
    if not judged_T.any():
        return np.full(len(errors_T), np.nan), math.nan
    usual_T = np.full(len(errors_T), np.median(errors_T[judged_T]))
    counted, places = errors_T[judged_T], beats_T[judged_T]
    for t, beat in enumerate(beats_T):
        apart = np.abs(places - beat)
        alike = counted[(apart > 0.5) & (np.abs(apart - np.round(apart)) <= _PLACE)]
        if len(alike) >= _LEAST_ALIKE:
            usual_T[t] = np.median(alike)
    left = (errors_T - usual_T)[judged_T]
    deviation = _NORMAL * float(np.median(np.abs(left - np.median(left))))
    return usual_T, max(deviation, _LEAST_DEVIATION)


def surprise(errors_T: Values, judged_T: NDArray[np.bool_], beats_T: Values) -> Values:
    """How unusual each error is, s_t of the formula; NaN where it is not judged.

    >>> errors = np.array([-40.0, -20, -41, -20, -40, -20, -40, -10])
    >>> surprise(errors, np.ones(8, bool), np.arange(8) / 2).round(1)
    array([ 0.,  0., -2.,  0.,  0.,  0.,  0., 20.])

    Parameters
    ----------
    errors_T, judged_T, beats_T : as of `usual_error`.
    """
    usual_T, deviation = usual_error(errors_T, judged_T, beats_T)
    return np.where(judged_T, (errors_T - usual_T) / deviation, np.nan)

"""Predicted Dice: how good labels probably are, from the probabilities they were made of.

If probabilities p were right, the Dice of a label map A against the truth would be, up to terms of second order,

    expected Dice = 2 sum over A of p / (|A| + sum of p)

Networks are too sure of themselves, so a model's config.json has a curve for each structure that turns the expected
Dice into the Dice measured on patients that the model was not trained on (`crnn_cli.labels.quality_curves`,
benchmarks/heart_quality.py). What the network does not doubt at all, such as a wrong convention at the base, no curve
can see.

Legend: K class (0 background).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def expected_dice(
    probabilities_K: NDArray[np.float32], labels: NDArray[np.uint8], removed: NDArray[np.bool_] | None = None
) -> tuple[float, ...]:
    """Compute the expected Dice of each structure of a label map.

    >>> p = np.array([[0.1, 0.5, 0.9], [0.9, 0.5, 0.1]], np.float32)
    >>> [round(v, 3) for v in expected_dice(p, np.array([1, 1, 0], np.uint8))]
    [0.8]

    Parameters
    ----------
    probabilities_K : (K, ...), of the classes.
    labels : (...), made of them.
    removed : (...), voxels whose labels were taken away as pieces far off: their probabilities do not count.

    Returns
    -------
    One number from 0 to 1 for each structure 1, 2, ...; 0 where it is not labelled.
    """
    found = []
    for value in range(1, len(probabilities_K)):
        inside, p = labels == value, probabilities_K[value]
        everywhere = float(p.sum(dtype=np.float64))
        if removed is not None:
            everywhere -= float(p[removed].sum(dtype=np.float64))
        size = int(inside.sum())
        found.append(2 * float(p[inside].sum(dtype=np.float64)) / (size + everywhere) if size else 0.0)
    return tuple(found)

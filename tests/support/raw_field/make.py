"""One generated file of raw k-space for each seed."""

import zlib

import numpy as np

from tests.support.raw_field.arrays import make_array
from tests.support.raw_field.case import verdict
from tests.support.raw_field.mrd import make_mrd
from tests.support.raw_field.mrd_volume import make_mrd_volume

__all__ = ["make_case", "verdict"]


def make_case(seed, folder):
    """Write the file of a seed into a folder, and return it with its truth."""
    rng = np.random.default_rng([seed, zlib.crc32(b"raw")])
    kind = rng.random()
    if kind < 0.08:
        return make_mrd_volume(rng, folder)
    return make_mrd(rng, folder) if kind < 0.5 else make_array(rng, folder)

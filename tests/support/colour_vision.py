"""Colours as people see them: with three kinds of cones, and without one of them (Machado et al., IEEE TVCG 2009)."""

import numpy as np

_SEEN = {
    "all cones": np.eye(3),
    "no long-wave cones": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "no medium-wave cones": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "no short-wave cones": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
VISIONS = tuple(_SEEN)
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1, 1.08883])


def seen(colours, vision):
    """Return colours (..., 3), 0 to 255, in CIELAB as an eye sees them."""
    encoded = np.asarray(colours, float) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.array(_SEEN[vision]).T, 0, 1) @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def distances(some, others):
    """Return the CIELAB distance of each of some colours from each of others, for the eye that sees it smallest."""
    each = [np.linalg.norm(seen(some, vision)[:, None] - seen(others, vision)[None], axis=-1) for vision in VISIONS]
    return np.min(each, axis=0)

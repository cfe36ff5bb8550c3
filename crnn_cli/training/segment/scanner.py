"""Images as a poorer scan would have given them: what scanners do to k-space, done to labelled magnitude images.

    resolution       a centred part of the lines and samples only, zeros beyond: blur and Gibbs ringing
    partial Fourier  one side of the lines left out beyond a smooth phase: blur along one axis
    ghosts           every second, third or fourth line weaker: copies of the moving heart along the phase encoding
    motion           blocks of lines measured with the body somewhere else: smeared edges and stripes
    undersampling    lines outside the centre left out at random: aliasing as noise
    noise            complex, so that the magnitude is Rician

One phase encoding axis is drawn for all slices of a sequence, as a protocol has one. Each artefact is drawn on its own;
labels are not touched, because the anatomy stays where it is.

Legend: S slice, Y row, X column; k-space is centred.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]

_CHANCE = {"resolution": 0.35, "partial_fourier": 0.2, "ghosts": 0.25, "motion": 0.25, "undersampling": 0.25}
_LARGEST_NOISE = 0.08  # standard deviation, relative to the intensity range
_CENTRE = 0.08  # share of the lines that undersampling keeps in any case


def rescanned(image_SYX: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw artefacts of the scanner, and apply them to a sequence of slices.

    Parameters
    ----------
    image_SYX : scaled intensities; the darkest value counts as no signal.
    rng : random numbers.

    Returns
    -------
    The magnitude of the same size and about the same range.
    """
    dark = float(image_SYX.min())
    magnitude_SYX = np.ascontiguousarray(image_SYX - dark, np.float32)
    along_columns = bool(rng.random() < 0.5)  # phase encoding; the lines are rows otherwise
    if along_columns:
        magnitude_SYX = magnitude_SYX.swapaxes(1, 2)
    kspace_SYX = to_kspace(magnitude_SYX * smooth_phase(magnitude_SYX.shape, rng))
    for name, chance in _CHANCE.items():
        if rng.random() < chance:
            kspace_SYX = _ARTEFACTS[name](kspace_SYX, rng)
    noise = rng.uniform(0, _LARGEST_NOISE) * rng.standard_normal((2, *kspace_SYX.shape), np.float32)
    found_SYX = np.abs(to_image(kspace_SYX + (noise[0] + 1j * noise[1])))
    if along_columns:
        found_SYX = found_SYX.swapaxes(1, 2)
    return np.ascontiguousarray(found_SYX + dark, np.float32)


def to_kspace(image_SYX: NDArray[np.generic]) -> Complex:
    """Transform slices to centred, orthonormal k-space."""
    shifted = np.fft.ifftshift(image_SYX, axes=(1, 2))
    kspace: Complex = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(1, 2)).astype(np.complex64)
    return kspace


def to_image(kspace_SYX: Complex) -> Complex:
    """Transform centred, orthonormal k-space to slices; the inverse of `to_kspace`."""
    shifted = np.fft.ifftshift(kspace_SYX, axes=(1, 2))
    image: Complex = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(1, 2)).astype(np.complex64)
    return image


def smooth_phase(shape: tuple[int, ...], rng: np.random.Generator) -> Complex:
    """Draw exp(i phase) with a phase that is quadratic in position, up to about pi at the edges."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[1:])
    a, b, c, d, e = rng.uniform(-1.2, 1.2, 5)
    phase = a * y[:, None] + b * x + c * y[:, None] ** 2 + d * x**2 + e * y[:, None] * x
    turned: Complex = np.exp(1j * phase).astype(np.complex64)[None]
    return turned


def resolution(kspace_SYX: Complex, rng: np.random.Generator) -> Complex:
    """Keep 45 to 90 % of the lines, and of the samples of a line, around the centre."""
    _, rows, columns = kspace_SYX.shape
    kept = np.zeros((rows, columns), np.float32)
    kept[_centred(rows, rng.uniform(0.45, 0.9)), _centred(columns, rng.uniform(0.6, 1.0))] = 1
    return kspace_SYX * kept


def partial_fourier(kspace_SYX: Complex, rng: np.random.Generator) -> Complex:
    """Leave out the last 20 to 40 % of the lines."""
    found = kspace_SYX.copy()
    found[:, int(kspace_SYX.shape[1] * rng.uniform(0.6, 0.8)) :] = 0
    return found


def ghosts(kspace_SYX: Complex, rng: np.random.Generator) -> Complex:
    """Weaken every second, third or fourth line by 5 to 25 %."""
    found = kspace_SYX.copy()
    step = int(rng.integers(2, 5))
    found[:, int(rng.integers(step)) :: step] *= 1 - rng.uniform(0.05, 0.25)
    return found


def motion(kspace_SYX: Complex, rng: np.random.Generator) -> Complex:
    """Shift the body by up to 4 pixels during one to four blocks of lines."""
    _, rows, columns = kspace_SYX.shape
    found = kspace_SYX.copy()
    ky = (np.arange(rows) - rows // 2) / rows
    kx = (np.arange(columns) - columns // 2) / columns
    for _ in range(int(rng.integers(1, 5))):
        first = int(rng.integers(rows))
        block = slice(first, first + int(rng.integers(2, max(3, rows // 6))))
        dy, dx = rng.uniform(-4, 4, 2)
        found[:, block] *= np.exp(-2j * np.pi * (ky[block, None] * dy + kx * dx)).astype(np.complex64)
    return found


def undersampling(kspace_SYX: Complex, rng: np.random.Generator) -> Complex:
    """Leave out 15 to 50 % of the lines outside the centre, other ones in each slice."""
    slices, rows, _ = kspace_SYX.shape
    measured = rng.random((slices, rows)) >= rng.uniform(0.15, 0.5)
    measured[:, _centred(rows, _CENTRE)] = True
    return kspace_SYX * measured[..., None].astype(np.float32)


def _centred(length: int, share: float) -> slice:
    kept = max(1, round(length * share))
    first = length // 2 - kept // 2
    return slice(first, first + kept)


_ARTEFACTS = {
    "resolution": resolution,
    "partial_fourier": partial_fourier,
    "ghosts": ghosts,
    "motion": motion,
    "undersampling": undersampling,
}

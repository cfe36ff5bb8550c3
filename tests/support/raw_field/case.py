"""Generated files of raw k-space with their truth, varied as files of the field are; a seed gives one file.

Legend: Z slice, C coil, T frame, Y phase encoding, X readout, K second phase encoding.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crnn_cli.errors import CrnnError
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.read import read_raw


@dataclass
class Case:
    """A file, how it is to be read, and what must come of it.

    Attributes
    ----------
    path : the file.
    told : what is peculiar about it.
    choices : arguments of `read_raw`; ``chosen`` those of `RawChoices`.
    truth_ZCTYX, mask_ZTYX : what must be read; None where the file must be refused.
    refused : regular expression of the message of a true refusal; None where the file must be read.
    codes : codes of remarks that must be there.
    affine : of the images; None where the file states none.
    """

    path: Path
    told: list[str]
    choices: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)
    truth_ZCTYX: Any = None
    mask_ZTYX: Any = None
    refused: str | None = None
    codes: list[str] = field(default_factory=list)
    affine: Any = None


def verdict(case):
    """Return "read", "refused", or what is wrong."""
    import re

    try:
        scan = read_raw(case.path, **case.choices, chosen=RawChoices(**case.chosen))
        slices = [scan.read(z) for z in range(scan.shape_ZCTYX[0])]
    except CrnnError as error:
        if case.refused is None:
            return f"refused: {error}"
        return "refused" if re.search(case.refused, str(error)) else f"refused for another reason: {error}"
    if case.refused is not None:
        return f"read as {scan.shape_ZCTYX}, must be refused"
    if scan.shape_ZCTYX != case.truth_ZCTYX.shape:
        return f"read as {scan.shape_ZCTYX}, is {case.truth_ZCTYX.shape}"
    return _difference(case, scan, slices)


def _difference(case, scan, slices):
    peak = np.abs(case.truth_ZCTYX).max()
    for z, one in enumerate(slices):
        mask = np.broadcast_to(case.mask_ZTYX[z], one.kspace_CTYX.shape[1:])
        if (np.broadcast_to(one.mask_TYX, mask.shape) != mask).any():
            return f"slice {z}: {int(one.mask_TYX.sum())} samples or lines measured, not those of the truth"
        off = np.abs(one.kspace_CTYX - case.truth_ZCTYX[z] * mask).max() / peak
        if off > 2e-5:
            return f"slice {z}: samples differ by {off:.2g} of the peak"
    missing = set(case.codes) - {each.code for each in scan.remarks}
    if missing:
        return f"says nothing of {sorted(missing)}"
    if case.affine is not None and np.abs(scan.geometry.affine - case.affine).max() > 1e-3:
        return f"affine differs by {np.abs(scan.geometry.affine - case.affine).max():.3g} mm"
    return "read"


def transform(array, axes, inverse=False):
    """Return the centred orthonormal Fourier transform along axes."""
    function = np.fft.ifftn if inverse else np.fft.fftn
    return np.fft.fftshift(function(np.fft.ifftshift(array, axes), axes=axes, norm="ortho"), axes)


def phantom(rng, shape_ZCTYX, oversampling=1, noise=0.01, three_d=False):
    """Return k-space of moving tissue in an ellipse, seen by coils around it.

    The ellipse fills four fifths of the field of view, along X of that without oversampling; of a 3-D scan also along
    Z, whose images are returned then.
    """
    slices, coils, frames, lines, samples = shape_ZCTYX
    z, y, x = (np.linspace(-1, 1, n, endpoint=False) + 1 / n for n in (slices, lines, samples))
    z, y, x = np.meshgrid(z * (0.6 if three_d else 0.2), y, x * oversampling, indexing="ij")
    inside = (x / 0.8) ** 2 + (y / 0.8) ** 2 + z**2 < 1
    waves = [np.cos(a * x + b * y + c * z + d) for a, b, c, d in rng.uniform(1, 6, (4, 4))]
    tissue = 0.6 + 0.15 * sum(waves) / 4
    out = np.empty(shape_ZCTYX, np.complex128)
    for t in range(frames):
        at = 0.3 * np.cos(2 * np.pi * t / frames)
        heart = (x - at * 0.3) ** 2 + (y + 0.1) ** 2 < (0.3 + 0.1 * np.sin(2 * np.pi * t / frames)) ** 2
        image = np.where(inside, np.where(heart, 1.2, tissue), 0) * np.exp(1j * (0.8 * x + 0.5 * y**2 + z))
        for c in range(coils):
            angle = 2 * np.pi * c / coils + 0.4
            near = np.exp(-((x - np.cos(angle)) ** 2 + (y - np.sin(angle)) ** 2) / 1.5) + 0.15
            out[:, c, t] = image * (near * np.exp(1j * angle * (1 + 0.3 * x)) if coils > 1 else 1)
    kspace = transform(out, (-2, -1))
    scale = noise * np.abs(kspace).max() / np.sqrt(lines * samples) * 2
    kspace += scale * (rng.normal(size=kspace.shape) + 1j * rng.normal(size=kspace.shape))
    return kspace.astype(np.complex64)


def pattern(rng, frames, lines, kind):
    """Return a mask (T, Y): all, random lines that change over time, or every n-th with a full centre."""
    mask = np.zeros((frames, lines), bool)
    centre = slice(lines // 2 - 4, lines // 2 + 4)
    if kind == "full":
        mask[:] = True
    elif kind == "random":
        mask = rng.random((frames, lines)) < 0.35
    else:
        n = int(rng.integers(2, 4))
        for t in range(frames):
            mask[t, t % n :: n] = True
    mask[:, centre] = True
    return mask

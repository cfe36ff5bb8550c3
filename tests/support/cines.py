"""A moving cine, its k-space, sampling masks and NIfTI files of it."""

from __future__ import annotations

import nibabel as nib
import numpy as np

AFFINE = np.array([[1.3, 0.2, 0.4, -70.0], [-0.3, 1.4, 0.5, 20.0], [-0.1, -0.3, 8.0, 5.0], [0, 0, 0, 1]])


def moving_cine(x=24, y=20, z=2, t=6, seed=0, noise=0.01):
    """Return a complex cine (x, y, z, t): a pulsating disc on a textured body, smooth phase, a little noise."""
    rng = np.random.default_rng(seed)
    gx, gy = np.meshgrid(np.linspace(-1, 1, x), np.linspace(-1, 1, y), indexing="ij")
    body = 1.0 * (gx**2 + gy**2 < 0.9) * (1 + 0.2 * np.sin(7 * gx) * np.cos(5 * gy))
    frames = np.stack(
        [body + 1.5 * ((gx - 0.1) ** 2 + gy**2 < (0.3 + 0.15 * np.sin(2 * np.pi * k / t)) ** 2) for k in range(t)], -1
    )
    phase = np.exp(1j * (0.5 + gx + 0.7 * gy))
    series = np.stack([(1 - 0.2 * k) * frames * phase[..., None] for k in range(z)], axis=2)
    return (series + noise * (rng.normal(size=series.shape) + 1j * rng.normal(size=series.shape))).astype(np.complex64)


def lines_mask(x, y, t, axis=1, seed=0, share=0.4):
    """Return a 0/1 mask (x, y, 1, t) of whole lines that change over time, the centre always measured."""
    rng = np.random.default_rng(seed)
    n = (x, y)[axis]
    lines = rng.random((n, t)) < share
    lines[n // 2 - 1 : n // 2 + 1] = True
    shape = [1, 1, 1, t]
    shape[axis] = n
    return np.broadcast_to(lines.reshape(shape), (x, y, 1, t)).astype(np.uint8)


def to_kspace(images):
    """Return centred orthonormal k-space of (x, y, ...) in double precision, written on its own."""
    shifted = np.fft.ifftshift(images.astype(np.complex128), (0, 1))
    return np.fft.fftshift(np.fft.fft2(shifted, axes=(0, 1), norm="ortho"), (0, 1))


def to_images(kspace):
    """Return images of centred orthonormal k-space (x, y, ...)."""
    shifted = np.fft.ifftshift(kspace, (0, 1))
    return np.fft.fftshift(np.fft.ifft2(shifted, axes=(0, 1), norm="ortho"), (0, 1))


def save(path, array, frame_time=0.03, affine=AFFINE):
    """Write a NIfTI file."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        image.header["pixdim"][4] = frame_time
    nib.save(image, path)
    return path

"""Slow, obvious twins of the phantom: integrals over ellipses and rasters, which know nothing of Bessel functions."""

import math

import numpy as np
import torch

from crnn_cli.mri.phantom.anatomy import beating_heart
from crnn_cli.mri.phantom.ellipses import Ellipse


def ellipse(amplitude, *rows):
    """rows of x, y, a, b, angle, one per frame"""
    table = torch.tensor(rows, dtype=torch.float64)
    return Ellipse(amplitude, table[:, :2], table[:, 2:4], table[:, 4])


def double(value):
    return torch.tensor([value], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def heart(seed=0, cycle=(0.0,), drift=None, scale=1.0):
    cycle_T = torch.tensor(cycle, dtype=torch.float64)
    drift_T = torch.zeros_like(cycle_T) if drift is None else torch.tensor(drift, dtype=torch.float64)
    return beating_heart(cycle_T, drift_T, generator(seed), scale)


def integral(shape, frame, kx, ky, factor=lambda x, y: 1.0):
    """Integrate amplitude * factor * exp(-2 pi i k.r) over the ellipse: Gauss-Legendre rings, trapezoid angles."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    radius, ring = torch.tensor((nodes + 1) / 2)[:, None], torch.tensor(weights / 2)[:, None]
    turn = torch.arange(160, dtype=torch.float64) * (2 * math.pi / 160)
    (x0, y0), (a, b), angle = shape.centre_T2[frame], shape.semi_axes_T2[frame], shape.angle_T[frame]
    u, v = a * radius * torch.cos(turn), b * radius * torch.sin(turn)
    x, y = x0 + u * torch.cos(angle) - v * torch.sin(angle), y0 + u * torch.sin(angle) + v * torch.cos(angle)
    wave = torch.exp(-2j * math.pi * (kx * x + ky * y)) * factor(x, y)
    return shape.amplitude * complex((wave * (a * b * radius * ring)).sum() * (2 * math.pi / 160))


def raster(shapes, frame, x, y):
    """Add up ellipses at points, one by one."""
    total = torch.zeros_like(x)
    for shape in shapes:
        row = min(frame, shape.angle_T.numel() - 1)
        (x0, y0), (a, b), angle = shape.centre_T2[row], shape.semi_axes_T2[row], shape.angle_T[row]
        u = (x - x0) * torch.cos(angle) + (y - y0) * torch.sin(angle)
        v = (y - y0) * torch.cos(angle) - (x - x0) * torch.sin(angle)
        total += shape.amplitude * ((u / a) ** 2 + (v / b) ** 2 <= 1).double()
    return total


def points(width, height, step):
    x = torch.arange(-width / 2, width / 2, step, dtype=torch.float64)
    y = torch.arange(-height / 2, height / 2, step, dtype=torch.float64)
    return x.expand(len(y), -1), y[:, None].expand(-1, len(x))

"""Classical reconstructions as their formulas read: dense matrices, plain loops, one long plain method."""

from functools import cache

import numpy as np
from scipy.optimize import minimize


def dense(forward, shape):
    """Return the matrix of a linear map of complex arrays, column by column."""
    columns = []
    for index in range(int(np.prod(shape))):
        unit = np.zeros(shape, np.complex64)
        unit.flat[index] = 1
        columns.append(np.asarray(forward(unit)).ravel())
    return np.stack(columns, 1).astype(np.complex128)


@cache
def differences(shape):
    """Return the matrices of the differences along T, Y and X of an array (T, Y, X)."""
    places = np.arange(int(np.prod(shape))).reshape(shape)
    found = []
    for axis in range(3):
        matrix = np.zeros((places.size, places.size))
        for here in np.ndindex(*shape):
            there = tuple(n + (a == axis) for a, n in enumerate(here))
            if there[axis] < shape[axis]:
                matrix[places[here], places[there]] = 1
                matrix[places[here], places[here]] = -1
        found.append(matrix)
    return found


def tv_objective(a, data, image, weights, rounding=0.0):
    """Return 1/2 ||A x - y||^2 + w_t sum |D_t x| + w_s sum |(D_y x, D_x x)| and its gradient with |.| rounded."""
    along = differences(image.shape)
    x = image.ravel()
    residual = a @ x - data.ravel()
    value, gradient = 0.5 * np.sum(abs(residual) ** 2), a.conj().T @ residual
    for weight, group in zip(weights, (along[:1], along[1:]), strict=True):
        changes = [matrix @ x for matrix in group]
        length = np.sqrt(sum(abs(change) ** 2 for change in changes) + rounding**2)
        value += weight * np.sum(length)
        if rounding:
            gradient = gradient + weight * sum(m.T @ (c / length) for m, c in zip(group, changes, strict=True))
    return value, gradient


def tv(a, data, start, weights):
    """Return the minimiser of the objective, its corners rounded less and less, by L-BFGS."""
    shape, x = start.shape, start.astype(np.complex128)
    for rounding in (1e-2, 1e-3, 1e-4, 1e-5):

        def both(values, rounding=rounding):
            image = values.view(np.complex128).reshape(shape)
            value, gradient = tv_objective(a, data, image, weights, rounding)
            return value, np.ascontiguousarray(gradient).view(np.float64)

        options = {"maxiter": 3000, "maxfun": 5000, "ftol": 1e-15, "gtol": 1e-10}
        found = minimize(both, x.ravel().view(np.float64), jac=True, method="L-BFGS-B", options=options)
        x = found.x.view(np.complex128).reshape(shape)
    return x


def shrink_blocks(image_TYX, weight, block):
    """Return an image whose blocks have their singular values lowered, block by block, by dense SVD."""
    frames, lines, columns = image_TYX.shape
    out = np.zeros_like(image_TYX)
    for y in range(0, lines, block):
        for x in range(0, columns, block):
            part = image_TYX[:, y : y + block, x : x + block]
            u, s, v = np.linalg.svd(part.reshape(frames, -1), full_matrices=False)
            s = np.maximum(s - weight * (np.sqrt(frames) + block), 0)
            out[:, y : y + block, x : x + block] = ((u * s) @ v).reshape(part.shape)
    return out

"""Encoder and forecaster of Shi et al. as they read: patches, layers and steps one by one; slow and obvious."""

import numpy as np

from tests.reference import convlstm_loops


def to_patches(frame_YX, p):
    """Return the p^2 pixels of each patch as channels, row by row."""
    rows, columns = frame_YX.shape[0] // p, frame_YX.shape[1] // p
    found = np.zeros((p * p, rows, columns))
    for y in range(rows):
        for x in range(columns):
            found[:, y, x] = frame_YX[y * p : (y + 1) * p, x * p : (x + 1) * p].ravel()
    return found


def from_patches(patches, p):
    """Return the frame of patches."""
    _, rows, columns = patches.shape
    frame = np.zeros((rows * p, columns * p))
    for y in range(rows):
        for x in range(columns):
            frame[y * p : (y + 1) * p, x * p : (x + 1) * p] = patches[:, y, x].reshape(p, p)
    return frame


def forecast(encoder, forecaster, readout, frames_TYX, ahead, p):
    """Return frames (ahead, Y, X).

    ``encoder`` and ``forecaster`` are lists of (weights by the names of the formula, hidden channels), ``readout`` is
    (weight (p^2, H), bias (p^2,)).
    """
    shape = tuple(size // p for size in frames_TYX.shape[1:])
    states = [(np.zeros((hidden, *shape)), np.zeros((hidden, *shape))) for _, hidden in encoder]
    for frame in frames_TYX:
        below = to_patches(frame, p)
        for number, (weights, _) in enumerate(encoder):
            states[number] = convlstm_loops.step(weights, below, *states[number])
            below = states[number][0]
    made = []
    for _ in range(ahead):
        below = None
        for number, (weights, _) in enumerate(forecaster):
            states[number] = convlstm_loops.step(weights, below, *states[number])
            below = states[number][0]
        together = np.concatenate([hidden for hidden, _ in states])
        patches = np.einsum("oh,hyx->oyx", readout[0], together) + readout[1][:, None, None]
        made.append(from_patches(patches, p))
    return np.stack(made)

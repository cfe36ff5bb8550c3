"""Hearts of simple shapes whose function is known in closed form."""

import numpy as np

from crnn_cli.cardiac.chambers import Chambers
from crnn_cli.data.image import Image

CHAMBERS = Chambers(left=3, myocardium=2, right=1)
SPACING = (1.25, 1.25, 8.0)
SLICES, FRAMES, SIDE = 9, 20, 96


def oblique(turn=0.0):
    """Affine of short-axis slices: the normal to left, anterior and inferior; ``turn`` in the plane, in radians."""
    normal = np.array([-1.0, 1.0, -0.6])
    normal /= np.linalg.norm(normal)
    row = np.cross([0, 0, 1.0], normal)
    row /= np.linalg.norm(row)
    column = np.cross(normal, row)
    x, y = np.cos(turn) * row + np.sin(turn) * column, -np.sin(turn) * row + np.cos(turn) * column
    affine = np.eye(4)
    affine[:3, :3] = np.stack([x, y, normal], 1) * SPACING
    return affine


def heart(affine=None, frames=FRAMES, thickness=8.0, beat=None, frame_time=0.04):
    """A left ventricle of circular cavities, a wall of a given thickness, and a right one towards the patient's right.

    The right ventricle lies along a third of the circle, as the segments have it: insertions at 120 and 240 degrees.

    thickness : in mm, a number, or a function of angles in patient directions (0 to the left, 90 degrees to anterior
    and superior) and a slice.
    beat : radius of the cavity over that of end diastole, of each frame.
    """
    affine = oblique() if affine is None else affine
    beat = 1 - 0.25 * np.sin(np.pi * np.arange(frames) / frames) ** 2 if beat is None else np.asarray(beat)
    left, up = plane_axes(affine)
    i, j = np.meshgrid(np.arange(SIDE) - SIDE / 2 + 0.5, np.arange(SIDE) - SIDE / 2 + 0.5, indexing="ij")
    place = i[..., None] * affine[:3, 0] + j[..., None] * affine[:3, 1]
    x, y = place @ left, place @ up
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    to_the_right = np.abs(np.angle(-np.exp(1j * angle))) < np.pi / 3
    labels = np.zeros((SIDE, SIDE, SLICES, frames), np.uint8)
    for z in range(SLICES):
        wall = thickness(angle, z) if callable(thickness) else thickness
        for t in range(frames):
            cavity = (24 - 1.2 * z) * beat[t]
            outer = cavity + wall
            right = (radius < outer + 18 * beat[t]) & to_the_right
            labels[..., z, t] = np.where(right, 1, 0)
            labels[..., z, t] = np.where(radius < outer, 2, labels[..., z, t])
            labels[..., z, t] = np.where(radius < cavity, 3, labels[..., z, t])
    return Image(labels, affine, frame_time)


def plane_axes(affine):
    """Unit vectors in the plane of the slices: to the patient's left, and perpendicular to it to anterior."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    left = np.array([-1.0, 0, 0]) - normal * (np.array([-1.0, 0, 0]) @ normal)
    left /= np.linalg.norm(left)
    up = np.cross(normal, left)
    return left, up * np.sign(up @ [0, 1.0, 0.5])


def reoriented(image, order, flips):
    """The same label map with its first three axes stored in another order and direction."""
    array, affine = image.array, image.affine.copy()
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    affine[:3, :3] = affine[:3, list(order)]
    return Image(np.ascontiguousarray(array.transpose((*order, 3))), affine, image.frame_time, image.codes)

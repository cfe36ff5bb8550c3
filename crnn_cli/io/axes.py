"""Names of stored image axes, such as ``x,y,t``: arrays and affines in the order x, y, z, t."""

from __future__ import annotations

from crnn_cli.data.image import Affine, Array
from crnn_cli.errors import Param, UnsupportedDataError, UsageError


def ordered_array(array: Array, axes: str | None, name: str) -> Array:
    """Bring an array to (x, y, z) or (x, y, z, t).

    Parameters
    ----------
    axes : names of the stored axes; None for x,y,z(,t) with axes of length 1 added or removed at the end.
    name : of the file, for messages.

    Raises
    ------
    UsageError
        If ``axes`` are not understood.
    UnsupportedDataError
        If the array has more axes, or another number than ``axes``.
    """
    if axes is None:
        while array.ndim > 4 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim == 5 and array.shape[3] == 1:
            raise UnsupportedDataError(
                f"{name} holds vectors (5-D, {array.shape}), not a scan over time",
                remedy=("if its fifth axis is time, save it with four axes (x, y, z, t)",),
            )
        if array.ndim > 4:
            raise UnsupportedDataError(
                f"{name} has {array.ndim} axes {array.shape}; at most x,y,z,t are read",
                remedy=("save what the others count in files of their own, such as coils or echoes; real and imaginary "
                        "part as one complex file",),
            )  # fmt: skip
        return array.reshape(array.shape + (1,) * (3 - array.ndim)) if array.ndim < 3 else array
    names = axis_names(axes)
    while array.ndim > len(names) and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != len(names):
        raise UnsupportedDataError(Param("axes", axes), f" names {len(names)} axes, {name} has {array.shape}")
    wanted = [name for name in "xyzt" if name in names]
    ordered = array.transpose([names.index(name) for name in wanted])
    return ordered if "z" in names else ordered[:, :, None]


def axis_names(axes: str) -> list[str]:
    """Split ``axes`` into names.

    Raises
    ------
    UsageError
        If they are not x,y,t or x,y,z or x,y,z,t in some order with time third or fourth.

    >>> axis_names("x, y, t")
    ['x', 'y', 't']
    """
    names = [name.strip() for name in axes.split(",")]
    if sorted(names) not in (["t", "x", "y"], ["t", "x", "y", "z"], ["x", "y", "z"]):
        raise UsageError(Param("axes", axes), " is not understood; write for instance x,y,t or x,y,z,t")
    if "t" in names[:2]:
        raise UsageError(
            Param("axes", axes), ": time can be the third or the fourth axis; else the header has no geometry"
        )
    return names


def ordered_affine(affine: Affine, axes: str) -> Affine:
    """Affine with its columns in the order x, y, z; where time is the third axis, the third column stands for z."""
    space = space_of_axes(axes)
    ordered = affine.copy()
    ordered[:, space] = affine[:, :3]
    return ordered


def space_of_axes(axes: str) -> list[int]:
    """Place among x, y, z of each of the first three stored axes; time as the third stands for z.

    >>> space_of_axes("y,x,t")
    [1, 0, 2]
    """
    return ["xyz".index("z" if name == "t" else name) for name in axis_names(axes)[:3]]

"""Laws that operators obey; each function asserts one."""

import torch


def inner(a, b):
    """Return the complex inner product of two tensors in double precision."""
    return torch.vdot(a.flatten().to(torch.complex128), b.flatten().to(torch.complex128))


def assert_adjoint(forward, adjoint, x, y, tolerance=1e-5):
    """<A x, y> = <x, A* y>."""
    left, right = inner(forward(x), y), inner(x, adjoint(y))
    assert abs(left - right) <= tolerance * (x.norm() * y.norm())


def assert_unitary(forward, inverse, x, tolerance=1e-5):
    """Energy is kept and the inverse undoes it."""
    y = forward(x)
    assert abs(y.norm() - x.norm()) <= tolerance * x.norm()
    assert (inverse(y) - x).norm() <= tolerance * x.norm()

"""Body surface, by which volumes are indexed."""

from __future__ import annotations

from collections.abc import Callable

from crnn_cli.errors import UsageError

FORMULAS: dict[str, Callable[[float, float], float]] = {
    "mosteller": lambda height, weight: (height * weight / 3600) ** 0.5,
    "dubois": lambda height, weight: 0.007184 * height**0.725 * weight**0.425,
}
"""Mosteller, N Engl J Med 317, 1987; Du Bois and Du Bois, Arch Intern Med 17, 1916."""


_WEIGHT_FOR_HEIGHT = (5, 120)  # kg/m2, the body mass index; height and weight exchanged give more


def is_plausible(height: float, weight: float) -> bool:
    """Whether height in cm and weight in kg can be those of a person.

    >>> is_plausible(180, 80), is_plausible(80, 180), is_plausible(1.8, 80)
    (True, False, False)
    """
    low, high = _WEIGHT_FOR_HEIGHT
    return 30 <= height <= 260 and 1 <= weight <= 500 and low <= weight / (height / 100) ** 2 <= high


def body_surface(height: float, weight: float, formula: str = "mosteller") -> float:
    """Body surface in m2.

    Parameters
    ----------
    height : in cm.
    weight : in kg.
    formula : a key of `FORMULAS`.

    >>> round(body_surface(180, 80), 3), round(body_surface(180, 80, "dubois"), 3)
    (2.0, 1.996)

    Raises
    ------
    UsageError
        If height or weight cannot be those of a person.
    """
    if not is_plausible(height, weight):
        raise UsageError(f"a height of {height:g} cm and a weight of {weight:g} kg cannot be: give cm and kg")
    return FORMULAS[formula](height, weight)

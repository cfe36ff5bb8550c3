"""Checks of what a JSON file holds: keys, types, sizes; and values shortened for messages."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from crnn_cli.errors import UnreadableError

Kinds = dict[str, type | tuple[type, ...]]
"""Type, or types, of the value of each key."""
LARGEST = 1e300
"""Above any number that means something; below what a float holds."""
_LONGEST = 60


def is_number(given: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given)


def check_shares(where: str, given: Any, count: int) -> tuple[float, ...]:
    """Numbers from 0 to 1, one for each of ``count`` labels.

    Raises
    ------
    UnreadableError
        If they are not.
    """
    numbers = given if isinstance(given, list) else []
    if len(numbers) != count or not all(is_number(v) and 0 <= v <= 1 for v in numbers):
        raise UnreadableError(f"{where} is {shortened(given)}; it must be {count} numbers from 0 to 1, one a label")
    return tuple(float(v) for v in numbers)


def check_types(where: str, given: Mapping[str, Any], kinds: Kinds) -> None:
    """Refuse unknown and missing keys, values of another type, and integers out of range.

    Parameters
    ----------
    where : the keys are, for the message.
    kinds : type of the value of each key.

    Raises
    ------
    UnreadableError
        At the first that will not do.
    """
    check_keys(where, given, kinds)
    for key, kind in kinds.items():
        value = given[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UnreadableError(f"{where}: {key} is {shortened(value)}, which is not of the right type")
        if isinstance(value, int) and not abs(value) < LARGEST:
            raise UnreadableError(f"{where}: {key} is {shortened(value)}, which is out of range")


def shortened(value: Any) -> str:
    """A value of a file for a message, of at most 60 characters however large it is.

    >>> shortened({"a": 1}), len(shortened("x" * 1000)), shortened(10**5000)
    ("{'a': 1}", 30, 'a number of about 5001 digits')
    """
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"a number of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    text = reprlib.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def check_keys(
    source: str, given: Iterable[str], known: Iterable[str], complete: bool = True, noun: str = "key"
) -> None:
    """Refuse unknown and missing keys.

    Parameters
    ----------
    source : of the keys, for the message.
    given, known : the keys there are, and those there may be.
    complete : whether all known keys must be there.
    noun : for a key, in the message.

    Raises
    ------
    UnreadableError
        At the first key that is unknown, naming the nearest known one, or that is missing.
    """
    given, known = list(given), list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0)
            raise UnreadableError(f"{source} has an unknown {noun} {shortened(key)}; the nearest known is {near[0]!r}")
    missing = [key for key in known if key not in given]
    if complete and missing:
        raise UnreadableError(f"{source} lacks the {noun} {missing[0]!r}")

"""Names of labels inside a NIfTI file: a comment extension with a line of JSON, which other programs pass over.

A label map on its way through a pipe has no report beside it that could say what its values mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from nibabel.nifti1 import Nifti1Extension

from crnn_cli.labels.names import COLOURS, Label

_COMMENT = 6  # code of an extension with plain text
_KEY = "crnn_labels"
_MOST = 255
_LONGEST = 2**16  # bytes of a comment that is looked at


def names_extension(labels: Sequence[Label]) -> Nifti1Extension:
    """Extension with value, name, colour and codes of each label."""
    return Nifti1Extension(_COMMENT, json.dumps({_KEY: [asdict(label) for label in labels]}).encode())


def names_in(extensions: Iterable[Any]) -> tuple[Label, ...]:
    """Labels of the first extension that holds them; none where there is no such one, or it is damaged.

    >>> names_in([names_extension([Label(3, "left ventricle", (255, 80, 80))])])[0].name
    'left ventricle'
    """
    for extension in extensions:
        if extension.get_code() != _COMMENT:
            continue
        try:
            content = extension.get_content()
            text = (content if isinstance(content, bytes) else str(content).encode())[:_LONGEST].rstrip(b"\0 ")
            return tuple(_label(entry) for entry in json.loads(text)[_KEY][:_MOST])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return ()


def _label(entry: dict[str, Any]) -> Label:
    """A label of plain values.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is none.
    """
    value, name = entry["value"], entry["name"]
    if type(value) is not int or not 0 < value <= _MOST or not isinstance(name, str) or not name.strip():
        raise ValueError(f"{value!r} and {name!r} are no value and name of a label")
    colour = entry.get("colour")
    shown = COLOURS[(value - 1) % len(COLOURS)]
    if isinstance(colour, list) and len(colour) == 3 and all(type(c) is int and 0 <= c <= 255 for c in colour):
        shown = (colour[0], colour[1], colour[2])
    return Label(value, name, shown, _code(entry.get("code")), _code(entry.get("modifier")))


def _code(given: Any) -> tuple[str, str, str] | None:
    whole = isinstance(given, list) and len(given) == 3 and all(isinstance(part, str) and part for part in given)
    return (given[0], given[1], given[2]) if whole else None

"""Names and origin of labels inside a NIfTI file: comment extensions of JSON, which other programs pass over.

A label map on its way through a pipe has no report beside it that could say what its values mean, and who made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from nibabel.nifti1 import Nifti1Extension

from crnn_cli.labels.label_origin import LabelOrigin, origin_of
from crnn_cli.labels.names import Label, label_of

_COMMENT = 6  # code of an extension with plain text
_KEY, _ORIGIN = "crnn_labels", "crnn_origin"
_MOST = 255  # labels that are looked at
_LONGEST = 2**16  # bytes of a comment that is looked at


def names_extension(labels: Sequence[Label]) -> Nifti1Extension:
    """Extension with value, name, colour and codes of each label."""
    return Nifti1Extension(_COMMENT, json.dumps({_KEY: [asdict(label) for label in labels]}).encode())


def origin_extension(origin: LabelOrigin) -> Nifti1Extension:
    """Extension with the model of a label map and its predicted Dice."""
    return Nifti1Extension(_COMMENT, json.dumps({_ORIGIN: origin.as_json()}).encode())


def names_in(extensions: Iterable[Any]) -> tuple[Label, ...]:
    """Labels of the first extension that holds them; none where there is no such one, or it is damaged.

    >>> names_in([names_extension([Label(3, "left ventricle", (255, 80, 80))])])[0].name
    'left ventricle'
    """
    for entries in _held(extensions, _KEY):
        try:
            return tuple(label_of(entry) for entry in entries[:_MOST])
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return ()


def origin_in(extensions: Iterable[Any]) -> LabelOrigin | None:
    """Origin of the first extension that holds one; None where there is no such one, or it is damaged.

    >>> origin_in([origin_extension(LabelOrigin("cardiac-sax-clstm", "075c", {3: (0.95,)}))]).model
    'cardiac-sax-clstm'
    """
    return next(filter(None, map(origin_of, _held(extensions, _ORIGIN))), None)


def _held(extensions: Iterable[Any], key: str) -> Iterator[Any]:
    """What comments hold under a key; those that are no JSON are passed over."""
    for extension in extensions:
        if extension.get_code() != _COMMENT:
            continue
        try:
            content = extension.get_content()
            text = (content if isinstance(content, bytes) else str(content).encode())[:_LONGEST].rstrip(b"\0 ")
            yield json.loads(text)[key]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue

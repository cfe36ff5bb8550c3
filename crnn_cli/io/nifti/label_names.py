"""Names of labels inside a NIfTI file: a comment extension with a line of JSON, which other programs pass over.

A label map on its way through a pipe has no report beside it that could say what its values mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from nibabel.nifti1 import Nifti1Extension

from crnn_cli.labels.names import Label, label_of

_COMMENT = 6  # code of an extension with plain text
_KEY = "crnn_labels"
_MOST = 255  # labels that are looked at
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
            return tuple(label_of(entry) for entry in json.loads(text)[_KEY][:_MOST])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return ()

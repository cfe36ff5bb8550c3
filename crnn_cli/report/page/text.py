"""Text of a page, safe as HTML and XML."""

from __future__ import annotations

import html


def escaped(text: str) -> str:
    r"""Escape text for HTML; a character that cannot be shown becomes a question mark.

    >>> escaped("a < b \x01")
    'a &lt; b ?'
    """
    return html.escape("".join(sign if sign.isprintable() else "?" for sign in text))

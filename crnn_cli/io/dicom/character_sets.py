"""Character sets of DICOM text (SpecificCharacterSet, PS3.3 C.12.1.1.2), misspelt ones among them.

Text is decoded to Unicode once, and encoded again in the character set of the source where that holds all of it, else
in UTF-8 (ISO_IR 192).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import charset
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.valuerep import TEXT_VR_DELIMS

from crnn_cli.io.dicom.headers import silence_pydicom

UNICODE = "ISO_IR 192"
_SINGLE_BYTE = {13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 203}
_MULTI_BYTE = {58, 87, 149, 159}
_OF_ISO_8859 = {1: 100, 2: 101, 3: 109, 4: 110, 5: 144, 6: 127, 7: 126, 8: 138, 9: 148, 11: 166, 15: 203}
_NAMED = {
    "UTF 8": UNICODE, "UTF8": UNICODE, "ISO IR 192": UNICODE, "ISO 2022 IR 192": UNICODE, "UNICODE": UNICODE,
    "GB18030": "GB18030", "GB 18030": "GB18030", "GBK": "GBK", "ISO 2022 GBK": "GBK", "LATIN1": "ISO_IR 100",
    "LATIN 1": "ISO_IR 100", "ISO IR 6": "", "ASCII": "", "US ASCII": "", "": "",
}  # fmt: skip
_ALONE = {UNICODE, "GB18030", "GBK"}
_LEFT_OVER = re.compile("\x1b\\$\\)[AC]")  # escapes to Chinese and Korean, which pydicom leaves in the text
_LATIN_9 = "iso8859_15"  # ISO_IR 203, which pydicom does not know
_TEXT = {"PN", "LO", "SH", "ST", "LT", "UC", "UT"}


@dataclass(frozen=True)
class CharacterSet:
    """How the text of a header is encoded.

    Attributes
    ----------
    terms : as DICOM spells them; empty for the default repertoire (ASCII), or where nothing is known.
    codecs : of Python, in the order of the terms.
    verdict : "as it was", "respelt", or "unknown" where the header names no character set that exists.
    """

    terms: list[str]
    codecs: list[str]
    verdict: str

    def decode(self, content: bytes) -> str:
        """Decode text; a name has its parts decoded one by one, as an escape ends with each.

        Raises
        ------
        UnicodeError
            If the bytes are no text in this character set.
        """
        if self.verdict == "unknown":
            return content.decode("ascii" if not _is_unicode(content) else "utf-8")
        if len(self.codecs) == 1 and b"\x1b" not in content:
            return content.decode(self.codecs[0])
        with silence_pydicom():
            text = charset.decode_bytes(content, self.codecs, TEXT_VR_DELIMS | {0x5E, 0x3D, 0x5C})
        text = _LEFT_OVER.sub("", text)
        if "\ufffd" in text:
            raise UnicodeDecodeError(self.codecs[-1], b"", 0, 0, "bytes that are no character")
        return text


def character_set_of(values: Sequence[str]) -> CharacterSet:
    """Understand the values of SpecificCharacterSet.

    >>> character_set_of(["", "iso-2022-ir 87"]).terms, character_set_of(["klingon"]).verdict
    (['', 'ISO 2022 IR 87'], 'unknown')
    """
    terms = [_spell(value) for value in values]
    if not any(values):
        return CharacterSet([], ["latin_1"], "as it was")
    if None in terms:
        return CharacterSet([], ["ascii"], "unknown")
    known = [term or "" for term in terms]
    codecs = [_codec(term) for term in known]
    if known[0] in _ALONE:
        known, codecs = known[:1], codecs[:1]
    elif any(term in _ALONE for term in known):
        return CharacterSet([], ["ascii"], "unknown")
    if len(known) == 1 and known[0] in {f"ISO 2022 IR {n}" for n in _MULTI_BYTE}:
        known = ["", *known]  # the first is of one byte; the text may still lack the escape that would name the second
    if not any(known):
        known = []
    return CharacterSet(known, codecs, "as it was" if _same(values, known) else "respelt")


def _same(values: Sequence[str], terms: Sequence[str]) -> bool:
    return ["" if value in ("ISO_IR 6", "ISO 2022 IR 6") else value for value in values] == (list(terms) or [""])


def _spell(value: str) -> str | None:
    """Defined term that a value means; "" for the default repertoire, None if none is meant."""
    words = " ".join(re.sub(r"[_\-.\s]+", " ", value.upper()).split())
    if words in _NAMED:
        return _NAMED[words]
    latin = re.fullmatch(r"ISO ?8859 (\d{1,2})", words)
    if latin and int(latin[1]) in _OF_ISO_8859:
        return f"ISO_IR {_OF_ISO_8859[int(latin[1])]}"
    plain = re.fullmatch(r"ISO ?IR ?(\d{1,3})", words)
    extended = re.fullmatch(r"ISO ?2022 ?(?:IR)? ?(\d{1,3})", words)
    if plain and int(plain[1]) in _SINGLE_BYTE:
        return f"ISO_IR {int(plain[1])}"
    match = extended or plain
    if match is None:
        return None
    number = int(match[1])
    if number == 6:
        return ""
    return f"ISO 2022 IR {number}" if number in _SINGLE_BYTE | _MULTI_BYTE else None


def _codec(term: str) -> str:
    if term.endswith(" 203"):
        return _LATIN_9
    return charset.python_encoding[term]


def _is_unicode(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeError:
        return False
    return True


def settle_character_set(data: Dataset) -> None:
    """Keep the character set of a dataset if it holds all text in it, else declare UTF-8; sequences are looked into."""
    with silence_pydicom():
        texts = {text for text in _texts(data) if not text.isascii()}
        if texts and not _holds(data.get("SpecificCharacterSet"), texts):
            data.SpecificCharacterSet = UNICODE


def _texts(data: Dataset) -> list[str]:
    found: list[str] = []
    for element in data:
        if element.VR == "SQ":
            for item in element.value:
                found += _texts(item)
        elif element.VR in _TEXT and element.value is not None:
            several = element.VM > 1 and not isinstance(element.value, str)
            found += [str(value) for value in (element.value if several else [element.value])]
    return found


def _holds(terms: Any, texts: set[str]) -> bool:
    """Whether texts come back from a file as they went into it."""
    for text in texts:
        written = Dataset()
        written.PatientName = text
        if terms:
            written.SpecificCharacterSet = terms
        stored = BytesIO()
        stream = DicomIO(stored)
        stream.is_little_endian, stream.is_implicit_VR = True, True
        try:
            write_dataset(stream, written)
            stored.seek(0)
            if str(read_dataset(stored, True, True).PatientName) != text:
                return False
        except (UnicodeError, LookupError, ValueError):
            return False
    return True

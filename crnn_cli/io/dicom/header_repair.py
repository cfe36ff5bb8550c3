"""Attributes of a source header, as DICOM spells them (PS3.5, 6.2), for new objects.

Scanners and archives write dates with dashes, a sex of "Male", character sets that do not exist. An attribute whose
value is only misspelt is respelt; one that says nothing DICOM allows is left out. Both are told by the name of the
attribute, never by its value, which may be a person's. Free text stays as it is, however long.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from crnn_cli.io.dicom.character_sets import CharacterSet, character_set_of
from crnn_cli.notices import Doubt

_UNPRINTED = " \0\t\r\n"
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_DATE = re.compile(r"(\d{4})[-./ ]?(\d{2})[-./ ]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?")
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64
_CONTROL = dict.fromkeys([*range(0x20), 0x7F])
_TERMS: dict[str, tuple[str, ...]] = {
    "PatientSex": ("M", "F", "O"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "Laterality": ("R", "L"),
    "MRAcquisitionType": ("2D", "3D"),
    "ScanningSequence": ("SE", "IR", "GR", "EP", "RM"),
    "InPlanePhaseEncodingDirection": ("ROW", "COL"),
    "RotationDirection": ("CW", "CC"),
}
_SYNONYMS = {
    "PatientSex": {"MALE": "M", "FEMALE": "F", "OTHER": "O"},
    "InPlanePhaseEncodingDirection": {"COLUMN": "COL"},
}
_TEXT = {"PN", "LO", "SH", "ST", "LT", "UC", "UT"}


@dataclass
class Repairs:
    """Names of the attributes that were respelt, and of those that were left out, in the order of their discovery."""

    respelt: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)

    def doubts(self) -> list[Doubt]:
        """What was done; no value is quoted."""
        found = []
        if self.respelt:
            text = f"attributes misspelt in the source are respelt in what is made: {', '.join(self.respelt)}"
            found.append(Doubt("dicom-attributes-respelt", text))
        if self.left_out:
            text = f"attributes unusable in the source are left out of what is made: {', '.join(self.left_out)}"
            found.append(Doubt("dicom-attributes-left-out", text))
        return found


def usable_attributes(source: Dataset, keywords: Sequence[str], repairs: Repairs) -> Dataset:
    """Copy the attributes that are there and not empty, respelt where that is enough.

    Parameters
    ----------
    source : a header, its values perhaps still raw.
    keywords : of the attributes; SpecificCharacterSet is seen to in any case, where there is text.
    repairs : is told what was respelt and what left out.
    """
    characters = character_set_of(_values(source, "SpecificCharacterSet"))
    data = Dataset()
    for keyword in keywords:
        if keyword != "SpecificCharacterSet" and keyword in source:
            _copy(source, keyword, data, characters, repairs)
    _declare(characters, data, repairs)
    return data


def _copy(source: Dataset, keyword: str, data: Dataset, characters: CharacterSet, repairs: Repairs) -> None:
    """Copy one attribute."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    vr = dictionary_VR(tag)
    if vr in _TEXT:
        _copy_text(source, keyword, vr, data, characters, repairs)
        return
    if vr not in _SPELLING:
        _copy_element(source, keyword, data, repairs)
        return
    given = _values(source, keyword)
    if not any(given):
        return
    spelt = _right_number([_spell(keyword, vr, value) for value in given], dictionary_VM(tag))
    if spelt is None:
        repairs.left_out[keyword] = None
        return
    if spelt != given:
        repairs.respelt[keyword] = None
    data[keyword] = DataElement(tag, vr, spelt if len(spelt) > 1 else spelt[0], already_converted=False)


def _copy_element(source: Dataset, keyword: str, data: Dataset, repairs: Repairs) -> None:
    """Copy a sequence or a binary number as pydicom reads it."""
    try:
        element = source[keyword]
        if not element.is_empty:
            data[keyword] = element
    except Exception:  # a parser of hostile files: whatever it raises, the attribute is what is wrong
        repairs.left_out[keyword] = None


def _copy_text(
    source: Dataset, keyword: str, vr: str, data: Dataset, characters: CharacterSet, repairs: Repairs
) -> None:
    """Copy a name or a free text in Unicode, without control characters."""
    try:
        texts = _raw_texts(source, keyword, characters)
    except (UnicodeError, LookupError, ValueError, TypeError, AttributeError):
        repairs.left_out[keyword] = None
        return
    clean = [text.translate(_CONTROL).strip(" ") for text in texts]
    if not any(clean):
        return
    if clean != [text.strip(_UNPRINTED) for text in texts]:
        repairs.respelt[keyword] = None
    data.add_new(keyword, vr, clean if len(clean) > 1 else clean[0])


def _raw_texts(source: Dataset, keyword: str, characters: CharacterSet) -> list[str]:
    """Text values; a backslash separates values where the VR is not that of a paragraph."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    element = source.get_item(tag)
    if isinstance(element, RawDataElement):
        text = characters.decode(element.value or b"")
    elif isinstance(element, DataElement):
        several = isinstance(element.value, MultiValue | list)
        parts = [str(v) for v in element.value] if several else ["" if element.value is None else str(element.value)]
        text = "\\".join(parts)
    else:
        return []
    return [text] if dictionary_VR(tag) in ("ST", "LT", "UT") else text.split("\\")


def _values(source: Dataset, keyword: str) -> list[str]:
    """Values of an attribute of text in ASCII, as they stand in the file, without padding."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    element = source.get_item(tag) if tag in source else None
    if element is None:
        return []
    value = element.value
    if isinstance(element, RawDataElement) and (element.VR is None or element.VR in (*_SPELLING, "UN", "LO", "SH")):
        value = (value or b"").decode("latin-1").split("\\")
    elif isinstance(element, RawDataElement):  # binary numbers in place of text
        try:
            value = source[keyword].value
        except Exception:  # a parser of hostile files: whatever it raises, the attribute is what is wrong
            return ["?"]
    several = isinstance(value, MultiValue | list | tuple)
    texts = ["" if v is None else str(v) for v in (value if several else [value])]
    return [text.strip(_UNPRINTED) for text in texts]


def _right_number(values: list[str | None], allowed: str) -> list[str] | None:
    """Values in a number that the attribute may have; a single one that was repeated counts once. None if unusable."""
    usable = [value for value in values if value is not None]
    if len(usable) < len(values) or not usable:
        return None
    least, _, most = allowed.partition("-")
    if len(usable) < int(least):
        return None
    if (most or least).isdigit() and len(usable) > int(most or least):
        return [usable[0]] if int(most or least) == 1 and len(set(usable)) == 1 else None
    return usable


def _spell(keyword: str, vr: str, value: str) -> str | None:
    """Spell one value as its VR asks for; None if it cannot be."""
    spelt = _SPELLING[vr](value)
    spelt = _SYNONYMS.get(keyword, {}).get(spelt or "", spelt)
    return None if spelt not in _TERMS.get(keyword, (spelt,)) else spelt


def _date(value: str) -> str | None:
    match = _DATE.fullmatch(value)
    if match is None:
        return None
    try:
        return datetime.date(*(int(part) for part in match.groups())).strftime("%Y%m%d").zfill(8)
    except ValueError:
        return None


def _time(value: str) -> str | None:
    match = _TIME.fullmatch(value)
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    if int(hours) > 23 or int(minutes or 0) > 59 or int(seconds or 0) > 60:
        return None
    return "".join(part or "" for part in (hours, minutes, seconds)) + (f".{fraction[:6]}" if fraction else "")


def _age(value: str) -> str | None:
    match = _AGE.fullmatch(value.upper().replace(" ", ""))
    return None if match is None else f"{int(match[1]):03d}{match[2]}"


def _code(value: str) -> str | None:
    upper = value.upper()
    return upper if _CODE.fullmatch(upper) or upper == "" else None


def _decimal(value: str) -> str | None:
    text = value.replace(",", ".") if value.count(",") == 1 and "." not in value else value
    try:
        number = float(text.replace("_", "?"))
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return text if len(text) <= 16 else decimals([number])[0]


def _integer(value: str) -> str | None:
    number = _decimal(value)
    if number is None or float(number) % 1 or not -(2**31) <= float(number) < 2**31:
        return None
    return value if re.fullmatch(r"[+-]?\d{1,12}", value) else str(int(float(number)))


def _uid(value: str) -> str | None:
    """UID without padding; one with superfluous zeros is kept: it names what an archive knows by that name."""
    return value if _UID.fullmatch(value) and len(value) <= _LONGEST_UID else None


_SPELLING: dict[str, Callable[[str], str | None]] = {
    "DA": _date, "TM": _time, "AS": _age, "CS": _code, "DS": _decimal, "IS": _integer, "UI": _uid,
}  # fmt: skip


def decimals(values: Sequence[float]) -> list[str]:
    """Format numbers as DICOM decimal strings (DS) of at most 16 characters, as exact as these can be.

    >>> decimals([1.5, -1 / 3])
    ['1.5', '-0.3333333333333']
    """
    texts = []
    for value in values:
        text = repr(float(value))
        for digits in range(16, 0, -1):
            if len(text) <= 16:
                break
            text = f"{value:.{digits}g}"
        texts.append(text)
    return texts


def _declare(characters: CharacterSet, data: Dataset, repairs: Repairs) -> None:
    """State the character set of the source, respelt; nothing where it had none or a meaningless one."""
    if characters.terms:
        data.SpecificCharacterSet = characters.terms if len(characters.terms) > 1 else characters.terms[0]
    if characters.verdict == "respelt":
        repairs.respelt["SpecificCharacterSet"] = None
    elif characters.verdict == "unknown":
        repairs.left_out["SpecificCharacterSet"] = None

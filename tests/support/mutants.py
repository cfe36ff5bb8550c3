"""Mutations of files: bytes of any file, what is packed inside, and values of JSON, TOML, CSV, DICOM and HDF5."""

from __future__ import annotations

import copy
import gzip
import io
import json
import math
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom

Dice = np.random.Generator
DEEP = json.loads("[" * 400 + "]" * 400)
ODD = (
    None, True, False, 0, -1, 2**31, 2**63, 10**400, 1e-300, 1e308, math.nan, math.inf, "", " ", "abc", "\x1b[31mx",
    "\0", "../..", "/dev/zero", "/dev/null", "x" * 10_000, [], {}, [[]], {"a": {"b": 1}}, [1, "a", None], DEEP,
)  # fmt: skip
"""Values that may stand where another is meant."""
_NUMBERS = (0, 1, -1, 127, 255, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**62)


def pick(dice: Dice, choices: Any) -> Any:
    """One of several choices."""
    return choices[int(dice.integers(len(choices)))]


def mutated_bytes(content: bytes, dice: Dice) -> bytes:
    """Change bits, bytes, numbers or runs, or cut, repeat or empty the file; beginnings are hit more often."""
    if not content:
        return b"x"
    kind = int(dice.integers(9))
    near = min(len(content), 2048) if dice.random() < 0.6 else len(content)
    at = int(dice.integers(near))
    changed = bytearray(content)
    if kind == 0:
        changed[at] ^= 1 << int(dice.integers(8))
    elif kind == 1:
        for place in dice.integers(near, size=int(dice.integers(1, 30))):
            changed[int(place)] = int(dice.integers(256))
    elif kind == 2:
        size = pick(dice, "hiq")
        number = struct.pack(f"<{size}", _wrapped(pick(dice, _NUMBERS), struct.calcsize(size)))
        changed[at : at + len(number)] = number
    elif kind == 3:
        changed[at : at + int(dice.integers(1, 600))] = bytes(int(dice.integers(600)))
    elif kind == 4:
        return content[:at]
    elif kind == 5:
        return content + content[at:]
    elif kind == 6:
        return content[:at] + dice.bytes(int(dice.integers(1, 300))) + content[at:]
    elif kind == 7:
        return content[:at] + content[at + int(dice.integers(1, 300)) :]
    else:
        return pick(dice, (b"", content[:1], bytes(len(content)), dice.bytes(500), b"[" * 100_000))
    return bytes(changed)


def _wrapped(number: int, size: int) -> int:
    number %= 1 << (8 * size)
    return number - (1 << (8 * size)) if number >= 1 << (8 * size - 1) else number


def mutate_packed(path: Path, dice: Dice) -> None:
    """Change what lies in a gzip or zip file, and pack it again; any other file by its bytes."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b" and dice.random() < 0.7:
        path.write_bytes(gzip.compress(mutated_bytes(gzip.decompress(content), dice), 1))
    elif content[:2] == b"PK" and dice.random() < 0.7:
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
            hit = int(dice.integers(len(old.infolist())))
            for number, info in enumerate(old.infolist()):
                inside = old.read(info)
                new.writestr(info.filename, mutated_bytes(inside, dice) if number == hit else inside)
        path.write_bytes(made.getvalue())
    else:
        path.write_bytes(mutated_bytes(content, dice))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of nested dicts and lists."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def mutated_table(table: Any, dice: Dice) -> Any:
    """Replace one value of nested dicts and lists by an odd one, or leave it out, or add one."""
    changed = copy.deepcopy(table)
    path = pick(dice, list(places(changed)))
    node = changed
    for step in path[:-1]:
        node = node[step]
    if dice.random() < 0.15:
        del node[path[-1]]
    elif dice.random() < 0.1 and isinstance(node, dict):
        node["unknown"] = pick(dice, ODD)
    else:
        node[path[-1]] = pick(dice, ODD)
    return changed


def mutate_json(path: Path, dice: Dice) -> None:
    """Change a value of a JSON file, or its bytes."""
    if dice.random() < 0.3:
        path.write_bytes(mutated_bytes(path.read_bytes(), dice))
    else:
        path.write_text(json.dumps(mutated_table(json.loads(path.read_text()), dice)))


def mutate_text(path: Path, dice: Dice) -> None:
    """Change a value behind = or between commas by an odd one, or the bytes of a TOML or CSV file."""
    text = path.read_text()
    fields = list(re.finditer(r"(?<=[=,])[^,\n#]*", text))
    if dice.random() < 0.3 or not fields:
        path.write_bytes(mutated_bytes(path.read_bytes(), dice))
        return
    field, odd = pick(dice, fields), pick(dice, ODD)
    value = (
        json.dumps(odd) if dice.random() < 0.7 else pick(dice, ("1e400", "inf", "nan", "9" * 5000, "[" * 3000, "=1"))
    )
    path.write_text(f"{text[: field.start()]} {value}{text[field.end() :]}")


def mutate_dicom(path: Path, dice: Dice) -> None:
    """Change or remove an element of a DICOM file, or change its bytes."""
    if dice.random() < 0.5:
        path.write_bytes(mutated_bytes(path.read_bytes(), dice))
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path)
            element = pick(dice, list(data))
        if dice.random() < 0.3:
            del data[element.tag]
        else:
            value = pick(
                dice, (None, "", "abc", "9" * 300, "-1", "1e999", "nan", ["1", "2"], "\x1b[31m", "ü", 0, 2**31)
            )
            element._value = value
        data.save_as(path)
    except Exception:  # it was changed before, or the value cannot be written
        path.write_bytes(mutated_bytes(path.read_bytes(), dice))


def mutate_hdf5(path: Path, dice: Dice) -> None:
    """Replace or remove a data set of an HDF5 file, or change its bytes."""
    if dice.random() < 0.6:
        path.write_bytes(mutated_bytes(path.read_bytes(), dice))
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = pick(dice, names)
        shape = tuple(getattr(file[name], "shape", ()))
        del file[name]
        made = int(dice.integers(7))
        if made == 0:
            file.create_group(name)
        elif made == 1:
            file.create_dataset(name, (0,), np.complex64)
        elif made == 2:
            file.create_dataset(name, (3 * 10**8,), np.uint8, chunks=(2**16,), compression="gzip")
        elif made == 3:
            file[name] = pick(dice, (b"", b"<a", "text", 5, np.nan))
        elif made == 4:
            file[name] = np.full(shape or 3, np.nan + 0j, np.complex64)
        elif made == 5:
            file[name] = h5py.SoftLink(pick(dice, ("/", f"/{name}", "/nowhere")))

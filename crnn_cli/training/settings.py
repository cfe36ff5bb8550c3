"""Settings of a training run: frozen dataclasses with a meaning for each field, and TOML to and from them.

A settings class has fields of type bool, int, float, str, tuple of str, or another settings class (a TOML table). Its
``__post_init__`` raises ValueError where a value makes no sense.
"""

from __future__ import annotations

import json
import tomllib
import typing
from dataclasses import field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from crnn_cli.bundles.checks import check_keys, shortened
from crnn_cli.bundles.config import renamed_keys
from crnn_cli.data.input_files import read_small
from crnn_cli.errors import UnreadableError

Settings = TypeVar("Settings")
_LARGEST = 1e9
"""Above any setting that can be carried out: a run of a billion steps."""
_KINDS: dict[Any, Any] = {bool: bool, int: int, float: (int, float), str: str}


def setting(default: Any, says: str, formerly: str = "", *, added: bool = False) -> Any:
    """Declare a field of a settings class.

    Parameters
    ----------
    default : of the field.
    says : its meaning, the comment in the TOML file.
    formerly : its name in earlier versions, which files and resumed runs may still have.
    added : it came after the first version, which did what the default says: see `former_table`.
    """
    return field(default=default, metadata={"says": says, "formerly": formerly, "added": added})


def active_losses(weights: dict[str, float]) -> dict[str, float]:
    """Losses whose weight is above 0.

    >>> active_losses({"l1": 1.0, "ssim": 0.0})
    {'l1': 1.0}

    Raises
    ------
    ValueError
        If a weight is below 0, or none is above.
    """
    active = {name: value for name, value in weights.items() if value > 0}
    if not active or min(weights.values()) < 0:
        raise ValueError("weights of losses must be 0 or more, and one above 0")
    return active


def to_toml(settings: Any, name: str = "") -> str:
    """Write settings as TOML, complete, each with its meaning as a comment; nested settings become tables.

    Parameters
    ----------
    settings : an object of a settings class.
    name : of the table; empty at the top.
    """
    lines, tables = [], []
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value):
            tables.append(to_toml(value, f"{name}.{each.name}" if name else each.name))
        else:
            lines.append((f"{each.name} = {_literal(value)}", each.metadata.get("says", "")))
    width = max((len(line) for line, _ in lines), default=0)
    commented = [f"{line:<{width}}  # {says}" if says else line for line, says in lines]
    head = [f"[{name}]"] if name else []
    return "\n".join([*head, *commented, ""]) + "".join(f"\n{table}" for table in tables)


def former_table(settings: Any) -> dict[str, Any]:
    """Convert settings to a table with their former names, without added ones that have their default.

    Digests of it agree with those in checkpoints of earlier versions, which can therefore be resumed.
    """
    return {
        each.metadata.get("formerly") or each.name: former_table(value) if is_dataclass(value) else value
        for each in fields(settings)
        for value in [getattr(settings, each.name)]
        if not (each.metadata.get("added") and value == each.default)
    }


def read_toml(kind: type[Settings], file: Path) -> Settings:
    """Read settings from a TOML file; a setting that is not mentioned keeps its default.

    Parameters
    ----------
    kind : the settings class.
    file : TOML; former names of settings are understood.

    Raises
    ------
    UnreadableError
        If the file is not TOML, or has an unknown key (the message names the nearest known one), a value of the wrong
        type, or one that makes no sense.
    """
    try:
        given = tomllib.loads(read_small(file).decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{file} is not readable as TOML: {error}") from None
    return from_table(kind, given, str(file))


def from_table(kind: type[Settings], given: Any, source: str, before: Settings | None = None) -> Settings:
    """Read settings from a table, as `read_toml`.

    Parameters
    ----------
    kind : the settings class.
    given : the table.
    source : its name in messages.
    before : settings that hold where the table is silent; by default those of the class.
    """
    standing: Any = kind() if before is None else before
    if not isinstance(given, dict):
        raise UnreadableError(f"{source} must be a table")
    types = typing.get_type_hints(kind)
    given = renamed_keys(given, {each.name: each.metadata.get("formerly", "") for each in fields(standing)})
    check_keys(source, given, types, complete=False, noun="setting")
    values = {n: _value(types[n], value, f"{source}, {n}", getattr(standing, n)) for n, value in given.items()}
    try:
        settings: Settings = replace(standing, **values)
    except ValueError as error:
        raise UnreadableError(f"{source}: {error}") from None
    return settings


def _value(kind: Any, value: Any, where: str, before: Any) -> Any:
    if is_dataclass(kind):
        return from_table(typing.cast(type[Any], kind), value, where, before)
    if kind not in _KINDS:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise UnreadableError(f"{where} is {shortened(value)}; it must be a list of words")
        return tuple(value)
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind is not bool):
        raise UnreadableError(f"{where} is {shortened(value)}; it must be of type {kind.__name__}")
    if isinstance(value, int | float) and not abs(value) <= _LARGEST:
        raise UnreadableError(f"{where} is {shortened(value)}; that is out of range")
    return float(value) if kind is float else value


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(v) for v in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # the escapes of JSON strings are TOML's too
    return repr(value)

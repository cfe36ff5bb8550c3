"""PyTorch checkpoint files from anywhere: read without running code, and without believing the sizes they claim."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from crnn_cli.errors import UnreadableError

_SPARE = 2**20


def load_checkpoint(file: Path) -> Any:
    """Read a checkpoint of tensors, numbers, texts, lists and dicts; nothing else is unpickled (``weights_only``).

    Raises
    ------
    UnreadableError
        If the file is missing or damaged, holds anything else, or claims more values than it has.
    """
    try:
        size = file.stat().st_size
        _require_stored(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
        claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(state))
    except OSError as error:
        raise UnreadableError(f"{file} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch meets damage with nearly any kind of error
        reason = type(error).__name__
        raise UnreadableError(f"{file} is not a checkpoint of plain tensors, and was not executed ({reason})") from None
    if claimed > 2 * size + _SPARE:
        raise UnreadableError(f"{file} is damaged: its tensors would be {claimed} bytes, the file has {size}")
    return state


def tensors_in(state: Any) -> Iterator[torch.Tensor]:
    """All tensors of a checkpoint, however deep they lie."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors_in(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from tensors_in(value)


def digest_of_state(state: Any) -> str:
    """SHA-256 of everything in a checkpoint: structure, keys, numbers, and the values of the tensors."""
    summed = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous()
            summed.update(f"{tuple(plain.shape)} {plain.dtype};".encode())
            summed.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            summed.update(f"dict {len(value)};".encode())
            for key in value:
                add(key)
                add(value[key])
        elif isinstance(value, list | tuple):
            summed.update(f"list {len(value)};".encode())
            for each in value:
                add(each)
        else:
            summed.update(f"{type(value).__name__} {value!r};".encode())

    add(state)
    return summed.hexdigest()


def _require_stored(file: Path) -> None:
    """Refuse an archive with packed members: torch packs none, and what they unpack to would be unbounded."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("packed members")

"""Files and folders that appear together or not at all, even if the process is killed or the power fails on the way.

Beside the targets, in each folder that is written to, lie while a set is written:

.crnn-TOKEN.lock         locked (flock) as long as the writer lives; while targets are moved, it holds the journal
.crnn-TOKEN-N.SUFFIX     output N of the set, whole and on the disk before anything is moved
.crnn-TOKEN-N.earlier    what output N replaces
.crnn-commit.lock        locked while targets are moved, so that two sets do not mix

The journal lists what is moved. Where a lock lies and nobody holds it, its writer died: `recover` then puts back what
was replaced, and removes what the unfinished set had moved and what it left behind. A journal names files of its own
folder only, so that a folder from elsewhere cannot make others change.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crnn_cli.errors import OutputError

try:
    import fcntl
except ImportError:  # outside POSIX: sets are neither locked nor recovered
    fcntl = None  # type: ignore[assignment]

_PREFIX = ".crnn-"
_OWN = re.compile(r"\.crnn-([0-9a-f]{16})[-.].*")
_COMMIT = f"{_PREFIX}commit.lock"
_PATIENCE = 60.0  # s to wait for another set that is being moved
_OLD = 24 * 3600.0  # s after which temporary files of earlier versions, which had no locks, count as left behind
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_UNLINKABLE = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


@dataclass(frozen=True)
class _Entry:
    """An output of a set: its target, its temporary, and the name for what it replaces."""

    target: Path
    temporary: Path
    earlier: Path


@dataclass
class _Claim:
    """The lock of a set in a folder."""

    folder: Path
    token: str
    handle: int
    lock: Path
    journal: list[dict[str, Any]] = field(default_factory=list)


class WriteSet:
    """A set of files and folders that is moved into place by `commit`; before, the targets stay as they were.

    Used as a context; what was not committed is gone after it.

    Parameters
    ----------
    replace : without it, targets that exist are kept, and `commit` raises.

    Raises
    ------
    OutputError
        From all methods, if a folder cannot be written or the disk is full.
    """

    def __init__(self, replace: bool = True) -> None:
        self._replace = replace
        self._claims: dict[Path, _Claim] = {}
        self._entries: list[_Entry] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for claim in self._claims.values():
            _end(claim)

    def add_file(self, target: Path, chunks: Iterable[bytes]) -> Path:
        """Write a file beside its target, with the rights of any new file of the user; its temporary name."""
        entry = self._add(target, "".join(target.suffixes[-2:]))
        with named_errors(target), entry.temporary.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        return entry.temporary

    def add_path(self, target: Path) -> Path:
        """Name for a file or folder beside its target, which the caller makes there before `commit`."""
        return self._add(target, "").temporary

    def add_folder(self, target: Path) -> Path:
        """Make an empty folder beside its target, to be filled before `commit`."""
        folder = self.add_path(target)
        with named_errors(target):
            folder.mkdir()
        return folder

    def temporary(self, target: Path) -> Path:
        """Where an output of the set lies until it is moved."""
        return next(entry.temporary for entry in self._entries if entry.target == target)

    def commit(self) -> None:
        """Put everything on the disk and move it into place, all or nothing.

        Raises
        ------
        OutputError
            Also if a target was made meanwhile and is not to be replaced.
        """
        for entry in self._entries:
            with named_errors(entry.target):
                sync_tree(entry.temporary)
        with contextlib.ExitStack() as locks:
            for folder in sorted(self._claims):
                locks.enter_context(_commit_lock(folder))
            try:
                self._keep_earlier()
                for claim in self._claims.values():
                    _write_journal(claim, len(self._claims))
                for entry in self._entries:
                    self._move(entry)
            except BaseException:
                for claim in self._claims.values():
                    _roll_back(claim.folder, claim.token, claim.journal)
                raise
            for claim in self._claims.values():
                _sync_folder(claim.folder)
                claim.lock.unlink(missing_ok=True)  # from here on the set is finished

    def _add(self, target: Path, suffix: str) -> _Entry:
        folder = target.parent
        if folder not in self._claims:
            with named_errors(target):
                self._claims[folder] = _claim(folder)
        start = f"{_PREFIX}{self._claims[folder].token}-{len(self._entries)}"
        entry = _Entry(target, folder / f"{start}{suffix}", folder / f"{start}.earlier")
        self._entries.append(entry)
        return entry

    def _keep_earlier(self) -> None:
        """Link what will be replaced, and note in the journals what will be moved."""
        for entry in self._entries:
            with named_errors(entry.target):
                exists = os.path.lexists(entry.target)
                if exists and not self._replace and not _is_empty_folder(entry.target):
                    raise made_meanwhile(entry.target)
                if exists and not _is_folder(entry.target):
                    _link(entry.target, entry.earlier)
                noted = {"name": entry.target.name, "earlier": entry.earlier.name, "mark": _mark(entry.temporary)}
                self._claims[entry.target.parent].journal.append(noted)

    def _move(self, entry: _Entry) -> None:
        target = entry.target
        with named_errors(target):
            if _is_folder(entry.temporary):
                if os.path.lexists(target) and not _is_empty_folder(target):
                    target.rename(entry.earlier)
                entry.temporary.rename(target)
            elif self._replace:
                entry.temporary.replace(target)
            elif not _link(entry.temporary, target):
                raise made_meanwhile(target)


def made_meanwhile(target: Path) -> OutputError:
    """Error for a target that appeared after it was looked for."""
    return OutputError(f"{target} was made by another program meanwhile; it was kept")


def recover(folder: Path) -> None:
    """Undo the unfinished sets in a folder whose writers died, and remove what they left behind.

    Sets that are being written are left alone, and so is all where the file system has no locks.

    Raises
    ------
    OutputError
        If another run does not stop writing there.
    """
    with contextlib.suppress(OSError):
        names = [each.name for each in os.scandir(folder) if each.name.startswith(_PREFIX)]
        if not names:
            return
        with _commit_lock(folder):  # which, left behind, goes with this
            for token in {match[1] for match in map(_OWN.fullmatch, names) if match}:
                with contextlib.suppress(OSError):  # another user's
                    _recover_set(folder, token)
        for name in names:
            if not _OWN.fullmatch(name) and name != _COMMIT:
                _remove_old(folder / name)


@contextlib.contextmanager
def named_errors(target: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError that names the target and the reason."""
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: f"no permission to write in {target.parent}",
            errno.EPERM: f"no permission to write in {target.parent}",
            errno.EFBIG: "the file would be larger than the limit set for this process",
            errno.ENOENT: f"the folder {target.parent} does not exist"
            if not target.parent.is_dir()
            else f"the file system at {target.parent} takes no new files",
        }.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"cannot write {target}: {reason}; nothing was left behind") from error


def sync_tree(path: Path) -> None:
    """Put a file, or a folder with all in it, on the disk (fsync)."""
    if not _is_folder(path):
        _sync(path)
        return
    for each in path.iterdir():
        sync_tree(each)
    _sync_folder(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EISDIR, errno.EACCES, errno.ENOTSUP):
            raise


def _claim(folder: Path) -> _Claim:
    """Lock a new token in a folder, after recovering what dead writers left there."""
    recover(folder)
    while True:
        token = secrets.token_hex(8)
        lock = folder / f"{_PREFIX}{token}.lock"
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if _try_lock(handle) is not False and _is_same(handle, lock):
            return _Claim(folder, token, handle, lock)
        os.close(handle)  # another run took it for one left behind


def _end(claim: _Claim) -> None:
    """Remove all that a set has beside its targets; those stay."""
    with contextlib.suppress(OSError):
        for path in _belongings(claim.folder, claim.token):
            _remove(path)
        claim.lock.unlink(missing_ok=True)
    os.close(claim.handle)


def _recover_set(folder: Path, token: str) -> None:
    lock = folder / f"{_PREFIX}{token}.lock"
    try:
        handle = os.open(lock, os.O_RDWR | _NO_LINK)
    except FileNotFoundError:  # removed last, or first after the set was moved: nobody needs the rest
        for path in _belongings(folder, token):
            _remove(path)
        return
    try:
        if _try_lock(handle) and _is_same(handle, lock):
            with os.fdopen(os.dup(handle), "rb") as stream:
                _roll_back(folder, token, _read_journal(stream.read(2**22), folder))
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _write_journal(claim: _Claim, folders: int) -> None:
    """Write the journal of a set that is in so many folders."""
    with named_errors(claim.folder / claim.journal[0]["name"]):
        os.write(claim.handle, json.dumps({"folders": folders, "moved": claim.journal}).encode())
        os.fsync(claim.handle)
        _sync_folder(claim.folder)


def _read_journal(content: bytes, folder: Path) -> list[dict[str, Any]]:
    """What the journal of a dead writer says that it moved; empty where it moved nothing, or all of it."""
    try:
        journal = json.loads(content)
        moved: list[dict[str, Any]] = [
            {"name": str(each["name"]), "earlier": str(each["earlier"]), "mark": [int(n) for n in each["mark"]]}
            for each in journal["moved"]
        ]
        folders = journal["folders"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    names = [name for each in moved for name in (each["name"], each["earlier"])]
    if any(name != Path(name).name or name in ("", "..") for name in names):
        return []
    finished = folders == 1 and all(_mark(folder / each["name"]) == each["mark"] for each in moved)
    return [] if finished else moved


def _roll_back(folder: Path, token: str, journal: list[dict[str, Any]]) -> None:
    """Remove what a set has moved, unless it was changed since, and put back what it replaced."""
    for each in journal:
        target, earlier = folder / each["name"], folder / each["earlier"]
        is_ours = _mark(target) == each["mark"]
        if is_ours and (_is_folder(target) or not os.path.lexists(earlier)):
            _remove(target)
        if earlier in _belongings(folder, token) and (is_ours or not os.path.lexists(target)):
            earlier.replace(target)
    for path in _belongings(folder, token):
        _remove(path)


def _belongings(folder: Path, token: str) -> list[Path]:
    return [folder / each.name for each in os.scandir(folder) if each.name.startswith(f"{_PREFIX}{token}-")]


def _mark(path: Path) -> list[int]:
    """What tells a file from another of the same name, and from itself after a change; empty where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return []
    return [found.st_ino, found.st_mtime_ns]


def _link(source: Path, target: Path) -> bool:
    """Give a file a second name, without replacing another; False if there is one.

    Where the file system has no links, the file is moved instead.
    """
    try:
        os.link(source, target, follow_symlinks=os.link not in os.supports_follow_symlinks)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        if os.path.lexists(target):
            return False
        source.rename(target)
    return True


@contextlib.contextmanager
def _commit_lock(folder: Path) -> Iterator[None]:
    """Wait until no other set is being moved in a folder."""
    path, until = folder / _COMMIT, time.monotonic() + _PATIENCE
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDONLY | _NO_LINK, 0o666)
        except PermissionError:  # left behind by another user
            yield
            return
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
        if _try_lock(handle) is not False and _is_same(handle, path):
            break
        os.close(handle)
        if time.monotonic() > until:
            raise OutputError(f"another run has been writing to {folder} for {_PATIENCE:.0f} s; try again later")
        time.sleep(0.02)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _try_lock(handle: int) -> bool | None:
    """Lock a file; False if another process has it, None where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_same(handle: int, path: Path) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_empty_folder(path: Path) -> bool:
    return _is_folder(path) and not any(path.iterdir())


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_old(path: Path) -> None:
    """Remove a temporary of an earlier version, but for a folder with data that it was to replace."""
    if time.time() - path.lstat().st_mtime > _OLD and not (path / "earlier").exists():
        _remove(path)

"""Sets of files appear together or not at all: whenever the process is killed, and however many write at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crnn_cli.data import write_set
from crnn_cli.data.write_set import WriteSet, recover
from crnn_cli.errors import OutputError
from crnn_cli.io.atomic_write import Output, require_writable, write_together

CALLS = ("link", "rename", "replace", "unlink", "fsync")
Listing = dict[str, bytes]


def listing(folder: Path) -> Listing:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def killed_at(number: int, action: Callable[[], None]) -> bool:
    """Run an action in a child process that kills itself at its n-th call of the system; whether it got that far."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = itertools.count(number, -1)

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **options: object) -> object:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counting

    supported = set(os.supports_follow_symlinks)
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    os.supports_follow_symlinks = supported | {os.link}
    try:
        action()
    finally:
        os._exit(0)


def write_files(folder: Path, content: bytes, replace: bool) -> None:
    outputs = [Output(folder / name, content) for name in ("images.nii.gz", "images.json", "heart.gif")]
    write_together(outputs, replace)


def write_series(folder: Path, content: bytes, replace: bool) -> None:
    with WriteSet(replace) as files:
        series = files.add_folder(folder / "series")
        for number in range(2):
            (series / f"IM{number}.dcm").write_bytes(content)
        files.add_file(folder / "series.json", [content])
        files.commit()


@pytest.mark.parametrize("write", [write_files, write_series])
@pytest.mark.parametrize(("there", "replace"), [(False, False), (False, True), (True, True)])
def test_killed_anywhere_all_is_as_before_or_all_is_new(
    write: Callable[[Path, bytes, bool], None], replace: bool, there: bool, tmp_path: Path
) -> None:
    """And nothing else is left after the next run has looked."""
    (tmp_path / "new").mkdir()
    write(tmp_path / "new", b"new", True)
    new, outcomes = listing(tmp_path / "new"), set()
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        if there:
            write(folder, b"old", True)
        old = listing(folder)
        killed = killed_at(number, lambda folder=folder: write(folder, b"new", replace))
        recover(folder)
        found = listing(folder)
        assert found in (old, new), (number, found)
        outcomes.add("new" if found == new else "old")
        if not killed:
            assert found == new
            break
        write(folder, b"new", replace or found == new)  # and what was unfinished does not stand in the way
        assert listing(folder) == new
    assert outcomes == {"old", "new"}
    assert number > 10


def test_what_was_changed_after_a_kill_is_kept(tmp_path: Path) -> None:
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        killed = killed_at(number, lambda folder=folder: write_files(folder, b"new", False))
        for path in folder.glob("images.json"):
            path.write_bytes(b"mine")
            os.utime(path, ns=(1, 1))
        recover(folder)
        mine = folder / "images.json"
        assert not mine.exists() or mine.read_bytes() == b"mine"
        if not killed:
            break


def test_a_set_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with WriteSet() as files:
        temporary = files.add_file(tmp_path / "a.nii", [b"ours"])
        recover(tmp_path)
        write_together([Output(tmp_path / "b.nii", b"other")])
        assert temporary.read_bytes() == b"ours"
        files.commit()
    assert listing(tmp_path) == {"a.nii": b"ours", "b.nii": b"other"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError(28, "full")])
@pytest.mark.parametrize("number", range(6))
def test_an_error_while_files_are_moved_undoes_the_set(
    error: BaseException, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, b"old", True)
    old, move, left = listing(tmp_path), Path.replace, itertools.count(number, -1)

    def failing(path: Path, target: Path) -> Path:
        if next(left) == 0:
            raise error
        return move(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    failed = False
    try:
        write_files(tmp_path, b"new", True)
    except (KeyboardInterrupt, SystemExit, OutputError):
        failed = True
    assert set(listing(tmp_path).values()) == {b"old" if failed else b"new"}
    assert sorted(listing(tmp_path)) == sorted(old)
    assert failed == (number < 3)


@pytest.mark.parametrize("replace", [False, True])
def test_runs_at_once_do_not_mix(replace: bool, tmp_path: Path) -> None:
    """Of several that write the same names, every file is of one; without replacing, all but one are refused."""
    refused: list[str] = []

    def write(number: int) -> None:
        try:
            write_files(tmp_path, str(number).encode(), replace)
        except OutputError as error:
            refused.append(str(error))

    for _ in range(5):
        refused.clear()
        for path in tmp_path.iterdir():
            path.unlink()
        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(listing(tmp_path).values())) == 1
        assert len(listing(tmp_path)) == 3
        assert len(refused) == (0 if replace else 5)
        assert all("kept" in text for text in refused)


def test_a_file_that_another_program_makes_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = write_set._write_journal

    def late(*arguments: object) -> None:
        journal(*arguments)  # type: ignore[arg-type]
        (tmp_path / "images.json").write_bytes(b"theirs")

    monkeypatch.setattr(write_set, "_write_journal", late)
    with pytest.raises(OutputError, match="kept"):
        write_files(tmp_path, b"ours", False)
    assert listing(tmp_path) == {"images.json": b"theirs"}


def test_all_is_on_the_disk_before_anything_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    synced, moved = os.fsync, os.replace

    def fsync(handle: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        synced(handle)

    def replace(source: Path, target: Path) -> None:
        done.append(f"move {Path(target).name}")
        moved(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_series(tmp_path, b"x", True)
    names = [each for each in done if each.startswith("move")]
    first = done.index(names[0])
    for wanted in ("IM0.dcm", "IM1.dcm", ".json", ".lock", tmp_path.name):
        assert any(each.startswith("sync") and each.endswith(wanted) for each in done[:first]), wanted
    assert f"sync {tmp_path.name}" in done[done.index(names[-1]) :]


def test_a_journal_from_elsewhere_changes_nothing_outside_its_folder(tmp_path: Path) -> None:
    received, home = tmp_path / "received", tmp_path / "home"
    received.mkdir()
    home.mkdir()
    (home / "a").write_bytes(b"mine")
    found = (home / "a").lstat()
    token = "0123456789abcdef"
    for name in ("../home/b", "..", str(home / "b"), "../home/a"):
        (received / f".crnn-{token}-0.earlier").write_bytes(b"evil")
        entry = {"name": name, "earlier": f".crnn-{token}-0.earlier", "mark": [found.st_ino, found.st_mtime_ns]}
        (received / f".crnn-{token}.lock").write_text(json.dumps({"folders": 2, "moved": [entry]}))
        recover(received)
        assert listing(home) == {"a": b"mine"}
    for content in ("[" * 100_000, "5", '{"moved": 3}', '{"moved": [{"name": 1}], "folders": 1}', "\xff"):
        (received / f".crnn-{token}.lock").write_text(content)
        recover(received)
    assert not list(received.iterdir())


def test_leftovers_of_earlier_versions_go_after_a_day(tmp_path: Path) -> None:
    old, fresh, kept = tmp_path / ".crnn-abc", tmp_path / ".crnn-def.nii", tmp_path / ".crnn-ghi"
    old.write_bytes(b"")
    fresh.write_bytes(b"")
    (kept / "earlier").mkdir(parents=True)
    for path in (old, kept):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    require_writable(tmp_path / "a.nii", force=False)
    write_together([Output(tmp_path / "a.nii", b"x")])
    assert not old.exists()
    assert fresh.exists()
    assert kept.exists()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_rights_of_folders_and_files_follow_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_series(tmp_path, b"x", True)
    finally:
        os.umask(before)
    assert (tmp_path / "series").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "series.json").stat().st_mode & 0o777 == 0o666 & ~umask

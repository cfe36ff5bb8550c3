"""Files are there whole or not at all, with the rights of any other file of the user."""

import errno
import os
import tempfile

import pytest

from crnn_cli.errors import OutputError
from crnn_cli.io.atomic_write import Output, require_writable, write_together


def listing(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def old(tmp_path):
    """Return a folder with one file in it."""
    (tmp_path / "a.nii.gz").write_bytes(b"old")
    return tmp_path


def test_all_are_written_and_checked_beside_their_targets_before_any_is_moved(old):
    seen = []

    def check(temporary):
        seen.append(temporary.read_bytes())
        assert temporary.parent == old
        assert (old / "a.nii.gz").read_bytes() == b"old"
        assert not (old / "b.json").exists()

    write_together([Output(old / "a.nii.gz", b"new", check), Output(old / "b.json", b"{}", check)])
    assert seen == [b"new", b"{}"]
    assert listing(old) == {"a.nii.gz": b"new", "b.json": b"{}"}


@pytest.mark.parametrize("failure", [OutputError, KeyboardInterrupt, SystemExit])
def test_a_failed_check_leaves_everything_as_it_was(old, failure):
    def fail(temporary):
        raise failure

    with pytest.raises(failure):
        write_together([Output(old / "a.nii.gz", b"new"), Output(old / "b.json", b"{}", fail)])
    assert listing(old) == {"a.nii.gz": b"old"}


def test_a_folder_that_went_away_leaves_everything_as_it_was(old):
    with pytest.raises(OutputError, match=r"cannot write .*b\.json.*no does not exist"):
        write_together([Output(old / "a.nii.gz", b"new"), Output(old / "no" / "b.json", b"{}")])
    assert listing(old) == {"a.nii.gz": b"old"}


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EIO, os.strerror(errno.EIO))],
)
def test_a_disk_that_fails_while_writing_is_named_and_leaves_everything_as_it_was(old, monkeypatch, number, words):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=words):
        write_together([Output(old / "a.nii.gz", b"new")])
    assert listing(old) == {"a.nii.gz": b"old"}


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(old):
    (old / "b.json").mkdir()
    with pytest.raises(OutputError, match=r"b\.json"):
        write_together([Output(old / "b.json", b"{}")])
    assert listing(old) == {"a.nii.gz": b"old"}


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_rights_follow_the_umask_which_stays(tmp_path, umask, rights):
    before = os.umask(umask)
    try:
        write_together([Output(tmp_path / "a.nii", b"new")])
        after = os.umask(umask)
    finally:
        os.umask(before)
    assert after == umask
    assert (tmp_path / "a.nii").stat().st_mode & 0o777 == rights


def test_require_writable_looks_and_touches_nothing(old):
    (old / "folder").mkdir()
    require_writable(old / "new.nii", force=False)
    require_writable(old / "a.nii.gz", force=True)
    for target, force, words in (
        (old / "a.nii.gz", False, "replace it with force"),
        (old / "folder", True, "is a folder"),
        (old / "no" / "a.nii", True, "create it first"),
    ):
        with pytest.raises(OutputError, match=words):
            require_writable(target, force)
    assert listing(old) == {"a.nii.gz": b"old"}


def test_a_folder_without_permission_is_refused_before_the_work(tmp_path, monkeypatch):
    def fail(**options):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(tempfile, "mkstemp", fail)
    with pytest.raises(OutputError, match="no permission"):
        require_writable(tmp_path / "a.nii", force=False)


def test_without_replace_a_file_made_meanwhile_is_kept(tmp_path):
    def other_program(temporary):
        (tmp_path / "a.nii").write_bytes(b"theirs")

    with pytest.raises(OutputError, match="kept"):
        write_together([Output(tmp_path / "a.nii", b"ours", other_program)], replace=False)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.nii": b"theirs"}


def test_a_dangling_link_counts_as_existing(tmp_path):
    (tmp_path / "a.nii").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists"):
        require_writable(tmp_path / "a.nii", force=False)

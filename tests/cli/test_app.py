"""Each kind of failure ends with one line and its exit code."""

import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from crnn_cli.cli import console
from crnn_cli.cli.command import with_errors
from crnn_cli.errors import CrnnError, QualityError, UnreadableError
from crnn_cli.version import __version__
from tests.support.data import ROOT

PROGRAM = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["crnn"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CrnnError("so it is"), 1, "so it is"),
        (UnreadableError("so it is"), 3, "so it is"),
        (QualityError("so it is"), 6, "so it is"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 141, None),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
        (MemoryError("of 9 GB"), 5, "not enough memory: of 9 GB"),
        (MemoryError(), 5, "not enough memory"),
        (RuntimeError("CUDA out of memory.\nTried to allocate"), 5, "CUDA out of memory."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, "can't allocate memory"),
    ],
)
def test_failures_end_with_one_line_and_their_code(monkeypatch, capsys, error, code, words):
    monkeypatch.setattr(console, "close_stdout", lambda: None)

    def command():
        raise error

    with pytest.raises(typer.Exit) as caught:
        with_errors(command)()
    assert caught.value.exit_code == code
    err = capsys.readouterr().err
    if words is None:
        assert err == ""
        return
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_traceback(monkeypatch):
    class Interrupted:
        def find_spec(self, name, path=None, target=None):
            if name == "crnn_cli.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "crnn_cli.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        EntryPoint("crnn", PROGRAM, "console_scripts").load()()
    assert ended.value.code == 130


def test_a_defect_of_ours_is_not_hidden():
    def command():
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        with_errors(command)()


def test_version_and_help(crnn):
    assert crnn("--version").out.decode() == f"crnn {__version__}\n"
    assert crnn("-h").out == crnn("--help").out
    assert crnn("--version", "info").code == 0


def test_quiet_keeps_data_and_errors(crnn, scan, tmp_path):
    assert crnn("-q", "info", scan[2]).err == ""
    ended = crnn("-q", "info", scan[2], "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(b"{")
    assert crnn("-q", "info", tmp_path / "none.nii").err.startswith("error: ")
    assert crnn("-v", "info", scan[2]).out == crnn("-q", "info", scan[2]).out != b""


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("info - <&-", 3, "standard input is closed"),
        ("models list --json >&-", 2, "standard output is closed"),
        ("info nothing.nii 2>&-", 3, ""),
        pytest.param(
            "--version >/dev/full", 1, "writing failed",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system"),
        ),
        pytest.param(
            "info nothing.nii 2>/dev/full", 3, "",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system"),
        ),
        ("reconstruct .", 3, "folder"),
        ("info dangling.h5", 3, "is a link to gone.h5, which does not exist"),
        ("reconstruct loop.nii", 3, "symbolic links"),
    ],
)  # fmt: skip
def test_odd_streams_and_names_end_in_one_line(tmp_path, line, code, words):
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    (tmp_path / "dangling.h5").symlink_to("gone.h5")
    root = ROOT
    script = f"PYTHONPATH={shlex.quote(str(root))} {shlex.quote(sys.executable)} -m crnn_cli {line}"
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert ended.stderr.count("\n") <= 1

"""What comes from files cannot command the terminal or a spreadsheet, and signals end a command cleanly."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_cli.cli.app import leave_no_cache
from crnn_cli.cli.console import printable
from crnn_cli.labels.statistics import LabelStatistics
from crnn_cli.report.label_table import statistics_output
from tests.support.cines import moving_cine, save
from tests.support.command_line import Ended

ESCAPES = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202egnp.\r\x08"


@given(st.text(st.characters(), max_size=30))
def test_nothing_that_a_terminal_obeys_is_printed(text: str) -> None:
    said = printable(text)
    assert all(unicodedata.category(letter) != "Cc" or letter in "\t\n" for letter in said)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", said)
    said.encode()
    if all(
        unicodedata.category(letter)[0] in "LNZPS" and unicodedata.category(letter) not in ("Zl", "Zp")
        for letter in text
    ):
        assert said == text


def test_escapes_in_names_are_shown_and_not_obeyed(crnn: Callable[..., Ended], bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{ESCAPES}.nii"
    cases: list[tuple[object, ...]] = [
        ("info", path), ("convert", path, tmp_path / "a.nii"), ("models", "show", ESCAPES), (ESCAPES,),
        ("info", f"--{ESCAPES}"), ("segment", path, "-o", path), ("reconstruct", path, "--axes", ESCAPES),
    ]  # fmt: skip
    for content in (None, b"x"):
        if content is not None:
            path.write_bytes(content)
        for arguments in cases:
            ended = crnn(*arguments)
            assert ended.code in (2, 3), arguments
            said = ended.err + ended.out.decode()
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", said), arguments
    save(path, moving_cine(z=1))
    ended = crnn("info", path)
    assert ended.code == 0
    assert b"\x1b" not in ended.out
    assert b"\\x1b[31mred" in ended.out
    card = bundle / "README.md"
    before = card.read_bytes()
    try:
        card.write_bytes(b"\xff\x1b[31m# card\n")
        ended = crnn("models", "show", bundle)
    finally:
        card.write_bytes(before)
    assert ended.code == 0
    assert b"\\x1b[31m# card" in ended.out


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", ""])
def test_a_name_is_no_formula_in_a_spreadsheet(start: str) -> None:
    name = f'{start}HYPERLINK("http://a")'
    row = LabelStatistics(1, name, 0, 0.0, 1, 1.0, None, None, None, None)
    output = statistics_output([row], Path("a.csv"))
    assert isinstance(output.content, bytes)
    (read,) = csv.DictReader(io.StringIO(output.content.decode()))
    assert not read["name"].lstrip().startswith(("=", "+", "-", "@"))
    assert read["name"].endswith(name.replace("\t", r"\t"))
    assert read["volume_ml"] == "1.0"


def started(arguments: list[object], folder: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "crnn_cli", *map(str, arguments)], cwd=folder, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}, **options,
    )  # fmt: skip  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("number", "ignored", "code"),
    [(signal.SIGTERM, False, 143), (signal.SIGHUP, False, 129), (signal.SIGHUP, True, 0)],
)
def test_a_signal_ends_the_command_and_leaves_nothing(number: int, ignored: bool, code: int, tmp_path: Path) -> None:
    """Unless it is ignored, as under nohup."""
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "scan.nii.gz", moving_cine(96, 96, 1, 16))

    def ignore() -> None:
        signal.signal(number, signal.SIG_IGN)

    process = started(
        ["reconstruct", tmp_path / "in" / "scan.nii.gz", "-o", tmp_path / "out.nii.gz", "--method", "tv",
         "--undersample", 2, "--iterations", 2 if ignored else 100, "-v"],
        tmp_path, preexec_fn=ignore if ignored else None,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()  # it has begun
    time.sleep(0.3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == (["in", "out.json", "out.nii.gz"] if ignored else ["in"])


def test_torch_makes_no_folder_among_the_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    given: dict[str, str] = {}
    leave_no_cache(given)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", given["TORCHINDUCTOR_CACHE_DIR"])
    cache_dir()
    assert list(tmp_path.iterdir()) == []
    given = {"TORCHINDUCTOR_CACHE_DIR": "mine"}
    leave_no_cache(given)
    assert given == {"TORCHINDUCTOR_CACHE_DIR": "mine"}


def test_names_of_two_lines_stay_on_one(
    crnn: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cardiac.hearts import heart

    monkeypatch.setenv("COLUMNS", "200")
    whole = heart(frames=2, frame_time=0.3)
    path = tmp_path / "two\nli'nes\x1b.nii"
    shown = str(path).replace("\n", r"\n").replace("\x1b", r"\x1b")
    save(path, whole.array, 0.3, whole.affine)
    assert crnn("info", path).out.decode().splitlines()[0] == shown
    last = crnn("info", path).out.decode().splitlines()[-1]
    command = last.removeprefix("next: ").partition("  # ")[0]
    words = ["bash", "-c", f"printf '%s\\0' {command}"]
    found = subprocess.run(words, capture_output=True, check=True).stdout
    assert found.split(b"\0")[:3] == [b"crnn", b"labels", str(path).encode()]
    for arguments in (
        ("info", tmp_path / "ab\nsent.nii"), ("segment", path, "-o", "x.nii.gz"), ("labels", path, "-o", path),
        ("convert", path, tmp_path / "co\npy.nii"), ("evaluate", path, "--reference", tmp_path / "ab\nsent.nii"),
    ):  # fmt: skip
        lines = crnn(*arguments).err.splitlines()
        assert all(line.startswith(("error: ", "warning: ", "wrote ", "the weights ")) for line in lines), lines
    table = tmp_path / "heart.csv"
    ended = crnn("function", path, "--labels", "acdc", "--csv", table)
    assert ended.code == 0, ended.err
    assert len(table.read_text().splitlines()) == 2
    assert r"two\nli'nes" in table.read_text()

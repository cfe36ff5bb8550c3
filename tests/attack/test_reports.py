"""Reports that were damaged, or made by someone else, are refused or done again: no traceback, no hang."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crnn_cli.errors import UnreadableError
from crnn_cli.report.sidecar import read_sidecar
from crnn_cli.workflows.batch.resume import earlier_report
from tests.support.cines import moving_cine, save
from tests.support.command_line import Ended

Run = Callable[..., Ended]
DEEP = json.loads("[" * 500 + "]" * 500)
ODD = [
    None, True, -1, 10**400, 1e308, math.nan, math.inf, "", "abc", "\x1b[31m\u202e", "/dev/zero", [], {}, [[]],
    {"a": {}}, DEEP, ["x"] * 1000,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value can be replaced: every key and index of a report."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*path, index))


def replaced(report: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(report)
    node: Any = changed
    for step in path[:-1]:
        node = node[step]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return changed


@pytest.fixture
def images(crnn: Run, bundle: Path, tmp_path: Path) -> Path:
    """Return images with a report beside them."""
    scan, out = save(tmp_path / "scan.nii.gz", moving_cine(z=1)), tmp_path / "images.nii.gz"
    ended = crnn(
        "reconstruct", scan, "-o", out, "--model", bundle, "--undersample", 3, "--report", tmp_path / "first.html",
        "--device", "cpu",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return out


def test_every_key_of_a_report_may_be_anything(crnn: Run, images: Path) -> None:
    sidecar = images.with_name("images.json")
    report = json.loads(sidecar.read_text())
    rng, codes = np.random.default_rng(0), []
    everywhere = list(places(report))
    for number in range(24):
        path = everywhere[int(rng.integers(len(everywhere)))]
        value = ... if number % 5 == 0 else ODD[int(rng.integers(len(ODD)))]
        sidecar.write_text(json.dumps(replaced(report, path, value)))
        ended = crnn("report", images, "--force", "-o", images.with_name("page.html"))
        assert ended.code in (0, 3), (path, value, ended.err)
        assert "\x1b" not in ended.err
        codes.append(ended.code)
    assert {0, 3} <= set(codes)


@pytest.mark.parametrize("named", ["/dev/zero", "/dev/tty", "pipe", "/usr", "\0", "x" * 5000])
def test_the_input_that_a_report_names_need_not_be_one(crnn: Run, images: Path, named: str) -> None:
    sidecar = images.with_name("images.json")
    if named == "pipe":
        os.mkfifo(images.with_name("pipe"))
        named = str(images.with_name("pipe"))
    report = json.loads(sidecar.read_text())
    report["input"]["file"] = named
    sidecar.write_text(json.dumps(report))
    ended = crnn("report", images)
    assert ended.code in (0, 3)
    assert ended.code == 3 or "warning: The input" in ended.err


@pytest.mark.parametrize(
    "content", [b"", b"[" * 10**6, b"5", b"\xff", b'{"a": ' + b"9" * 10**5 + b"}", bytes(2**24 + 1)]
)
def test_what_is_no_report_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "images.json").write_bytes(content)
    with pytest.raises(UnreadableError):
        read_sidecar(tmp_path / "images.json")
    assert earlier_report(tmp_path / "images.nii.gz", {}, None) is None


def test_a_report_that_never_ends_is_refused(tmp_path: Path) -> None:
    for number, target in enumerate(("/dev/zero", "pipe")):
        path = tmp_path / f"{number}.json"
        if target == "pipe":
            os.mkfifo(tmp_path / "pipe")
        path.symlink_to(target)
        with pytest.raises(UnreadableError):
            read_sidecar(path)


def test_a_batch_does_again_what_has_a_damaged_report(crnn: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "scan.nii.gz", moving_cine(x=16, y=16, z=1, t=3))
    arguments = ("batch", "reconstruct", tmp_path / "in", "-o", tmp_path / "out", "--model", bundle, "--undersample", 2,
                 "--max-residual", 100, "--device", "cpu", "--json", "--resume")  # fmt: skip

    def statuses() -> list[str]:
        ended = crnn(*arguments)
        assert ended.code == 0, ended.err
        return [json.loads(line)["status"] for line in ended.out.splitlines() if b'"status"' in line]

    assert statuses() == ["done"]
    assert statuses() == ["skipped"]
    (sidecar,) = (tmp_path / "out").glob("*.json")
    report = json.loads(sidecar.read_text())
    odd = [replaced(report, ("reliability",), DEEP), replaced(report, ("reliability",), "abc"),
           replaced(report, ("input",), DEEP), replaced(report, ("output",), ...), replaced(report, ("output",), [5]),
           *(replaced(report, ("batch", "outputs"), {name: "0"}) for name in ("/dev/zero", "/usr", "\0")),
           replaced(report, ("batch", "outputs"), ["x"]), replaced(report, ("batch",), 10**400)]  # fmt: skip
    for number, changed in enumerate(odd):
        sidecar.write_text(json.dumps(changed))
        assert statuses() == ["done"], number

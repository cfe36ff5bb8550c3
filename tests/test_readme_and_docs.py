"""The commands of README and docs run, from a folder that has nothing but the sample data; links lead somewhere."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.data import ROOT
from tests.support.preloaded import preloaded
from tests.support.small_samples import write_small_samples

PAGES = [
    ROOT / "README.md",
    *sorted(
        page for page in (ROOT / "docs").rglob("*.md") if not page.relative_to(ROOT / "docs").parts[0].startswith("_")
    ),
]
OTHERS = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "models").glob("*/*.md"),
]


FIRST, SECOND = "python3 -m pip install .", ['python3 -m pip install ".[test]"', "python3 -m pytest"]


def test_first_two_blocks_of_the_readme_are_what_ci_runs():
    first, second = blocks(ROOT / "README.md")[:2]
    assert first.splitlines()[0] == FIRST
    assert second.splitlines() == SECOND


def test_the_readme_is_one_screen():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) < 8000
    assert text.count("![") == 3


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language="sh"):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page):
    """Lines of all blocks that run crnn, in order; not the README's first block where CI has just run it."""
    run_already = page.name == "README.md" and "CRNN_FIRST_BLOCK_RUN" in os.environ
    return [
        line
        for block in blocks(page)[1 if run_already else 0 :]
        for line in block.splitlines()
        if "crnn " in line and "pip install" not in line
    ]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Folder of a `crnn` that starts at once."""
    folder = tmp_path_factory.mktemp("program")
    with preloaded(folder):
        yield folder


@pytest.fixture(scope="module")
def small_samples(tmp_path_factory):
    """Sample data of which everything takes less time."""
    folder = tmp_path_factory.mktemp("small") / "sample_data"
    write_small_samples(folder)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_run(page, tmp_path, program, small_samples):
    gates = page.name == "gates.md"  # which the samples as they are pass
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data" if gates else small_samples)
    for line in commands(page):
        ended = run(["bash", "-euo", "pipefail", "-c", line], tmp_path, program)
        assert ended.returncode == 0, f"{line}\n{ended.stderr.decode()}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_blocks_run(page, tmp_path, small_samples):
    (tmp_path / "sample_data").symlink_to(small_samples)
    ended = run([sys.executable, "-c", "\n".join(blocks(page, "python"))], tmp_path)
    assert ended.returncode == 0, ended.stderr.decode()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path = target.partition("#")[0]
        if path and ":" not in target and "_generated" not in target:
            assert (page.parent / path).exists(), target


def test_exit_codes_of_the_docs_are_those_of_the_program():
    from crnn_cli.cli.app import EXIT_CODES

    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    written = {int(code): text for code, text in re.findall(r"^\| (\d+) \| ([^|]*) \|", page, re.M)}
    assert [*written] == [*EXIT_CODES]
    for code, meaning in EXIT_CODES.items():
        assert written[code].startswith(meaning)


def run(command, folder, *programs):
    path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, env=environment)

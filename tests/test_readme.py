"""The commands of the README run, from a folder that has nothing but the sample data."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.support.data import ROOT

README = (ROOT / "README.md").read_text()


def blocks():
    return re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)


def commands():
    """Return the lines of all blocks that run crnn, in order."""
    return [line for block in blocks() for line in block.splitlines() if "crnn " in line and "pip install" not in line]


def test_first_two_blocks_are_what_ci_runs():
    first, second = blocks()[:2]
    assert first.splitlines()[0] == "python3 -m pip install ."
    assert second.splitlines() == ['python3 -m pip install ".[test]"', "python3 -m pytest"]
    assert len(commands()) >= 8


def test_commands_run(tmp_path):
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    program = f"{shlex.quote(sys.executable)} -m crnn_cli"
    for line in commands():
        script = re.sub(r"(?<![\w/-])crnn(?= )", program, line)
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            env=environment(),
        )
        assert ended.returncode == 0, f"{line}\n{ended.stderr.decode()}"
    made = {path.name for path in tmp_path.iterdir()}
    assert {"images.nii.gz", "images.json", "heart.png", "heart.gif", "test.png", "phantom_truth.nii.gz"} <= made
    assert "derived_series" in made


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(name):
    assert (ROOT / name).exists()


def test_exit_codes_in_the_readme_are_those_of_the_program():
    from crnn_cli.cli.app import EXIT_CODES

    said = " ".join(README[README.index("Exit codes:") :].split("\n\n")[0].split())
    assert re.findall(r"\d+ \w+", said) == re.findall(r"\d+ \w+", EXIT_CODES)

"""The recipes of containers take what the wheel needs and nothing else, and end in the command."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.support.data import ROOT

DOCKERFILE, APPTAINER = (ROOT / "containers" / name for name in ("Dockerfile", "crnn.def"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions():
    """Return the instructions of the Dockerfile as (name, arguments), continued lines joined."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line.strip() for line in text.splitlines()]
    return [tuple(line.split(None, 1)) for line in lines if line and not line.startswith("#")]


def sections():
    """Return the sections of the Apptainer recipe by name: their lines."""
    parts = re.split(r"^%(\w+).*$", APPTAINER.read_text(), flags=re.M)
    return {
        name: [line.strip() for line in body.splitlines() if line.strip()]
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def copied():
    """Return what each recipe copies."""
    docker = {
        word.removeprefix("./") for name, words in instructions() if name == "COPY" for word in words.split()[:-1]
    }
    return docker, {line.split()[0] for line in sections()["files"]}


def test_every_instruction_is_one_that_docker_knows():
    known = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    names = [name for name, _ in instructions()]
    assert set(names) <= known
    assert names[0] == "FROM"
    assert names.index("USER") < names.index("ENTRYPOINT")  # not as root


def test_both_take_the_same_files_and_the_ignore_file_lets_them_through():
    docker, apptainer = copied()
    assert docker == apptainer
    ignored = (ROOT / "containers" / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == docker


def test_the_wheel_of_what_is_copied_is_the_wheel_of_the_repository(tmp_path):
    for name in copied()[0]:
        source, target = ROOT / name, tmp_path / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    names = []
    for place in (ROOT, tmp_path / "src"):
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / place.name, place]
        subprocess.run(command, check=True, capture_output=True)
        names.append(sorted(zipfile.ZipFile(next((tmp_path / place.name).glob("*.whl"))).namelist()))
    assert names[0] == names[1]


def test_both_install_torch_first_then_the_package_and_run_its_command():
    runs = [words for name, words in instructions() if name == "RUN"]
    for commands in (runs, sections()["post"]):
        installs = [line for line in commands if "pip install" in line]
        assert "torch --index-url" in installs[0]
        assert '".[jpeg]"' in installs[1]
    assert "jpeg" in PROJECT["optional-dependencies"]
    assert set(PROJECT["scripts"]) == {"crnn"}
    assert json.loads(dict(instructions())["ENTRYPOINT"]) == ["crnn"]
    assert sections()["runscript"] == ['exec crnn "$@"']
    python = re.search(r"python:3\.(\d+)", dict(instructions())["FROM"])
    assert f"python:3.{python[1]}" in APPTAINER.read_text()
    assert int(python[1]) >= int(PROJECT["requires-python"].removeprefix(">=3."))


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_scripts_are_well_formed(shell):
    scripts = [words for name, words in instructions() if name == "RUN"]
    scripts += ["\n".join(sections()[name]) for name in ("post", "environment", "runscript", "test")]
    for script in scripts:
        subprocess.run([shell, "-n", "-c", script], check=True)

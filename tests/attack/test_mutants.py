"""Mutated files of all formats: no traceback, no hang, no growth, documented exit codes; a slice of the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.mutant_inputs import KINDS, Kind, make_inputs

ROOT = Path(__file__).parents[2]
TRAINED = ("manifests", "training resume")
"""Kinds that train; the benchmark has them all."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a whole input of each kind."""
    folder: Path = tmp_path_factory.mktemp("inputs") / "whole"
    folder.mkdir()
    make_inputs(folder, trained=False)
    return folder


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name not in TRAINED], ids=lambda kind: kind.name)
def test_mutants_are_read_or_refused(kind: Kind, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("field_mutants", None)
    from field_mutants import run_mutant

    if kind.name == "settings":
        pytest.importorskip("monai", reason="training of segmentation needs the extra train")
    ended = [run_mutant(kind, 7, number, inputs) for number in range(4 + kind.share // 150)]
    assert [each for each in ended if each.fault] == []
    assert {each.code for each in ended} != {0} or kind.name == "batch resume"

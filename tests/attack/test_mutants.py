"""Mutated files of all formats: no traceback, no hang, no growth, documented exit codes; a slice of the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.mutant_inputs import KINDS, Kind, make_inputs

ROOT = Path(__file__).parents[2]
FEWEST, SHARE = 2, 0.012


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a whole input of each kind."""
    pytest.importorskip("monai", reason="training of segmentation needs the extra train")
    folder: Path = tmp_path_factory.mktemp("inputs") / "whole"
    folder.mkdir()
    make_inputs(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_mutants_are_read_or_refused(kind: Kind, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("field_mutants", None)
    from field_mutants import run_mutant

    ended = [run_mutant(kind, 7, number, inputs) for number in range(max(FEWEST, round(SHARE * kind.share)))]
    assert [each for each in ended if each.fault] == []
    assert {each.code for each in ended} - {0} or kind.name in ("batch resume", "training resume", "settings")

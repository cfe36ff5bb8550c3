"""Tables fit into the terminal; whatever its width, each number and each name stands in one piece."""

import io
import sys

import pytest

from crnn_cli.cli import console
from crnn_cli.report.table import render_table

COLUMNS = ["name", "task", "licence", "PSNR (dB)", "what it is"]
ROWS = [
    ["hippocampus-clstm", "segment", "CC-BY-SA-4.0", "-12.345", "Labels two parts of the hippocampus in MR volumes"],
    ["cine-crnn", "reconstruct", "CC-BY-NC-SA-4.0", "6.5", "Short-axis cine"],
]
PROSE = ["what it is"]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 200])
def test_a_table_fits_and_nothing_is_cut(width):
    text = render_table("models", COLUMNS, ROWS, PROSE, width)
    assert max(map(len, text.splitlines())) <= width
    for row in ROWS:
        for cell in row[:-1]:
            assert cell in text
        assert set(row[-1].split()) <= set(text.split())
    assert "…" not in text


def test_wide_tables_have_columns_and_narrow_ones_blocks():
    wide, narrow = (render_table("models", COLUMNS, ROWS, PROSE, width).splitlines() for width in (100, 60))
    assert wide[1].split() == ["name", "task", "licence", "PSNR", "(dB)", "what", "it", "is"]
    assert wide[5].startswith("cine-crnn          reconstruct  CC-BY-NC-SA-4.0        6.5  Short-axis")
    assert narrow[1:3] == ["hippocampus-clstm", "  task        segment"]


@pytest.mark.parametrize("width", [30, 60, 80, None])
def test_names_and_values_have_no_header_and_long_values_fold(width):
    name = "/data/" + "x" * 100
    rows = [["format", "NIfTI"], ["file", name], ["doubt", "far " * 40], ["largest difference of values", "0"]]
    text = render_table("scan.nii", ["", ""], rows, (), width)
    lines = text.splitlines()
    assert lines[0] == "scan.nii"
    assert lines[1].split() == ["format", "NIfTI"] or lines[1:3] == ["  format", "    NIfTI"]
    assert name in "".join(text.split())
    assert text.count("far") == 40
    assert "largest difference of values" in text
    assert "…" not in text
    assert width is None or max(map(len, lines)) <= width


def test_a_file_has_lines_of_any_length_and_no_colours(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    console.table("", ["a", "b"], [["[red]x[/red]", "y" * 300]], result=True)
    assert "[red]x[/red]  " + "y" * 300 + "\n" in capsys.readouterr().out


@pytest.mark.parametrize(("result", "stream"), [(True, 0), (False, 1)])
def test_results_go_to_standard_output_and_quiet_does_not_hide_them(monkeypatch, capsys, result, stream):
    monkeypatch.setattr(console.Verbosity, "level", 1)
    console.table("t", ["", ""], [["a", "b"]], result=result)
    both = capsys.readouterr()
    assert (both[stream], both[1 - stream]) == ("t\n  a  b\n", "")
    monkeypatch.setattr(console.Verbosity, "level", 0)
    console.table("t", ["", ""], [["a", "b"]], result=result)
    assert bool(capsys.readouterr()[0]) == result


def test_characters_that_a_stream_lacks_are_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.table("t", ["a", "b"], [["bär", "1"]], result=True)
    assert b"b\\xe4r" in stream.buffer.getvalue()


@pytest.mark.parametrize("width", [60, 80, None])
def test_a_long_name_stands_above_its_value_and_widens_no_other_row(width):
    name = "no " + ", ".join(["left ejection fraction", "right ejection fraction", "cardiac output"] * 4)
    text = render_table("", ["", ""], [["heart rate", "60 /min"], [name, "one frame alone"]], (), width)
    lines = text.splitlines()
    assert lines[0] == "  heart rate  60 /min"
    assert lines[-1] == "    one frame alone"
    assert all(line.startswith("  ") and line[2] != " " for line in lines[1:-1])
    assert " ".join(line.strip() for line in lines[1:-1]) == name

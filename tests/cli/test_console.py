"""Words go to standard error, data to standard output, nothing is dressed up that should not be."""

import io
import json
import sys

import pytest

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.remedies import spell_option
from crnn_cli.errors import UsageError
from crnn_cli.io import atomic_write


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    monkeypatch.setattr(console.Verbosity, "level", 1)
    console.listen()


def test_what_is_said_depends_on_the_level(capsys, monkeypatch):
    for level in (0, 1, 2):
        monkeypatch.setattr(console.Verbosity, "level", level)
        console.say("detail", 2)
        console.say("usual [bold]")
        notices.warn("a-code", "beware")
        console.table("table", ["a", "b"], [["[red]x[/red]", "y"]])
        out, err = capsys.readouterr()
        assert out == ""
        assert ("detail\n" in err) == (level == 2)
        assert ("usual [bold]\n" in err) == ("warning: beware\n" in err) == ("table" in err) == (level > 0)
        assert ("[red]x[/red]" in err) == (level > 0)


def test_errors_are_always_said_and_carry_their_code(capsys, monkeypatch):
    monkeypatch.setattr(console.Verbosity, "level", 0)
    assert console.stop("broken [b]", 4).exit_code == 4
    assert capsys.readouterr() == ("", "error: broken [b]\n")


def test_json_is_strict_and_the_only_thing_on_standard_output(capsys):
    console.print_json({"a": [1, None]})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": [1, None]}
    assert out.endswith("}\n")
    assert err == ""
    with pytest.raises(ValueError, match="JSON"):
        console.print_json({"a": float("nan")})


@pytest.mark.parametrize(("level", "terminal", "shown"), [(1, True, True), (1, False, False), (0, True, False)])
def test_the_bar_is_for_terminals_only(monkeypatch, level, terminal, shown):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(console.Verbosity, "level", level)
    with console.progress_bar("working [b]") as progress:
        progress(0, 4)
        progress(3, 4)
    text = stream.getvalue()
    assert ("working [b]" in text) == ("3/4" in text) == shown
    assert shown or not text


def test_binary_data_are_not_poured_over_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    atomic_write.require_pipe()
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(UsageError) as caught:
        atomic_write.require_pipe()
    assert "-o FILE" in caught.value.render(spell_option)

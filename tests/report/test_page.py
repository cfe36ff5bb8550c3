"""A page is one well-formed file that shows text as text, pictures as they are, and values where they belong."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest

from crnn_cli.errors import OutputError, UsageError
from crnn_cli.io.atomic_write import write_together
from crnn_cli.report.montage import Panel, preview_output, still_picture
from crnn_cli.report.page import html as module
from crnn_cli.report.page.html import Notes, Picture, Plot, Table, page_output, render_page, require_page_name

NASTY = "<script>alert('&amp;\"')</script> \x01 ü"
VOID = {"meta", "img", "line", "circle"}


class Balanced(HTMLParser):
    """Checks as a browser reads: every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.opened, self.names, self.links = [], set(), []

    def handle_starttag(self, tag, attributes):
        self.names.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.opened.pop()

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag


def png(value=90):
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((4, 5), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def parsed(text, scripts=0):
    """Return the tree of a page, after both ways of reading it agree that it is in order.

    scripts : how many it has; the policy of the page must name each, and nothing else may run or be fetched.
    """
    checked = Balanced()
    checked.feed(text)
    assert checked.opened == []
    assert not checked.names & {"link", "iframe", "object", *(() if scripts else ("script",))}
    running = re.findall(r"<script>(.*?)</script>", text, re.S)
    named = [f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in running]
    assert len(running) == scripts
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"].split() == (named or ["'none'"])
    assert all(link.startswith("data:image/png;base64,") for link in checked.links)
    assert "@import" not in text
    assert "url(" not in text
    return ElementTree.fromstring(text)


def test_text_is_text_wherever_it_stands():
    parts = [
        Notes([NASTY]), Table(NASTY, [[NASTY, NASTY, NASTY], [NASTY, NASTY]]), Picture(png(), NASTY),
        Plot(NASTY, [0.1, None]),
    ]  # fmt: skip
    tree = parsed(render_page(NASTY, parts))
    shown = NASTY.replace("\x01", "?")
    texts = [text for text in tree.itertext() if text.strip()]
    assert texts.count(shown) == 2 + 1 + 6 + 1 + 1  # title twice; note, table, picture, plot
    assert [e.get("alt") for e in tree.iter() if e.tag.endswith("img")] == [shown]
    assert [e.get("aria-label") for e in tree.iter() if e.tag.endswith("svg")] == [shown]


def test_pictures_are_in_the_page():
    tree = parsed(render_page("a", [Picture(png(1), "one"), Picture(png(2), "two")]))
    links = [e.get("src").partition(",")[2] for e in tree.iter("img")]
    assert [base64.b64decode(link) for link in links] == [png(1), png(2)]


def test_a_plot_has_a_dot_a_value_and_gaps_where_there_is_none():
    tree = parsed(render_page("a", [Plot("p", [0.0, 0.5, None, 1.0, 0.25], [0.1, 0.1, 0.1, None, None], [3])]))
    dots = [e for e in tree.iter() if e.tag.endswith("circle")]
    heights = np.array([float(dot.get("cy")) for dot in dots])
    assert np.diff(heights) / (heights[2] - heights[0]) == pytest.approx([0.5, 0.5, -0.75], abs=0.01)
    places = [float(dot.get("cx")) for dot in dots]
    assert np.diff(places) / (places[1] - places[0]) == pytest.approx([1, 2, 1], abs=0.01)
    assert [dot.get("class") for dot in dots] == ["dot", "dot", "mark", "dot"]
    kinds = [e.get("class") for e in tree.iter() if e.tag.endswith("line")]
    assert (kinds.count("value"), kinds.count("below")) == (2, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 16, 300])
def test_frames_of_a_plot_are_counted_from_1_and_no_label_leaves_the_paper(count):
    tree = parsed(render_page("a", [Plot("p", [0.5] * count)]))
    width = float(next(e for e in tree.iter() if e.tag.endswith("svg")).get("viewBox").split()[2])
    labels = [e for e in tree.iter() if e.tag.endswith("text") and e.text.startswith("frame")]
    assert labels[0].text == "frame 1"
    assert labels[-1].text == f"frame {count}"
    for label in labels:
        x, length = float(label.get("x")), 7 * len(label.text)
        left = x - {"start": 0, "middle": length / 2, "end": length}[label.get("text-anchor")]
        assert left >= 0
        assert left + length <= width


def test_what_has_no_meaning_beside_it_takes_the_room_of_it():
    tree = parsed(render_page("a", [Table("t", [["a", "1", "why"], ["b", "2", ""], ["c", "3"]])]))
    cells = [[(cell.text, cell.get("colspan")) for cell in row][1:] for row in tree.iter("tr")]
    assert cells == [[("1", None), ("why", None)], [("2", "2")], [("3", None)]]


@pytest.mark.parametrize("values", [[], [None], [0.0], [0.0, 0.0]])
def test_a_plot_of_next_to_nothing_is_a_plot(values):
    text = render_page("a", [Plot("p", values)])
    parsed(text)
    assert "nan" not in text
    assert "inf" not in text


def test_light_dark_and_print_are_thought_of():
    text = render_page("a", [])
    for words in ("color-scheme: light dark", "prefers-color-scheme: dark", "@media print", 'lang="en"', "utf-8"):
        assert words in text
    defined = set(re.findall(r"(--\w+):", text))
    assert set(re.findall(r"var\((--\w+)\)", text)) <= defined


def test_a_page_is_read_back_before_it_counts(tmp_path, monkeypatch):
    target = tmp_path / "a.html"
    write_together([page_output(target, "\ud800 a", [])])
    assert "? a" in target.read_text("utf-8")
    monkeypatch.setattr(module, "render_page", lambda title, parts: "<html><p></html>")
    with pytest.raises(OutputError, match="not well-formed"):
        write_together([page_output(tmp_path / "b.html", "a", [])])
    output = page_output(tmp_path / "c.html", "a", [])
    (tmp_path / "other").write_text("<html/>")
    with pytest.raises(OutputError, match="differs"):
        output.check(tmp_path / "other")
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".html"] == ["a.html"]


def test_names_end_in_html():
    require_page_name(Path("a.HTML"))
    for name in ("a.pdf", "a", "-"):
        with pytest.raises(UsageError, match=re.escape(name)):
            require_page_name(Path(name))


def test_a_still_is_the_montage_or_first_frames_side_by_side():
    panels = [Panel(name, np.random.default_rng(k).random((3, 220, 110), np.float32)) for k, name in enumerate("ab")]
    assert (
        still_picture(panels, (1.0, 1.0), "said")
        == preview_output(panels, (1.0, 1.0), None, Path("a.png"), "said").content
    )
    beside = np.asarray(PIL.Image.open(io.BytesIO(still_picture(panels, (1.0, 1.0), beside=True))))
    assert beside.shape == (220 + 14, 2 * (110 + 2))
    white = np.percentile(panels[0].frames_TYX, 99.7)
    expected = (255 * np.clip(panels[1].frames_TYX[0] / white, 0, 1)).round()
    np.testing.assert_array_equal(beside[14:, 112:222], expected)

"""The bull's eye: every segment where the American Heart Association has it, with its own numbers."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from crnn_cli.cardiac.wall import SEGMENTS, Wall
from crnn_cli.report.function.bulls_eye import bulls_eye, draw_bulls_eye

WALL = Wall(np.arange(4.0, 20.0), np.arange(4.0, 20.0) * 1.5, np.full(16, 50.0), ((1,), (2,), (3,)))


def area(ring):
    x, y = np.array(ring).T
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def test_segments_fill_the_circle_without_its_middle_and_lie_where_their_names_say():
    segments = list(bulls_eye(WALL))
    assert [each.name for each in segments] == list(SEGMENTS)
    assert sum(area(each.ring) for each in segments) == pytest.approx(np.pi * (1 - 0.06**2), rel=0.01)
    for each in segments:
        x, y = each.middle
        assert ("anter" in each.name) == (y < -1e-9), each.name
        assert ("infer" in each.name) == (y > 1e-9), each.name
        assert ("septal" in each.name) == (x < -1e-9), each.name
        assert ("lateral" in each.name) == (x > 1e-9), each.name
        radius = np.hypot(x, y)
        assert [radius > 2 / 3, 1 / 3 < radius < 2 / 3, radius < 1 / 3].index(True) == [
            "basal", "mid", "apical"
        ].index(each.name.split()[0])  # fmt: skip


def test_numbers_are_those_of_the_segment_and_unknown_ones_say_so():
    thin = WALL.end_diastolic.copy()
    thin[3] = np.nan
    segments = list(bulls_eye(replace(WALL, end_diastolic=thin, thickening=50 * thin / thin)))
    assert [each.thickness for each in segments[:5]] == ["4", "5", "6", "-", "8"]
    assert {each.thickening for each in segments} == {"+50", ""}
    assert (segments[0].share, segments[15].share, segments[3].share) == (0, 1, 0)
    tree = ElementTree.fromstring(draw_bulls_eye(WALL, "a < b"))
    assert len([each for each in tree.iter() if each.tag.endswith("polygon")]) == 16
    assert "mid inferior: 13 mm, +50 %" in {each.text for each in tree.iter() if each.tag.endswith("title")}

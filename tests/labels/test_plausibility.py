"""Plausible hearts pass, and every kind of damage is found where it was done, in any heart."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.labels.names import Label
from crnn_cli.labels.plausibility import MOST_VARIATION, NARROW, SHORT, find_implausible

RIGHT, MUSCLE, CAVITY = 1, 2, 3
NAMES = (
    Label(RIGHT, "right ventricle", (0, 0, 255), ("SCT", "53085002", "Right ventricle")),
    Label(MUSCLE, "myocardium", (0, 255, 0), ("SCT", "49848007", "Left Ventricle Myocardium")),
    Label(CAVITY, "left ventricle", (255, 0, 0), ("SCT", "87878005", "Left ventricle")),
)


def heart(frames=4, slices=9, side=64, squeeze=0.3):
    """Labels of a beating heart (T, S, Y, X): a cone in a shell of muscle that keeps its volume, and a crescent."""
    y, x = np.mgrid[:side, :side] - side / 2.0
    radius = np.hypot(y, x)
    labels = np.zeros((frames, slices, side, side), np.uint8)
    for t in range(frames):
        beat = 1 - squeeze * (1 - np.cos(2 * np.pi * t / frames)) / 2
        for s in range(1, slices - 1):
            inner = beat * 12.0 * (1 - 0.6 * (s - 1) / slices)
            outer = np.sqrt(inner**2 + 150)  # the same area of muscle in every frame
            shape = labels[t, s]
            shape[(radius < outer + 9) & (x < -6) & (np.abs(y) < 14)] = RIGHT
            shape[radius < outer] = MUSCLE
            shape[radius < inner] = CAVITY
    return labels


HEARTS = st.builds(heart, st.integers(1, 6), st.integers(6, 12), st.integers(60, 80), st.floats(0, 0.4))


def codes(labels, names=NAMES):
    return {(each.doubt.code, each.label) for each in find_implausible(labels, names)}


@settings(deadline=None, max_examples=30)
@given(HEARTS)
def test_a_heart_that_beats_is_plausible_however_it_lies(labels):
    assert find_implausible(labels, NAMES) == []
    assert find_implausible(labels[:, ::-1, :, ::-1], NAMES) == []
    assert find_implausible(labels.swapaxes(2, 3), NAMES) == []


def found(labels, code):
    (finding,) = [each for each in find_implausible(labels, NAMES) if each.doubt.code == code]
    return finding


@settings(deadline=None, max_examples=20)
@given(HEARTS, st.data())
def test_a_structure_lost_in_a_frame_is_missing_there(labels, data):
    frame, value = data.draw(st.integers(0, len(labels) - 1)), data.draw(st.sampled_from([1, 2, 3]))
    labels[frame][labels[frame] == value] = 0
    finding = found(labels, "structure-missing")
    assert (finding.label, finding.frames) == (NAMES[value - 1].name, (frame,))
    assert len(labels) == 1 or f"frame {frame + 1} of {len(labels)}" in finding.doubt.text


@settings(deadline=None, max_examples=20)
@given(HEARTS, st.data())
def test_a_slice_lost_between_others_is_a_gap_and_one_at_the_end_is_none(labels, data):
    frame, slices = data.draw(st.integers(0, len(labels) - 1)), labels.shape[1]
    inside, value = data.draw(st.integers(2, slices - 3)), data.draw(st.sampled_from([1, 2, 3]))
    gap, end = labels.copy(), labels.copy()
    gap[frame, inside][gap[frame, inside] == value] = 0
    finding = found(gap, "structure-gap")
    assert (finding.label, finding.frames, finding.slices) == (NAMES[value - 1].name, (frame,), (inside + 1,))
    end[frame, 1] = 0
    assert not {code for code, _ in codes(end)} & {"structure-gap", "structure-missing", "cavity-not-enclosed"}


@settings(deadline=None, max_examples=10)
@given(HEARTS, st.floats(0.05, 0.95), st.data())
def test_a_slice_that_lost_most_of_a_structure_is_found_between_larger_ones_only(labels, kept, data):
    frame, slices = data.draw(st.integers(0, len(labels) - 1)), labels.shape[1]
    inside, value = data.draw(st.integers(2, slices - 3)), data.draw(st.sampled_from([1, 2, 3]))

    def thinned(s):
        copy = labels.copy()
        places = np.argwhere(copy[frame, s] == value)
        copy[frame, s][tuple(places[max(1, round(kept * len(places))) :].T)] = 0
        return copy

    narrow = thinned(inside)
    area = (narrow[frame] == value).sum(axis=(1, 2))
    is_narrow = area[inside] < NARROW * min(area[:inside].max(), area[inside + 1 :].max())
    findings = [each for each in find_implausible(narrow, NAMES) if each.doubt.code == "structure-narrows"]
    wanted = [(NAMES[value - 1].name, (frame,), (inside + 1,))] if is_narrow else []
    assert [(each.label, each.frames, each.slices) for each in findings] == wanted
    for end in (1, slices - 2):
        assert not {code for code, _ in codes(thinned(end))} & {"structure-narrows"}


@settings(deadline=None, max_examples=10)
@given(HEARTS, st.data())
def test_a_cavity_that_ends_long_before_its_muscle_is_short(labels, data):
    frame, slices = data.draw(st.integers(0, len(labels) - 1)), labels.shape[1] - 2
    lost = data.draw(st.integers(0, slices - 1))
    cut = labels[frame, labels.shape[1] - 1 - lost :]
    cut[cut == CAVITY] = MUSCLE  # from the apex on
    found_codes = codes(labels)
    assert (("cavity-short", "myocardium") in found_codes) == (slices - lost < SHORT * slices)


@settings(deadline=None, max_examples=20)
@given(HEARTS, st.data())
def test_a_piece_apart_is_found_if_it_is_not_tiny(labels, data):
    frame = data.draw(st.integers(0, len(labels) - 1))
    tiny = labels.copy()
    tiny[frame, 2, 1, 1] = CAVITY
    assert codes(tiny) == set()
    labels[frame, 2, 1:9, 1:9] = CAVITY
    finding = found(labels, "structure-in-pieces")
    assert (finding.label, finding.frames) == ("left ventricle", (frame,))


@settings(deadline=None, max_examples=20)
@given(HEARTS, st.integers(0, 3))
def test_a_heart_that_the_image_cuts_reaches_its_edge(labels, side):
    turned = np.rot90(labels, side, axes=(2, 3))
    cut = turned[:, :, turned.shape[2] // 2 - 5 :]
    finding = next(each for each in find_implausible(cut, NAMES) if each.doubt.code == "structure-at-edge")
    assert finding.slices
    assert set(finding.slices) <= set(range(2, labels.shape[1]))


@settings(deadline=None, max_examples=20)
@given(HEARTS, st.data())
def test_a_wall_that_is_open_is_found_between_base_and_apex_only(labels, data):
    frame, slices = data.draw(st.integers(0, len(labels) - 1)), labels.shape[1]
    inside = data.draw(st.integers(2, slices - 3))
    middle = labels.shape[2] // 2

    def opened(s):
        copy = labels.copy()
        half = copy[frame, s, :middle]
        half[half == MUSCLE] = 0
        return copy

    finding = found(opened(inside), "cavity-not-enclosed")
    assert (finding.frames, finding.slices) == ((frame,), (inside + 1,))
    for end in (1, slices - 2):
        assert ("cavity-not-enclosed", "myocardium") not in codes(opened(end))


def test_a_stack_within_the_ventricle_shows_neither_base_nor_apex():
    whole = heart()
    assert codes(whole[:, 1:5]) == {("stack-ends-in-heart", "left ventricle")}
    assert codes(whole[:, 1:-1]) == set()  # it narrows to the apex
    assert codes(whole[:, 3:4]) == set()  # one slice is no stack


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 8), st.floats(0.02, 0.6))
def test_muscle_that_comes_and_goes_is_found_above_the_limit(frames, lost):
    labels = heart(frames, squeeze=0)
    muscle = np.argwhere(labels[1] == MUSCLE)
    count = round(lost * len(muscle))
    labels[1][tuple(muscle[:count].T)] = RIGHT
    assert (("myocardium-varies", "myocardium") in codes(labels)) == (count / len(muscle) > MOST_VARIATION)
    assert ("myocardium-varies", "myocardium") not in codes(labels[:2])  # two frames are no cycle


def test_the_rules_of_the_heart_are_for_labels_with_its_codes():
    plain = [Label(each.value, each.name, each.colour) for each in NAMES]
    labels = heart()[:, 1:5]
    labels[1, 2][labels[1, 2] == MUSCLE] = 0
    assert codes(labels, plain) == {("structure-gap", "myocardium"), ("structure-in-pieces", "myocardium")}


def test_nothing_labelled_is_not_a_finding_of_its_own():
    assert find_implausible(np.zeros((2, 3, 8, 8), np.uint8), NAMES) == []


def test_sentences_count_from_one():
    labels = heart()
    labels[1:3, 4][labels[1:3, 4] == CAVITY] = 0
    finding = found(labels, "structure-gap")
    assert finding.doubt.text == "left ventricle: nothing in slice 5 (frames 2-3 of 4), between labelled slices"
    assert finding.frames == (1, 2)

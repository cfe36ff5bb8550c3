"""Numbers of hearts whose function is known."""

from itertools import permutations, product

import numpy as np
import pytest

from crnn_cli.cardiac.chambers import LEFT, RIGHT, Chambers, find_chambers, parse_chambers
from crnn_cli.cardiac.function import Subject, assess_function
from crnn_cli.cardiac.ventricles import AS_SMALL, find_phases
from crnn_cli.cardiac.volume_curves import StructureVolumes, count_beats, peak_rates
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError, UsageError
from tests.cardiac.hearts import CHAMBERS, FRAMES, SLICES, SPACING, heart, reoriented
from tests.support.data import data_file
from tests.support.remarks import codes


@pytest.fixture(scope="module")
def beating():
    return heart()


@pytest.fixture(scope="module")
def whole(beating):
    """The function of the whole of it."""
    return assess_function(beating, CHAMBERS)


def value(function, side, name):
    return function.quantities()[side][name].value


def test_volumes_are_those_of_the_discs(whole):
    function = whole
    radii = 24 - 1.2 * np.arange(SLICES)
    edv, esv = (np.pi * (radii * r) ** 2 @ np.full(SLICES, SPACING[2]) / 1000 for r in (1, 0.75))
    assert value(function, "left", "edv") == pytest.approx(edv, rel=0.01)
    assert value(function, "left", "esv") == pytest.approx(esv, rel=0.01)
    assert value(function, "left", "ejection_fraction") == pytest.approx(100 * (1 - 0.75**2), abs=0.7)
    ring = (np.pi * ((radii + 8) ** 2 - radii**2)).sum() * SPACING[2] / 1000
    assert value(function, "left", "mass_ed") == pytest.approx(1.05 * ring, rel=0.01)
    assert (function.phases.ed, function.phases.es) == (0, FRAMES // 2)
    assert value(function, "heart", "heart_rate") == pytest.approx(60 / (FRAMES * 0.04))
    stroke = value(function, "left", "stroke_volume")
    assert value(function, "heart", "cardiac_output") == pytest.approx(stroke * 75 / 1000)


def test_nothing_depends_on_how_the_axes_are_stored():
    beating = heart(frames=8)
    expected = assess_function(beating, CHAMBERS, Subject(1.9))
    for order, flips in zip(permutations(range(3)), product((False, True), repeat=3), strict=False):
        found = assess_function(reoriented(beating, order, flips), CHAMBERS, Subject(1.9))
        for side, values in expected.quantities().items():
            for name, quantity in values.items():
                assert value(found, side, name) == pytest.approx(quantity.value, rel=1e-6), (order, flips, side, name)
        np.testing.assert_allclose(found.wall.end_diastolic, expected.wall.end_diastolic, atol=0.15)
        assert codes(found.doubts) == codes(expected.doubts)


def test_manual_labels_give_what_counting_voxels_gives():
    """Independent: voxels counted by SimpleITK, whose spacing comes from its own reader."""
    import SimpleITK as sitk

    from crnn_cli import load

    frames = [data_file("acdc_groups", "patient061", name) for name in manual("patient061")]
    series = np.stack([load(file).array for file in frames], -1).astype(np.uint8)
    first = load(frames[0])
    function = assess_function(Image(series, first.affine, None, first.codes, pixdim=first.pixdim), CHAMBERS)
    volumes = []
    for file in frames:
        image = sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkUInt8)
        statistics = sitk.LabelShapeStatisticsImageFilter()
        statistics.Execute(image)
        volumes.append({label: statistics.GetPhysicalSize(label) / 1000 for label in statistics.GetLabels()})
    ed, es = sorted(volumes, key=lambda each: -each[3])
    assert value(function, "left", "edv") == pytest.approx(ed[3], rel=1e-3)
    assert value(function, "left", "esv") == pytest.approx(es[3], rel=1e-3)
    assert value(function, "right", "edv") == pytest.approx(ed[1], rel=1e-3)
    assert value(function, "left", "mass_ed") == pytest.approx(1.05 * ed[2], rel=1e-3)
    assert value(function, "left", "ejection_fraction") == pytest.approx(100 * (1 - es[3] / ed[3]), rel=1e-3)


def manual(patient):
    folder = data_file("acdc_groups", patient)
    return sorted(file.name for file in folder.glob("*_gt.nii.gz"))


def test_peak_rates_are_those_of_the_derivative():
    frames, time = 30, 0.03
    angle = 2 * np.pi * np.arange(frames) / frames
    rates = peak_rates(100 + 40 * np.cos(angle), time)
    assert rates.ejection == pytest.approx(40 * 2 * np.pi / (frames * time), rel=1e-3)
    assert rates.filling == pytest.approx(rates.ejection, rel=1e-3)
    assert abs(rates.ejection_frame - frames / 4) <= 1
    assert abs(rates.filling_frame - 3 * frames / 4) <= 1


@pytest.mark.parametrize(("segment", "degrees"), [(0, 90), (3, -90), (4, -30), (5, 30), (1, 150), (2, -150)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_a_thick_segment_is_found_where_it_lies(segment, degrees, order):
    """Directions of the patient, whatever the order of the axes: 90 degrees is anterior, the septum is to the right."""

    def thickness(angle, z):
        away = np.abs(np.angle(np.exp(1j * (angle - np.radians(degrees)))))
        return np.where((away < np.radians(28)) & (z < 3), 14.0, 7.0)

    image = reoriented(heart(frames=2, thickness=thickness, beat=(1, 0.8)), order, (False, False, False))
    wall = assess_function(image, CHAMBERS).wall
    basal = wall.end_diastolic[:6]
    assert basal.argmax() == segment
    assert basal[segment] > 12.5
    assert np.delete(basal, segment).max() < 8.5
    np.testing.assert_allclose(wall.end_diastolic[6:], 7, atol=0.8)
    assert wall.slices == ((1, 2, 3), (4, 5, 6), (7, 8, 9))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a[:, :, 4:5], "1 slice of frame"),
        (lambda a: a[..., :1], "one frame"),
        (lambda a: np.where((np.arange(a.shape[3]) == 7) & (a == 3), 2, a), "is not labelled in frame 8"),
        (lambda a: a[20:], "cut by the edge"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_reason(beating, change, reason):
    function = assess_function(Image(change(beating.array), beating.affine, 0.04), CHAMBERS)
    refused = [each for values in function.quantities().values() for each in values.values() if each.value is None]
    assert any(reason in each.reason for each in refused), [each.reason for each in refused]
    assert all(each.reason for each in refused)


@pytest.mark.parametrize(("unit", "doubted"), [(1, False), (0.1, True), (3, True)])
def test_a_heart_that_no_human_has_is_doubted(unit, doubted):
    """Of cm written as mm, volumes are a thousandth."""
    one = heart(frames=2, beat=(1, 0.8))
    affine = one.affine @ np.diag([unit, unit, unit, 1])
    function = assess_function(Image(one.array, affine), CHAMBERS)
    assert ("heart-size-unusual" in codes(function.doubts)) == doubted


@pytest.mark.parametrize(
    ("given", "known", "refused", "doubts"),
    [({}, "d", "s", ["phase-assumed"]), ({"ed": 0}, "d", "s", []), ({"es": 0}, "s", "d", [])],
)
def test_a_single_volume_has_numbers_of_its_phase_alone(beating, given, known, refused, doubts):
    one = Image(beating.array[..., 0], beating.affine)
    function = assess_function(one, CHAMBERS, **given)
    left = function.quantities()["left"]
    assert left[f"e{known}v"].value == pytest.approx(value(assess_function(beating, CHAMBERS), "left", "edv"))
    assert left[f"mass_e{known}"].value is not None
    for name in (f"e{refused}v", f"mass_e{refused}", "stroke_volume", "ejection_fraction"):
        assert left[name].reason.startswith("one frame")
    assert [each.code for each in function.doubts] == doubts
    report = function.as_json()
    whole = {"d": "end_diastole", "s": "end_systole"}
    assert (report[whole[known]], report[whole[refused]]) == (1, None)
    assert f"left_ventricle_e{refused}_ml" not in report["slices"][0]


def test_a_single_volume_is_not_of_both_phases(beating):
    with pytest.raises(UsageError, match="one of the two"):
        assess_function(Image(beating.array[..., 0], beating.affine), CHAMBERS, ed=0, es=0)


@pytest.mark.parametrize(
    ("rate", "doubted"), [(75, False), (60, False), (95, False), (None, False), (40, True), (120, True)]
)
def test_a_heart_rate_that_the_frames_contradict_is_doubted(beating, rate, doubted):
    """The frames show one beat of 800 ms; gated frames may leave out the end of the beat."""
    function = assess_function(beating, CHAMBERS, Subject(heart_rate=rate))
    assert ("heart-rate-differs" in codes(function.doubts)) == doubted


def test_slices_without_a_wall_in_end_systole_do_not_thicken_it(beating):
    """Thin end slices that the heart leaves in end systole are in the thickness of end diastole alone."""
    frames = heart(frames=2, thickness=lambda angle, z: np.where(z in (0, 8), 4.0, 8.0), beat=(1, 0.8))
    array = frames.array.copy()
    array[:, :, [0, 8], 1] = 0
    wall = assess_function(Image(array, frames.affine), CHAMBERS).wall
    np.testing.assert_allclose(wall.thickening, 0, atol=6)
    assert wall.end_systolic[0] > 1.1 * wall.end_diastolic[0]


def test_without_a_size_ratios_alone_are_given(beating):
    labels = Image(beating.array, np.eye(4), 0.04)
    function = assess_function(labels, CHAMBERS)
    assert value(function, "left", "ejection_fraction") == pytest.approx(44, abs=1)
    assert value(function, "left", "edv") is None
    assert "lost" in function.quantities()["left"]["edv"].reason
    assert value(function, "left", "mass_ed") is None
    assert isinstance(function.wall, str)


def test_half_a_cycle_gives_no_rates(beating):
    half = Image(beating.array[..., : FRAMES // 2 + 1], beating.affine, 0.04)
    function = assess_function(half, CHAMBERS)
    assert value(function, "left", "ejection_fraction") == pytest.approx(44, abs=1)
    for name in ("heart_rate", "cardiac_output", "peak_ejection_rate", "peak_filling_rate"):
        assert "whole cycle" in function.quantities()["heart"][name].reason
    given = assess_function(half, CHAMBERS, Subject(heart_rate=60.0))
    assert value(given, "heart", "cardiac_output") is not None


@pytest.mark.parametrize("factor", [1e-3, 50], ids=["metres", "too large"])
def test_sizes_that_cannot_be_give_no_volumes(beating, factor):
    affine = beating.affine @ np.diag([factor, factor, factor, 1])
    function = assess_function(Image(beating.array, affine, 0.04), CHAMBERS)
    assert value(function, "left", "edv") is None
    assert "mm cannot be" in function.quantities()["left"]["edv"].reason
    assert value(function, "left", "mass_ed") is None
    assert value(function, "left", "ejection_fraction") == pytest.approx(44, abs=1)
    assert "mm cannot be" in function.wall


def test_frames_out_of_order_are_doubted(beating, whole):
    assert "curve-not-smooth" not in codes(whole.doubts)
    shuffled = beating.array[..., np.random.default_rng(0).permutation(FRAMES)]
    assert "curve-not-smooth" in codes(assess_function(Image(shuffled, beating.affine, 0.04), CHAMBERS).doubts)


@pytest.mark.parametrize("order", [(0, 3, 1, 4, 2, 5), (0, 4, 1, 5, 2, 6, 3), (0, 1, 5, 3, 4, 2, 6, 7, 8, 9)])
def test_few_frames_out_of_order_are_doubted(order):
    whole = heart(frames=len(order))
    assert not {*codes(assess_function(whole, CHAMBERS).doubts)} & {"frames-out-of-order", "cycle-not-covered"}
    shuffled = Image(whole.array[..., list(order)], whole.affine, 0.04)
    found = assess_function(shuffled, CHAMBERS)
    assert {*codes(found.doubts)} & {"frames-out-of-order", "cycle-not-covered"}
    marked = shuffled.array.copy()
    marked[..., [t for t in range(len(order)) if t not in (found.phases.ed, found.phases.es)]] = 0
    assert "frames-out-of-order" not in codes(assess_function(Image(marked, whole.affine, 0.04), CHAMBERS).doubts)


@pytest.mark.parametrize(("seconds", "told"), [(0.001, "1 ms would be 3000 beats"), (10, "ms would be 0.3 beats")])
def test_a_heart_rate_that_cannot_be_is_refused_in_plain_figures(beating, seconds, told):
    quantities = assess_function(Image(beating.array, beating.affine, seconds), CHAMBERS).quantities()["heart"]
    assert told in quantities["heart_rate"].reason
    assert quantities["cardiac_output"].value is None


def test_frames_of_two_beats_have_no_heart_rate_of_their_own(beating, whole):
    twice = Image(np.concatenate([beating.array, beating.array], -1), beating.affine, 0.04)
    one, function = whole, assess_function(twice, CHAMBERS)
    assert "cycle-not-covered" in codes(function.doubts)
    assert value(function, "left", "ejection_fraction") == value(one, "left", "ejection_fraction")
    for name in ("heart_rate", "cardiac_output", "peak_ejection_rate", "peak_filling_rate"):
        assert "empties 2 times" in function.quantities()["heart"][name].reason
    given = assess_function(twice, CHAMBERS, Subject(heart_rate=75.0))
    assert value(given, "heart", "cardiac_output") == pytest.approx(value(one, "heart", "cardiac_output"))


@pytest.mark.parametrize("first", range(0, FRAMES, 3))
def test_one_beat_is_one_wherever_it_begins(beating, first):
    curve = np.count_nonzero(np.roll(beating.array, first, -1) == 3, axis=(0, 1, 2)).astype(float)
    assert count_beats(curve) == 1
    assert count_beats(np.tile(curve, 3)) == 3


def test_given_frames_are_taken(beating):
    function = assess_function(beating, CHAMBERS, ed=1, es=9)
    assert (function.phases.ed, function.phases.es, function.phases.origin) == (1, 9, "given")
    for wrong in ({"ed": 20}, {"es": -1}, {"ed": 3, "es": 3}):
        with pytest.raises(UsageError):
            assess_function(beating, CHAMBERS, **wrong)


def test_of_frames_as_large_the_one_nearest_the_r_wave_is_end_diastole():
    def phases(*curve):
        discs = np.array([curve], float)
        found = find_phases({LEFT: StructureVolumes(LEFT, discs)})
        return found.ed, found.es

    assert phases(99, 60, 50, 70, 90, 100) == (0, 2)  # smaller by a fiftieth of the stroke
    assert phases(98.9, 60, 50, 70, 90, 100) == (5, 2)
    assert phases(80, 60, 50, 70, 100, 99.5) == (5, 2)  # around the cycle
    assert phases(50, 70, 99.5, 100, 80, 60) == (2, 0)


@pytest.mark.parametrize(
    ("left", "right", "frame"),
    [
        ((150, 100, 50, 50.9, 90), (90, 70, 50, 49, 60), 3),  # larger by less than a hundredth of the stroke
        ((150, 100, 50, 51.1, 90), (90, 70, 50, 30, 60), 2),  # by more
        ((150, 100, 50, 50.9, 90), (90, 70, 50, 49.5, 60), 2),  # both together decide
        ((150, 100, 50, 50.9, 90), (90, 70, 50, 0, 60), 2),  # a frame without the right ventricle
        ((150, 100, 50.9, 70, 50), (90, 70, 40, 60, 42), 2),  # around a frame between
    ],
)
def test_of_frames_as_small_the_one_with_the_smallest_cavities_is_end_systole(left, right, frame):
    curves = {LEFT: left, RIGHT: right}
    both = {name: StructureVolumes(name, np.array([curve], float)) for name, curve in curves.items()}
    assert find_phases(both).es == frame
    assert find_phases({LEFT: both[LEFT]}).es == np.argmin(left)
    smallest = both[LEFT].curve.min()
    assert both[LEFT].curve[frame] <= smallest + AS_SMALL * np.ptp(both[LEFT].curve)


def test_names_and_conventions_say_what_values_mean():
    assert find_chambers({5: "Left Ventricle", 7: "LV_myocardium"}, "x") == Chambers(left=5, myocardium=7)
    assert find_chambers({1: "LV blood pool", 2: "LV-Myo", 3: "rv_endo", 4: "aorta"}, "x") == Chambers(1, 2, 3)
    assert parse_chambers("ukbb") == parse_chambers("4=rv, 1=LV,2=myo")
    for wrong in ("1=LV,1=RV", "1=LV,2=LV", "LV", "0=LV", "1=atrium", ""):
        with pytest.raises(UsageError):
            parse_chambers(wrong)
    with pytest.raises(UnsupportedDataError, match="no label that is called a ventricle"):
        find_chambers({1: "hippocampus"}, "x")


def test_a_map_without_a_ventricle_is_refused(beating):
    with pytest.raises(UnsupportedDataError, match="no frame has a label"):
        assess_function(Image(np.where(beating.array == 2, 2, 0), beating.affine), CHAMBERS)


def with_frames(image, change):
    """A label map changed frame by frame: ``change`` gets the frames, (x, y, z, t)."""
    array = image.array.copy()
    change(array)
    return Image(array, image.affine, image.frame_time)


def only(frames):
    """Change that leaves labels in some frames alone."""

    def change(array):
        array[..., [t for t in range(array.shape[3]) if t not in frames]] = 0

    return change


def test_a_frame_without_the_cavity_is_not_taken_for_end_systole(beating, whole):
    """What the left ventricle lacks in a frame must not move the phase in which the right one is measured."""

    def change(array):
        array[..., 3][array[..., 3] == CHAMBERS.left] = CHAMBERS.myocardium

    lacking = with_frames(beating, change)
    found = assess_function(lacking, CHAMBERS)
    assert found.phases.es == whole.phases.es
    for side in ("left", "right"):
        assert "left ventricle is not labelled in frame 4" in found.quantities()[side]["ejection_fraction"].reason
    assert "not labelled in every frame" in found.flow.heart_rate.reason
    assert "curve-not-smooth" not in codes(found.doubts)
    given = assess_function(lacking, CHAMBERS, ed=whole.phases.ed, es=whole.phases.es)
    for side, name in product(("left", "right"), ("edv", "esv", "ejection_fraction")):
        assert value(given, side, name) == value(whole, side, name)


def test_two_drawn_frames_are_end_diastole_and_end_systole(beating, whole):
    phases = (whole.phases.ed, whole.phases.es)
    found = assess_function(with_frames(beating, only(phases)), CHAMBERS, Subject(heart_rate=60))
    assert (found.phases.ed, found.phases.es, found.phases.origin) == (*phases, "labelled")
    for side in ("left", "right"):
        for name in whole.quantities()[side]:
            assert value(found, side, name) == value(whole, side, name)
    assert value(found, "heart", "cardiac_output") == pytest.approx(0.06 * value(whole, "left", "stroke_volume"))
    assert value(found, "heart", "peak_filling_rate") is None
    assert not codes(found.doubts)
    curve = found.as_json()["curves_ml"][LEFT]
    assert [t for t, volume in enumerate(curve) if volume is not None] == sorted(phases)


def test_of_three_drawn_frames_the_phases_must_be_given(beating, whole):
    drawn = with_frames(beating, only((0, 4, whole.phases.es)))
    assert "give both frames" in assess_function(drawn, CHAMBERS).quantities()["right"]["esv"].reason
    given = assess_function(drawn, CHAMBERS, ed=0, es=whole.phases.es)
    assert value(given, "right", "ejection_fraction") == value(whole, "right", "ejection_fraction")
    assert codes(given.doubts) == codes(whole.doubts)

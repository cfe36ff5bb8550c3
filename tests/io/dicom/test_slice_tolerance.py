"""Slices that are not evenly spaced are refused, unless a slice tolerance allows it."""

import re
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.io.dicom.read import list_series, read_series
from crnn_cli.io.images import load_image
from crnn_cli.io.nifti.image import read_image
from tests.support.dicom import oblique, values, write_series
from tests.support.remarks import texts

UNEVEN = [0, 8, 16.6, 24, 32]  # the third lies 0.6 mm beside its place


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.lists(st.floats(-3.9, 3.9), min_size=1, max_size=5))
def test_slices_are_taken_as_even_up_to_the_distance_said_and_no_further(seed, beside):
    """The first and the last slice lie where the header has them, the others are spread evenly between."""
    gap, count = 8.0, len(beside) + 2
    places = gap * np.arange(count) + [0, *beside, 0]
    aside = max(map(abs, beside))
    with tempfile.TemporaryDirectory() as name:
        pixels = values(count, 1, 4, 5, seed)
        affine = write_series(Path(name), pixels, oblique(seed), gap=gap, positions=places)
        gaps = np.diff(places)
        beyond = np.abs(gaps - np.median(gaps)).max() - max(0.01 * np.median(gaps), 0.05)
        assume(abs(beyond) > 1e-3)
        if beyond < 0:
            assert list_series(Path(name)).series[0].grid
            return
        for tolerated in (None, 0, aside - 0.01):
            if tolerated is None or tolerated >= 0:
                assert "not evenly spaced" in list_series(Path(name), slice_tolerance=tolerated).series[0].problems[0]
        image, _, series = read_series(Path(name), slice_tolerance=aside + 1e-3)
        np.testing.assert_allclose(image.affine, affine, atol=1e-4)
        np.testing.assert_array_equal(image.array.transpose(2, 1, 0), pixels[:, 0])
        said = re.match(r"slices lie up to (\S+) mm from even places, and are taken as even", series.remarks[0].text)
        assert float(said.group(1)) == pytest.approx(aside, abs=0.006)


def test_the_value_offered_is_the_least_that_does(tmp_path):
    write_series(tmp_path, values(5, 1, 4, 4), positions=UNEVEN)
    with pytest.raises(UnsupportedDataError, match=r"8\.60 mm after slice 2, 7\.40 mm after slice 3") as refused:
        read_series(tmp_path)
    offered = float(re.search(r"take them as even with slice_tolerance=(\S+)", str(refused.value)).group(1))
    assert offered == pytest.approx(0.6)
    read_series(tmp_path, slice_tolerance=offered)
    with pytest.raises(UnsupportedDataError):
        read_series(tmp_path, slice_tolerance=offered - 0.01)


@pytest.mark.parametrize("places", [[0, 8, 24, 32], [0, 8, 16, 24, 40, 48], [0, 8, 8.5, 16, 24], [0, 8, 11, 24]])
def test_where_a_slice_seems_missing_or_doubled_nothing_is_offered(tmp_path, places):
    write_series(tmp_path, values(len(places), 1, 4, 4), positions=places)
    with pytest.raises(UnsupportedDataError, match=r"slices missing or doubled\?") as refused:
        read_series(tmp_path)
    assert "slice_tolerance" not in str(refused.value)


def test_a_tilted_gantry_stays_refused(tmp_path):
    def tilted(z, t):
        return {"ImagePositionPatient": ["0", str(3 * z), str(8 * z + (z == 1))]}

    write_series(tmp_path, values(3, 1, 4, 4), each=tilted)
    with pytest.raises(UnsupportedDataError, match="a tilted gantry") as refused:
        read_series(tmp_path, slice_tolerance=100)
    assert "evenly" not in str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "SCAN", "OUT"), ("info", "SCAN", "--series", "1"),
        ("segment", "SCAN", "--slices", "axial", "-o", "OUT"),
        ("reconstruct", "SCAN", "--undersample", "2", "--iterations", "1", "-o", "OUT"),
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_commands_refuse_with_4_and_warn_where_they_are_told(crnn, tmp_path, arguments):
    write_series(tmp_path / "scan", values(5, 3, 16, 16, high=900), positions=UNEVEN)
    named = {"SCAN": tmp_path / "scan", "OUT": tmp_path / "out.nii.gz"}
    given = [named.get(one, one) for one in arguments]
    ended = crnn(*given)
    assert ended.code == 4
    assert "take them as even with --slice-tolerance 0.6" in " ".join(ended.err.split())
    ended = crnn(*given, "--slice-tolerance", "0.6")
    assert ended.code == 0
    everything = ended.err + ended.out.decode(errors="replace")
    words = " ".join(re.sub(r"[^\x20-\x7e]", " ", everything).split())  # without the lines of a table
    assert "slices lie up to 0.60 mm from even places" in words
    if arguments[0] == "convert":
        assert read_image(tmp_path / "out.nii.gz").spacing[2] == pytest.approx(8)


def test_info_lists_the_note(crnn, tmp_path):
    write_series(tmp_path, values(5, 1, 4, 4), positions=UNEVEN)
    assert "take them as even with --slice-tolerance 0.6" in " ".join(crnn("info", tmp_path).err.split())
    ended = crnn("info", tmp_path, "--slice-tolerance", "0.6")
    assert "series 1: slices lie up to 0.60 mm from even places" in " ".join(ended.err.split())
    assert ended.code == 0


def test_what_is_made_of_an_uneven_series_keeps_its_places(crnn, tmp_path):
    write_series(tmp_path / "scan", values(5, 1, 6, 6), positions=UNEVEN)
    ended = crnn("convert", tmp_path / "scan", tmp_path / "again", "--slice-tolerance", "0.6")
    assert ended.code == 0, ended.err
    _, _, first = read_series(tmp_path / "scan", slice_tolerance=1)
    _, _, again = read_series(tmp_path / "again", slice_tolerance=1)
    assert [row[0].position for row in again.grid] == [row[0].position for row in first.grid]


def test_doubts_are_those_of_the_image_and_of_the_series(tmp_path):
    write_series(tmp_path / "d", values(5, 2, 4, 4), positions=UNEVEN, each=lambda z, t: {"TriggerTime": None})
    found = load_image(tmp_path / "d", slice_tolerance=1)
    assert found.remarks() == [*found.image.doubts(), *found.series.remarks]
    assert len(found.series.remarks) == 2
    assert texts(found.image.doubts()) == ["the header gives no frame time"]


def test_uneven_is_for_dicom_and_ismrmrd(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UsageError, match="slice_tolerance is for slices of a DICOM series or an ISMRMRD file"):
        load_image(tmp_path / "a.nii", slice_tolerance=1.0)

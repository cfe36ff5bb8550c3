"""Magnitude and phase as DICOM series: the phase is found by its headers, and is never a magnitude without a word."""

import numpy as np
import pytest

import crnn_cli
from crnn_cli import notices
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.dicom.frames.image_type import ImageType
from crnn_cli.io.dicom.read import list_series
from crnn_cli.workflows.reconstruct.scan import ScanRequest, Simulation, load_scan
from tests.support.dicom import values, write_series
from tests.support.remarks import codes

MAGNITUDE = values(3, 4, 12, 10, seed=1)
PHASE = values(3, 4, 12, 10, seed=2, high=4096)
PHASE[0, 0, 0, :2] = 0, 4095


def write_phase(folder, **more):
    headers = {"ImageType": ["ORIGINAL", "PRIMARY", "P"], "SeriesNumber": 9, "SeriesDescription": "cine sax"}
    return write_series(folder, PHASE, RescaleSlope="2", RescaleIntercept="-4096", **{**headers, **more})


@pytest.fixture
def study(tmp_path):
    write_series(tmp_path / "study", MAGNITUDE)
    write_phase(tmp_path / "study")
    return tmp_path / "study"


def complex_of(request):
    return load_scan(request).truth.array


def expected():
    angle = (2.0 * PHASE - 4096) * np.pi / 4096
    return (MAGNITUDE * np.exp(1j * angle)).transpose(3, 2, 0, 1)


def test_the_phase_in_the_folder_of_the_scan_is_found_by_its_headers(study):
    found = complex_of(ScanRequest(study, series="1", phase=study, simulation=Simulation(2)))
    np.testing.assert_allclose(found, expected(), atol=2)
    np.testing.assert_allclose(crnn_cli.load(study, series=1, phase=study).array, expected(), atol=2)


def test_a_phase_takes_the_tolerance_of_the_scan(tmp_path):
    places = [0, 8, 16.9]
    write_series(tmp_path / "m", MAGNITUDE, positions=places, SpacingBetweenSlices=None)
    write_phase(tmp_path / "p", positions=places, SpacingBetweenSlices=None)
    request = ScanRequest(tmp_path / "m", phase=tmp_path / "p", simulation=Simulation(2), slice_tolerance=1.0)
    np.testing.assert_allclose(complex_of(request), expected(), atol=2)


def test_several_series_of_phase_are_refused_with_what_to_do(study):
    write_phase(study, SeriesNumber=10)
    with pytest.raises(UnsupportedDataError, match="3 series, and the headers of 2 of them say phase: put the phase"):
        crnn_cli.load(study, series=1, phase=study)


def test_a_phase_taken_for_magnitudes_is_a_doubt_and_listings_name_it(study):
    for series, expected in (("1", False), ("2", True)):
        with notices.recording() as record:
            load_scan(ScanRequest(study, series=series, simulation=Simulation(2)))
        assert ("phase-as-magnitude" in codes(record.remarks)) is expected
    assert [each.title for each in list_series(study).series] == ["cine sax", "cine sax phase"]


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        (ImageType(("ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE")), True),
        (ImageType(("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE")), False),
        (ImageType(("ORIGINAL", "PRIMARY", "OTHER"), "PHASE TYPE 8"), True),
        (ImageType(("ORIGINAL", "PRIMARY", "OTHER"), "MAGNITUDE"), False),
        (ImageType(), False),
    ],
)
def test_phases_are_told_by_type_and_component(kind, phase):
    assert kind.is_phase is phase

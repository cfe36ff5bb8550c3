"""Enhanced multi-frame images: the order of their frames, what their dimension indices count, and missing parts."""

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.uid import generate_uid

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.dicom.grid.positions import group_by_position
from crnn_cli.io.dicom.grid.timing import sort_by_time
from crnn_cli.io.dicom.headers import read_headers
from crnn_cli.io.dicom.read import list_series, read_series
from crnn_cli.io.dicom.sources import sources
from tests.support.dicom import ENHANCED, base, values
from tests.support.dicom_scans import item

SLICES, TIMES = 2, 5
UNEVEN = (0.0, 21.0, 70.0, 95.0, 160.0)
"""Trigger delays of a cycle, ms."""


def write(file, frame, pixels, dimensions=(), kinds=1, keep=None, **more):
    """Write pixels (slice, time, row, column) as one object, frames in random order; return them.

    frame : gives the attributes of FrameContentSequence and CardiacSynchronizationSequence by kind, slice and time.
    keep : times to write; None for all.
    """
    places = [(k, z, t) for k in range(kinds) for z in range(SLICES) for t in keep or range(TIMES)]
    order = np.random.default_rng(1).permutation(len(places))
    groups = []
    for k, z, t in (places[n] for n in order):
        content, cardiac = frame(k, z, t)
        group = item(PlanePositionSequence=[item(ImagePositionPatient=[0.0, 0.0, 8.0 * z])],
                     FrameContentSequence=[item(**content)])  # fmt: skip
        if cardiac:
            group.CardiacSynchronizationSequence = [item(NominalCardiacTriggerDelayTime=cardiac)]
        groups.append(group)
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=[1.5, 1.25], SliceThickness=8.0)],
                  PlaneOrientationSequence=[item(ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])])  # fmt: skip
    data = base(
        file, SOPClassUID=ENHANCED, Rows=pixels.shape[2], Columns=pixels.shape[3], NumberOfFrames=len(places),
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=groups,
        **({"InstanceNumber": 1} | more),
    )  # fmt: skip
    if dimensions:
        data.DimensionIndexSequence = [item(DimensionIndexPointer=tag_for_keyword(name)) for name in dimensions]
    data.PixelData = np.stack([pixels[z, t] + k for k, z, t in (places[n] for n in order)]).astype(np.uint16).tobytes()
    data.save_as(file)


@pytest.fixture
def pixels():
    return values(SLICES, TIMES, 6, 7)


def texts(series):
    return " ".join(remark.text for remark in series.remarks)


def stored(path):
    image, _, series = read_series(path)
    return image.array.transpose(2, 3, 1, 0), series


def test_trigger_delays_order_frames_that_lie_in_a_file_in_any_order(tmp_path, pixels):
    write(tmp_path / "a.dcm", lambda k, z, t: ({}, UNEVEN[t] + 1), pixels)
    found, series = stored(tmp_path)
    np.testing.assert_array_equal(found, pixels)
    assert series.kind == "cine"
    assert "instance numbers" not in texts(series)


def test_trigger_delays_that_run_against_the_temporal_positions_are_of_no_cycle(tmp_path, pixels):
    """Perfusion: an image in each beat, about the same time after the R wave."""
    jitter = (700.0, 640.0, 760.0, 610.0, 690.0)
    write(tmp_path / "a.dcm", lambda k, z, t: ({"TemporalPositionIndex": t + 1}, jitter[t]), pixels)
    frames = group_by_position([frame for source in sources(tmp_path) for frame in read_headers(source).frames])
    order = sort_by_time(frames)
    assert (order.name, order.gated) == ("temporal position", False)


def test_all_dimension_indices_count(tmp_path, pixels):
    names = ("TemporalPositionIndex", "StackID", "InStackPositionNumber", "EffectiveEchoTime")
    write(tmp_path / "a.dcm", lambda k, z, t: ({"DimensionIndexValues": [t + 1, 1, z + 1, 1]}, 0), pixels, names)
    found, series = stored(tmp_path)
    np.testing.assert_array_equal(found, pixels)
    assert (series.ordered_by, series.remarks) == ("dimension index", ())


@pytest.mark.parametrize(("names", "word"), [
    (("StackID", "InStackPositionNumber", "DiffusionBValue"), "DiffusionBValue"), ((), "dimension index 3"),
])  # fmt: skip
def test_a_dimension_that_is_no_time_is_named(tmp_path, pixels, names, word):
    write(tmp_path / "a.dcm", lambda k, z, t: ({"DimensionIndexValues": [1, z + 1, t + 1]}, 0), pixels, names)
    (series,) = list_series(tmp_path).series
    assert f"the frames are in the order of {word}, and nothing in the headers says that it is a time" in texts(series)


def test_images_that_two_dimensions_tell_apart_are_no_times(tmp_path, pixels):
    write(tmp_path / "a.dcm", lambda k, z, t: ({"DimensionIndexValues": [k + 1, z + 1, t + 1]}, 0), pixels,
          ("DiffusionBValue", "InStackPositionNumber", "TemporalPositionIndex"), kinds=2)  # fmt: skip
    with pytest.raises(UnsupportedDataError, match="differ in DiffusionBValue and TemporalPositionIndex"):
        read_series(tmp_path)


def test_time_offsets_that_run_against_temporal_positions_are_told(tmp_path, pixels):
    def frame(k, z, t):
        return {"TemporalPositionIndex": t + 1, "TemporalPositionTimeOffset": 0.2 - 0.03 * t}, 0

    write(tmp_path / "a.dcm", frame, pixels)
    assert "the time offsets run in another order" in texts(list_series(tmp_path).series[0])


def test_temporal_positions_that_no_slice_has_are_told(tmp_path, pixels):
    write(tmp_path / "a.dcm", lambda k, z, t: ({"TemporalPositionIndex": t + 1}, 0), pixels, keep=[0, 1, 3, 4])
    assert "temporal positions up to 5, of which 3 are not there" in texts(list_series(tmp_path).series[0])


@pytest.mark.parametrize(("there", "lacking"), [((1, 2, 3), ""), ((1, 3), "2"), ((1, 2), "3"), ((2,), "1, 3")])
def test_parts_of_a_concatenation_that_are_missing_are_told(tmp_path, there, lacking):
    pixels, series, study, whole = values(SLICES, 15, 6, 7), *(generate_uid() for _ in range(3))
    for number in there:
        times = range(5 * number - 5, 5 * number)
        write(tmp_path / f"{number}.dcm", lambda k, z, t: ({}, 1 + 30.0 * t), pixels, keep=times,
              SeriesInstanceUID=series, StudyInstanceUID=study, ConcatenationUID=whole, InConcatenationNumber=number,
              InConcatenationTotalNumber=3)  # fmt: skip
    found, read = stored(tmp_path)
    np.testing.assert_array_equal(found, np.concatenate([pixels[:, 5 * n - 5 : 5 * n] for n in there], axis=1))
    told = f"3 parts of one object (concatenation), of which {lacking} are not there"
    assert (told in texts(read)) == bool(lacking)

"""What is met in the field: one test a row, with the right value or the refusal that says what helps."""

import gzip
import json
import time
from datetime import datetime, timedelta

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.dicom.frames.attributes import clock
from crnn_cli.io.dicom.read import list_series, load_dicom, read_dicom
from crnn_cli.io.dicom.seg_series import is_seg
from crnn_cli.io.images import load_image
from tests.support.dicom import oblique, values, write_enhanced, write_series


def as_stored(image):
    """Return (slice, frame, row, column) of an image (column, row, slice, frame)."""
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    return array.transpose(2, 3, 1, 0)


def codes(series):
    return [each.code for each in series.remarks]


def edit(folder, change):
    """Change each file of a folder by a function of (dataset, number)."""
    for number, file in enumerate(sorted(folder.rglob("*.dcm"))):
        data = pydicom.dcmread(file)
        change(data, number)
        data.save_as(file)


def last_slice(folder):
    """Return the file of the slice that lies highest along z."""
    return max(folder.iterdir(), key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2]))


# files


@pytest.mark.parametrize("defect", ["empty", "cut", "scrambled"])
def test_a_stack_whose_end_cannot_be_read_is_refused_with_the_name_and_read_without_the_file(tmp_path, defect):
    pixels = values(6, 1, 6, 6)
    write_series(tmp_path, pixels)
    victim = last_slice(tmp_path)
    whole = victim.read_bytes()
    victim.write_bytes({"empty": b"", "cut": whole[:100], "scrambled": np.random.default_rng(0).bytes(900)}[defect])
    with pytest.raises(UnreadableError, match=rf"{victim.name} \(.*may be a part of it: replace the file, or remove"):
        read_dicom(tmp_path)
    victim.unlink()
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels[:5])


def test_a_cut_file_beside_a_grid_that_is_whole_without_it_is_a_doubt(tmp_path):
    pixels = values(3, 4, 6, 6)
    write_series(tmp_path, pixels)
    (tmp_path / "x.dcm").write_bytes(next(tmp_path.iterdir()).read_bytes()[:420])
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels)
    (series,) = list_series(tmp_path).series
    assert codes(series).count("dicom-files-left-out") == 1
    assert "x.dcm (ends before its pixels)" in str(series.remarks[-1])


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber"])
def test_a_cut_file_that_states_another_series_is_no_obstacle(tmp_path, keyword):
    write_series(tmp_path, values(4, 1, 6, 6), series="1.2.3", study="1.2")
    write_series(tmp_path / "o", values(1, 1, 6, 6), series="1.2.3", study="1.2", **{keyword: "9"})
    (other,) = (tmp_path / "o").iterdir()
    content = other.read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[: content.index(b"\x28\x00\x10\x00")])
    other.unlink()
    assert list_series(tmp_path).series[0].grid
    other.parent.joinpath("cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes())
    (tmp_path / "cut.dcm").unlink()
    assert list_series(tmp_path).series[0].grid  # of another folder


def test_files_without_dicom_are_counted_and_no_doubt(crnn, tmp_path):
    write_series(tmp_path / "d", values(4, 1, 6, 6))
    (tmp_path / "d" / "notes.txt").write_text("a text")
    (tmp_path / "d" / "._a.dcm").write_bytes(b"\0\5\x16\7Mac OS X")
    (series,) = list_series(tmp_path / "d").series
    assert codes(series) == ["dicom-beside"]
    ended = crnn("info", tmp_path / "d")
    assert "not read: 2 files: not DICOM" in " ".join(ended.err.split())
    assert crnn("convert", tmp_path / "d", tmp_path / "o.nii.gz", "--strict").code == 0


def test_a_file_packed_with_gzip_counts_as_what_it_holds(tmp_path):
    pixels = values(4, 1, 6, 6)
    write_series(tmp_path, pixels)
    victim = last_slice(tmp_path)
    (tmp_path / f"{victim.name}.gz").write_bytes(gzip.compress(victim.read_bytes()))
    victim.unlink()
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels)
    (packed,) = tmp_path.glob("*.gz")
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(UnreadableError, match=r"\.gz \(damaged: it cannot be unpacked"):
        read_dicom(tmp_path)


def test_a_single_file_without_preamble_is_dicom_to_every_command(crnn, tmp_path):
    write_series(tmp_path, values(1, 1, 6, 6))
    (file,) = tmp_path.iterdir()
    bare = tmp_path / "IM0001"
    bare.write_bytes(file.read_bytes()[132:])
    assert load_image(bare).format == "DICOM"
    ended = crnn("info", bare, "--json")
    assert json.loads(ended.out)["format"] == "DICOM"


def test_a_series_shorter_than_its_headers_say_is_a_doubt(tmp_path):
    more = {"CardiacNumberOfImages": 25, "ImagesInAcquisition": 25}
    write_series(tmp_path, values(1, 20, 5, 5), **more)
    (series,) = list_series(tmp_path).series
    (doubt,) = (each for each in series.remarks if each.code == "dicom-series-incomplete")
    assert "25 images in the acquisition, and 20 are there; 25 images in a cardiac cycle" in doubt.text
    write_series(tmp_path / "b", values(1, 20, 5, 5), CardiacNumberOfImages=20, ImagesInAcquisition=20)
    assert "dicom-series-incomplete" not in codes(list_series(tmp_path / "b").series[0])


def test_instance_numbers_far_apart_are_not_counted_through(tmp_path):
    """A damaged number of two thousand million is one odd number, not as many missing ones."""
    write_series(tmp_path, values(1, 4, 5, 5), each=lambda z, t: {"InstanceNumber": t + 1 if t < 3 else 2**31 - 1})
    began = time.process_time()
    (series,) = list_series(tmp_path).series
    assert series.frames == 4
    assert time.process_time() - began < 20


@pytest.mark.parametrize("gone", [2, 5])
def test_a_gap_in_the_instance_numbers_is_a_doubt(tmp_path, gone):
    write_series(tmp_path, values(1, 9, 5, 5), each=lambda z, t: {"InstanceNumber": t + 1}, skip={(0, gone)})
    (series,) = list_series(tmp_path).series
    assert any(f"of which {gone + 1} are not there" in str(each) for each in series.remarks)


def test_a_whole_series_is_no_replacement_for_a_damaged_one(tmp_path):
    write_series(tmp_path / "a", values(3, 1, 6, 6), SeriesDescription="cine")
    write_series(tmp_path / "b", values(1, 1, 6, 6), SeriesDescription="scout", SeriesNumber=9)
    victim = last_slice(tmp_path / "a")
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(UnsupportedDataError, match=r"holds 2 series: choose one with(.|\n)*20 bytes are missing"):
        read_dicom(tmp_path)
    with pytest.raises(UnreadableError, match=rf"the pixels of .*{victim.name} are damaged.*give the whole file"):
        read_dicom(tmp_path, "1")
    assert read_dicom(tmp_path, "2")[0].shape == (6, 6, 1)


def test_a_series_that_is_taken_for_the_only_one_is_named(tmp_path):
    write_series(tmp_path / "a", values(3, 1, 6, 6), SamplesPerPixel=3)
    pixels = values(3, 2, 6, 6)
    write_series(tmp_path / "b", pixels, SeriesNumber=9)
    loaded = load_dicom(tmp_path)
    np.testing.assert_array_equal(as_stored(loaded.image), pixels)
    assert "series 2 was taken, the only one of 2 that can be read" in [str(each) for each in loaded.remarks()]
    assert "dicom-only-series" not in codes(load_dicom(tmp_path, "2").series)


# kinds, stations, origins


def test_parts_that_no_header_tells_apart_are_refused_and_the_help_is_named(tmp_path):
    for kind in range(2):
        write_series(
            tmp_path / str(kind), values(2, 5, 5, 5, kind), series="1.2.3", study="1.2",
            each=lambda z, t, kind=kind: {"InstanceNumber": 1 + 10 * kind + 5 * z + t},
        )  # fmt: skip
    with pytest.raises(UnsupportedDataError, match=r"2 images lie at one place at each trigger time.*leave one kind"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("frames", [1, 5])
def test_images_that_their_rescale_alone_tells_apart_are_series_of_their_own(tmp_path, frames):
    """As the values in Hz and the magnitude of a field map."""
    scales, pixels = [("1", "0"), ("0.5", "-200")], values(2, 2 * frames, 5, 5)
    for kind, (slope, intercept) in enumerate(scales):
        write_series(
            tmp_path / str(kind), pixels[:, kind * frames : (kind + 1) * frames], series="1.2.3", study="1.2",
            RescaleSlope=slope, RescaleIntercept=intercept,
            each=lambda z, t, kind=kind: {"InstanceNumber": 1 + (2 * kind + z) * frames + t},
        )  # fmt: skip
    first, second = list_series(tmp_path).series
    assert {first.part, second.part} == {"rescaled by 1 +0", "rescaled by 0.5 -200"}
    shown = [read_dicom(tmp_path, str(each.number))[0] for each in sorted((first, second), key=lambda s: -len(s.part))]
    np.testing.assert_array_equal(as_stored(shown[0]), pixels[:, frames:] * 0.5 - 200)
    np.testing.assert_array_equal(as_stored(shown[1]), pixels[:, :frames])


def test_times_with_a_rescale_each_stay_times(tmp_path):
    write_series(
        tmp_path, values(2, 3, 5, 5), RescaleIntercept="0",
        each=lambda z, t: {"RescaleSlope": f"{t + 1}", "TriggerTime": None, "AcquisitionNumber": t},
    )  # fmt: skip
    assert [(each.slices, each.frames) for each in list_series(tmp_path).series] == [(2, 3)]


def test_phases_of_several_dynamics_are_no_doubles(tmp_path):
    """Each temporal position has several trigger times, and each trigger time several positions."""
    pixels = values(1, 6, 5, 5)
    write_series(
        tmp_path, pixels, each=lambda z, t: {
            "TemporalPositionIdentifier": 1 + t // 3, "TriggerTime": f"{40 * (t % 3)}", "InstanceNumber": t + 1,
        },
    )  # fmt: skip
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels)


def test_the_same_pixels_under_other_numbers_are_there_twice(tmp_path):
    pixels = values(3, 1, 5, 5)
    for copy in range(2):
        write_series(
            tmp_path / str(copy), pixels, series="1.2.3", study="1.2",
            each=lambda z, t, copy=copy: {"InstanceNumber": 1 + 3 * copy + z},
        )  # fmt: skip
    with pytest.raises(UnsupportedDataError, match=r"times 1 and 2 of .* have the same pixels.*remove one of each"):
        read_dicom(tmp_path)


def test_what_tells_series_apart_is_named_without_a_word_on_the_patient(tmp_path):
    for number, change in enumerate(({}, {"PatientID": "Q-0815"}, {"FrameOfReferenceUID": "1.9"})):
        write_series(
            tmp_path / str(number), values(2, 1, 5, 5, number), series="1.2.3", study="1.2",
            **{"FrameOfReferenceUID": "1.8", **change},
        )  # fmt: skip
    listing = list_series(tmp_path)
    parts = [series.part for series in listing.series]
    assert len(set(parts)) == 3
    assert any("patient 2" in part for part in parts)
    assert any("frame of reference 2" in part for part in parts)
    assert "Q-0815" not in repr(listing)


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "SeriesNumber"])
def test_what_some_files_leave_out_and_the_others_agree_on_splits_nothing(tmp_path, keyword):
    pixels = values(4, 1, 5, 5)
    write_series(tmp_path, pixels, FrameOfReferenceUID="1.8", each=lambda z, t: {keyword: None} if z in (0, 2) else {})
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels)


def test_ct_slices_whose_type_differs_in_a_word_are_one_volume(tmp_path):
    pixels = values(4, 1, 5, 5)
    write_series(
        tmp_path, pixels, Modality="CT",
        each=lambda z, t: {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", *(["ADD"] if z > 1 else [])]},
    )  # fmt: skip
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels)


# time


def moments(step, begin=datetime(2024, 12, 31, 23, 59, 58), dated=True):
    def each(z, t):
        moment = begin + timedelta(seconds=step * t)
        day = {"AcquisitionDate": moment.strftime("%Y%m%d")} if dated else {}
        return {"TriggerTime": None, "AcquisitionTime": moment.strftime("%H%M%S.%f"), **day}

    return each


@pytest.mark.parametrize("dated", [True, False])
def test_frames_after_midnight_come_last(tmp_path, dated):
    pixels = values(2, 6, 5, 5)
    write_series(tmp_path, pixels, each=moments(1.5, dated=dated))
    image, _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(as_stored(image), pixels)
    assert image.frame_time == pytest.approx(1.5)


def test_a_contradicting_trigger_time_gives_way_and_the_contradiction_is_said(tmp_path):
    order, timed = [0, 3, 1, 4, 2, 5], moments(10.0)
    pixels = values(2, 6, 5, 5)
    write_series(tmp_path, pixels, each=lambda z, t: timed(z, t) | {"TriggerTime": f"{1000 * order[t]}"})
    image, _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(as_stored(image), pixels)
    assert image.frame_time == pytest.approx(10)
    assert "dicom-time-order" in codes(list_series(tmp_path).series[0])


@pytest.mark.parametrize("first", [1, 3, 5])
def test_a_cycle_that_begins_in_the_middle_is_ordered_by_its_trigger_times(tmp_path, first):
    pixels = values(2, 6, 5, 5)
    write_series(tmp_path, pixels, each=lambda z, t: {"InstanceNumber": 1 + 6 * z + (t - first) % 6})
    image, _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(as_stored(image), pixels)
    assert codes(list_series(tmp_path).series[0]) == []


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20240101", "101530.5", (36930500.0, 738886)), ("2024.01.01", "10:15:30.5", (36930500.0, 738886)),
        ("", "1015", (36900000.0, None)), ("20241332", "10", (36000000.0, None)), ("20240101", "not a time", None),
        ("20240101", "99", None), ("20240101", None, None), ("20240101", "1015nan", None),
    ],
)  # fmt: skip
def test_times_of_the_day_in_all_spellings(date, time, expected):
    assert clock(date, time) == expected


@pytest.mark.parametrize(
    ("group", "content", "expected"),
    [
        (lambda t: ("CardiacSynchronizationSequence", {"ActualCardiacTriggerDelayTime": 40.0 * t}), {}, 0.04),
        (lambda t: ("TemporalPositionSequence", {"TemporalPositionTimeOffset": 0.05 * t}), {}, 0.05),
        (None, lambda t: {"FrameAcquisitionDateTime": f"20240101235959.{100000 * t:06d}-0500"}, 0.1),
        (None, lambda t: {"FrameReferenceDateTime": f"202401012359{58 + t // 2:02d}.{500000 * (t % 2):06d}+0130"}, 0.5),
    ],
    ids=["actual trigger delay", "time offset", "zone", "reference time"],
)  # fmt: skip
def test_frame_times_of_multi_frame_objects(tmp_path, group, content, expected):
    pixels = values(2, 4, 5, 5)
    write_enhanced(tmp_path / "e.dcm", pixels, oblique(2))

    def change(data, _):
        for item in data.PerFrameFunctionalGroupsSequence:
            t = int(item.FrameContentSequence[0].TemporalPositionIndex) - 1
            del item.CardiacSynchronizationSequence, item.FrameContentSequence[0].TemporalPositionIndex
            for name, value in (content(t) if content else {}).items():
                setattr(item.FrameContentSequence[0], name, value)
            if group:
                name, made = group(t)
                setattr(item, name, [Dataset()])
                for keyword, value in made.items():
                    setattr(getattr(item, name)[0], keyword, value)

    edit(tmp_path, change)
    image, _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(as_stored(image), pixels)
    assert image.frame_time == pytest.approx(expected)


# pixels


def test_a_lookup_table_that_is_too_short_is_damage(tmp_path):
    write_series(tmp_path, values(2, 1, 5, 5))

    def change(data, _):
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [4096, 0, 16], "US", b"\0\1" * 100
        table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
        data.ModalityLUTSequence = [table]

    edit(tmp_path, change)
    with pytest.raises(UnreadableError, match=r"lookup table \(Modality LUT\) has 100 of 4096 entries"):
        read_dicom(tmp_path)


def test_a_segmentation_of_any_kind_is_no_image(tmp_path):
    write_series(tmp_path / "d", values(3, 1, 5, 5))
    for name, kind in (("a", "66.4"), ("b", "66.7")):
        write_enhanced(tmp_path / f"{name}.dcm", values(3, 1, 5, 5), oblique(1))
        data = pydicom.dcmread(tmp_path / f"{name}.dcm")
        data.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{kind}"
        data.save_as(tmp_path / "d" / f"{name}.dcm")
        assert is_seg(tmp_path / "d" / f"{name}.dcm")
    listing = list_series(tmp_path / "d")
    assert len(listing.series) == 1
    assert listing.objects == {"Segmentation": 2}


def test_an_image_that_calls_itself_a_mosaic_by_its_matrix_is_refused_with_help(tmp_path):
    write_series(
        tmp_path, values(1, 3, 96, 96), Manufacturer="SIEMENS", AcquisitionMatrix=[32, 0, 0, 32],
        each=lambda z, t: {"TriggerTime": None, "AcquisitionNumber": t + 1},
    )  # fmt: skip
    with pytest.raises(UnsupportedDataError, match=r"a mosaic.*unpack it first"):
        read_dicom(tmp_path)
    edit(tmp_path, lambda data, _: setattr(data, "AcquisitionMatrix", [48, 0, 0, 48]))  # interpolated to twice
    assert read_dicom(tmp_path)[0].shape == (96, 96, 1, 3)


# incomplete grids


def test_a_whole_slice_of_a_grid_with_holes_is_read_alone(crnn, tmp_path):
    pixels = values(4, 5, 16, 16, high=900)
    affine = write_series(tmp_path / "d", pixels, oblique(3), skip={(0, 1), (1, 2), (3, 4)})
    with pytest.raises(UnsupportedDataError, match="take a whole slice alone with slice_number=3"):
        read_dicom(tmp_path / "d")
    loaded = load_dicom(tmp_path / "d", slice_number=3)
    np.testing.assert_array_equal(as_stored(loaded.image), pixels[2:3])
    np.testing.assert_allclose(loaded.image.affine[:3, 3], affine[:3] @ [0, 0, 2, 1], atol=1e-4)
    assert loaded.image.frame_time == pytest.approx(0.03)
    assert "dicom-grid-holes" in codes(loaded.series)
    for number in (1, 2, 4, 5):
        with pytest.raises(UnsupportedDataError):
            load_dicom(tmp_path / "d", slice_number=number)
    run = ("reconstruct", tmp_path / "d", "--undersample", "2", "--method", "sliding-window", "-o")
    refused = crnn(*run, tmp_path / "no.nii.gz")
    assert refused.code == 4
    assert "--slice 3" in " ".join(refused.err.split())
    ended = crnn(*run, tmp_path / "o.nii.gz", "--slice", "3", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert (report["input"]["slice"], report["input"]["slices"]) == (3, 4)
    assert "dicom-grid-holes" in [each["code"] for each in report["doubts"]]


def test_the_report_tells_what_lay_beside_the_series(crnn, tmp_path):
    write_series(tmp_path / "d", values(2, 4, 16, 16, high=900))
    data = pydicom.dcmread(next((tmp_path / "d").iterdir()))
    data.SOPClassUID, data.SeriesInstanceUID, data.NumberOfFrames = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.9", 2
    data.PixelData = data.PixelData * 2
    data.save_as(tmp_path / "d" / "dose.dcm")
    ended = crnn("convert", tmp_path / "d", tmp_path / "o.nii.gz")
    assert ended.code == 0, ended.err
    listed = json.loads(crnn("info", tmp_path / "d", "--json").out)
    assert listed["objects"] == {"RT Dose": 1}
    run = ("--undersample", "2", "--method", "sliding-window", "-o", tmp_path / "r.nii.gz", "--json")
    report = json.loads(crnn("reconstruct", tmp_path / "d", *run).out)
    assert "1 RT Dose" in next(each["text"] for each in report["facts"] if each["code"] == "dicom-beside")


@pytest.mark.parametrize("packing", ["gzip", "deflated"])
def test_a_file_that_unpacks_to_more_than_a_measurement_is_left_out_unread(tmp_path, monkeypatch, packing):
    monkeypatch.setattr("crnn_cli.io.limits.UNDOUBTED", 2**16)
    monkeypatch.setattr("crnn_cli.io.dicom.sources.UNDOUBTED", 2**16)
    write_series(tmp_path, np.zeros((1, 1, 512, 512), int))
    (file,) = tmp_path.iterdir()
    if packing == "gzip":
        file.write_bytes(gzip.compress(file.read_bytes()))
        text = "goes on after the 102.7 KiB|goes on after the .* that its header allows"
    else:
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data.save_as(file)
        text = "as measured values are never compressed"
    with pytest.raises(UnreadableError, match=text):
        list_series(tmp_path)

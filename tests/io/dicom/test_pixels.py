"""Stored pixels come out as they went in, however the file stores them, and each file is read once."""

import io
import zipfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crnn_cli.errors import CrnnError, UnreadableError
from crnn_cli.io.dicom import pixels as dicom_pixels
from crnn_cli.io.dicom.headers import read_headers
from crnn_cli.io.dicom.read import list_series, read_dicom
from crnn_cli.io.dicom.sources import Source, sources
from tests.support.dicom import base, oblique, values, write_enhanced, write_series


def as_stored(image):
    """Return (slice, frame, row, column) of an image (column, row, slice, frame)."""
    array = image.array if image.array.ndim == 4 else image.array[..., None]
    return array.transpose(2, 3, 1, 0)


def one_file(seed, syntax=ExplicitVRLittleEndian, frames=None, extra=0, **more):
    """Return a file of random bytes as pixels, all bits of them."""
    data = base("x", Rows=5, Columns=6, NumberOfFrames=frames, SeriesInstanceUID="1.2", StudyInstanceUID="1.3", **more)
    data.file_meta.TransferSyntaxUID = syntax
    count = 5 * 6 * (frames or 1) * data.BitsAllocated // 8
    data.PixelData = np.random.default_rng(seed).bytes(count + extra)
    data["PixelData"].VR = "OW"
    file = io.BytesIO()
    data.save_as(file)
    return file.getvalue()


def layout_of(content):
    """Return what the headers say of the pixels of a file of any kind."""
    facts = dcmread(io.BytesIO(content), stop_before_pixels=True)
    known = {keyword: facts[keyword].value for keyword in dicom_pixels.DESCRIPTION if keyword in facts}
    at = content.index(b"\xe0\x7f\x10\x00")
    return dicom_pixels.PixelLayout.of(known, str(facts.file_meta.TransferSyntaxUID), at)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 99), st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
    st.sampled_from([None, 1, 3]), st.integers(1, 16), st.booleans(), st.sampled_from([0, 0, 2, 60]),
    st.sampled_from([8, 16, 16, 16, 32]),
)  # fmt: skip
def test_pixels_are_those_that_pydicom_reads(seed, syntax, frames, kept, signed, extra, allocated):
    """Also where bits beyond those that are stored hold rubbish, or more follows than the header promises."""
    content = one_file(
        seed, syntax, frames, extra, BitsAllocated=allocated, BitsStored=min(kept, allocated), HighBit=kept - 1,
        PixelRepresentation=int(signed),
    )  # fmt: skip
    ours, theirs = dicom_pixels.decode_pixels(content, layout_of(content), "x"), pixel_array(io.BytesIO(content))
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("frames", [None, 3])
def test_plain_pixels_are_taken_from_where_they_lie(monkeypatch, syntax, frames):
    content = one_file(1, syntax, frames)
    monkeypatch.delattr(dicom_pixels, "pixel_array")
    found = dicom_pixels.decode_pixels(content, layout_of(content), "x")
    assert found.base is not None
    assert found.tobytes() == content[-found.nbytes :]
    single = one_file(2, syntax)
    (frame,) = read_headers(Source("x", lambda: io.BytesIO(single))).frames
    assert frame.layout == layout_of(single)


def test_each_file_is_opened_once_to_list_and_once_to_read(tmp_path, monkeypatch):
    """Also of several multi-frame files whose frames take turns in the grid."""
    pixels = values(3, 2, 6, 8)
    for t in range(2):
        write_enhanced(tmp_path / f"{t}.dcm", pixels[:, t : t + 1], oblique(3), series="1.2.3", study="1.2", first=t)
    opened = Counter()

    def counted(place):
        for source in sources(place):
            yield Source(source.name, lambda source=source: opened.update([source.name]) or source.open())

    monkeypatch.setattr("crnn_cli.io.dicom.read.sources", counted)
    np.testing.assert_array_equal(as_stored(read_dicom(tmp_path)[0]), pixels)
    assert set(opened.values()) == {2}
    assert len(opened) == 2


def test_the_directory_of_a_zip_is_read_once(tmp_path, monkeypatch):
    write_series(tmp_path / "d", values(3, 4, 5, 5))
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for file in sorted((tmp_path / "d").iterdir()):
            archive.write(file, file.name)
    made = []
    monkeypatch.setattr(zipfile, "ZipFile", lambda *a, whole=zipfile.ZipFile: made.append(a) or whole(*a))
    assert list_series(tmp_path / "scan.zip").series[0].files == 12
    assert len(made) == 1


def test_cut_pixels_are_damage_however_they_are_read(tmp_path):
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        content = one_file(0, syntax)
        for length in (len(content) - 1, len(content) - 30, len(content) - 60):
            with pytest.raises((ValueError, AttributeError, EOFError)):
                dicom_pixels.decode_pixels(content[:length], layout_of(content), "x")
    write_series(tmp_path, values(1, 1, 16, 16))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UnreadableError, match="are damaged"):
        read_dicom(tmp_path)


def test_floating_point_pixels_are_refused_and_never_cut_to_integers(tmp_path):
    write_series(tmp_path, values(1, 1, 4, 4))
    (file,) = tmp_path.iterdir()
    data = dcmread(file)
    del data.PixelData
    data.BitsAllocated = 32
    data.FloatPixelData = np.full((4, 4), 0.5, np.float32).tobytes()
    data.save_as(file)
    with pytest.raises(CrnnError, match="floating-point pixels"):
        read_dicom(tmp_path)

"""Compressed DICOM reads as the uncompressed does, or is refused for the reason that is true."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image as Picture
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from crnn_cli.data.alignment import compare_images
from crnn_cli.errors import CrnnError, UnreadableError, UnsupportedDataError
from crnn_cli.io.dicom import pixels as dicom_pixels
from crnn_cli.io.dicom.read import read_dicom
from tests.support.data import ROOT
from tests.support.dicom import oblique, write_enhanced, write_series

LOSSLESS = {
    "JPEGLosslessProcess14": "1.2.840.10008.1.2.4.57", "JPEGLosslessProcess14_1": "1.2.840.10008.1.2.4.70",
    "JPEGLSLossless": "1.2.840.10008.1.2.4.80", "JPEG2000Lossless": "1.2.840.10008.1.2.4.90",
    "RLELossless": "1.2.840.10008.1.2.5",
}  # fmt: skip
LOSSY = {
    "JPEGBaselineProcess1": "1.2.840.10008.1.2.4.50", "JPEGExtendedProcess2_4": "1.2.840.10008.1.2.4.51",
    "JPEGLSNearLossless": "1.2.840.10008.1.2.4.81", "JPEG2000": "1.2.840.10008.1.2.4.91",
}  # fmt: skip
KINDS = {
    "8 bits": {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    "12 in 16": {"BitsStored": 12, "HighBit": 11},
    "12 in 16, signed": {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1},
    "16, signed": {"PixelRepresentation": 1, "RescaleSlope": "1", "RescaleIntercept": "-1024"},
}


def smooth(kind, slices=2, frames=3, rows=24, columns=32, margin=0):
    """Return pixels over the range of a kind, but for a margin, smooth enough to be compressed well."""
    stored, signed = KINDS[kind].get("BitsStored", 16), KINDS[kind].get("PixelRepresentation", 0)
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    low, high = low + margin, high - margin
    z, t, y, x = np.indices((slices, frames, rows, columns))
    picture = (np.sin(x / 9 + t) * np.cos(y / 7 + z) + 1) / 2
    pixels = np.rint(low + (high - low) * (picture - picture.min()) / np.ptp(picture)).astype(int)
    assert (pixels.min(), pixels.max()) == (low, high)
    return pixels


def transcoded(folder, out, syntax):
    """Write the files of a folder anew: pixels compressed by GDCM, all else as it was."""
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm encodes the files of this test")
    out.mkdir()
    for file in folder.iterdir():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(file))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(out / file.name))
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        packed, data = dcmread(out / file.name), dcmread(file)
        assert packed.file_meta.TransferSyntaxUID == {**LOSSLESS, **LOSSY}[syntax]
        data.PixelData, data.file_meta.TransferSyntaxUID = packed.PixelData, packed.file_meta.TransferSyntaxUID
        data.save_as(out / file.name)
    return out


def pictures(image):
    """Return the slices and frames of an image as bytes, in an order of their own."""
    array = image.array.astype(int)
    return sorted(array[:, :, z, t].T.tobytes() for z in range(array.shape[2]) for t in range(array.shape[3]))


def by_simpleitk(folder):
    """Return the same of the files of a folder, read by SimpleITK."""
    arrays = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in folder.iterdir())
    return sorted(array[0].astype(int).tobytes() for array in arrays)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_kinds_read_as_the_uncompressed(tmp_path, syntax, kind):
    write_series(tmp_path / "plain", smooth(kind), oblique(1), **KINDS[kind])
    plain = read_dicom(tmp_path / "plain")[0]
    image = read_dicom(transcoded(tmp_path / "plain", tmp_path / "packed", syntax))[0]
    assert image.array.dtype == plain.array.dtype
    assert compare_images(plain, image).differs(1e-4, 0) == []
    assert pictures(image) == by_simpleitk(tmp_path / "packed")


@pytest.mark.parametrize(
    ("syntax", "kind", "share"),
    [
        ("JPEGBaselineProcess1", "8 bits", 0.02), ("JPEGExtendedProcess2_4", "8 bits", 0.02),
        ("JPEGExtendedProcess2_4", "12 in 16", 0.01), ("JPEGLSNearLossless", "12 in 16, signed", 0.01),
        ("JPEG2000", "12 in 16", 0.01), ("JPEG2000", "16, signed", 0.01),
    ],
)  # fmt: skip
def test_lossy_kinds_read_within_their_loss_and_as_simpleitk_reads(tmp_path, syntax, kind, share):
    pixels = smooth(kind, margin=20)  # an encoder overshoots at the end of the range
    write_series(tmp_path / "plain", pixels, oblique(1), **KINDS[kind])
    plain = read_dicom(tmp_path / "plain")[0]
    image = read_dicom(transcoded(tmp_path / "plain", tmp_path / "packed", syntax))[0]
    assert compare_images(plain, image).difference <= share * np.ptp(pixels)
    assert pictures(image) == by_simpleitk(tmp_path / "packed")


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_multi_frame_files_too(tmp_path, syntax):
    pixels = smooth("12 in 16", 3, 2)
    (tmp_path / "plain").mkdir()
    write_enhanced(tmp_path / "plain" / "one.dcm", pixels, oblique(2))
    image = read_dicom(transcoded(tmp_path / "plain", tmp_path / "packed", syntax))[0]
    np.testing.assert_array_equal(image.array.transpose(2, 3, 1, 0), pixels)


def test_rle_needs_no_extra_and_is_what_pydicom_packs(tmp_path):
    write_series(tmp_path, smooth("16, signed"), **KINDS["16, signed"])
    plain = read_dicom(tmp_path)[0]
    for file in tmp_path.iterdir():
        data = dcmread(file)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(file)
    assert compare_images(plain, read_dicom(tmp_path)[0]).differs(0, 0) == []


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("kind", KINDS)
def test_deflated_and_big_endian_files_read_as_the_plain(tmp_path, syntax, kind):
    write_series(tmp_path, smooth(kind), **KINDS[kind])
    plain = read_dicom(tmp_path)[0]
    for file in tmp_path.iterdir():
        data = dcmread(file)
        array = data.pixel_array
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data["PixelData"].VR = "OB" if array.itemsize == 1 else "OW"
            data.PixelData = array.astype(array.dtype.newbyteorder(">")).tobytes()
        dcmwrite(file, data, enforce_file_format=True)
    assert compare_images(plain, read_dicom(tmp_path)[0]).differs(0, 0) == []


@pytest.mark.parametrize("little", [True, False])
def test_files_without_preamble_and_meta_header_are_read_in_either_order_of_bytes(crnn, tmp_path, little):
    write_series(tmp_path / "d", smooth("12 in 16"))
    plain = read_dicom(tmp_path / "d")[0]
    for file in (tmp_path / "d").iterdir():
        data = dcmread(file)
        array = data.pixel_array
        bare = pydicom.Dataset({element.tag: element for element in data})
        bare.PixelData = array.astype("<u2" if little else ">u2").tobytes()
        bare["PixelData"].VR = "OW"
        dcmwrite(file, bare, implicit_vr=False, little_endian=little, force_encoding=True)
    assert compare_images(plain, read_dicom(tmp_path / "d")[0]).differs(0, 0) == []
    assert crnn("info", next((tmp_path / "d").iterdir())).code == 0


@pytest.mark.parametrize("packed", ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian", "implicit"])
def test_files_of_other_encoders_read_as_their_plain_twin(packed):
    """Of the files that pydicom comes with."""
    pytest.importorskip("gdcm", reason="python-gdcm decodes JPEG-LS")
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    plain = read_dicom(folder / "MR_small.dcm")[0]
    assert compare_images(plain, read_dicom(folder / f"MR_small_{packed}.dcm")[0]).differs(0, 0) == []


def test_baseline_by_another_encoder(tmp_path):
    pixels = smooth("8 bits")
    write_series(tmp_path, pixels, **KINDS["8 bits"])
    for file in tmp_path.iterdir():
        data, packed = dcmread(file), io.BytesIO()
        Picture.fromarray(data.pixel_array).save(packed, "jpeg", quality=95)
        data.PixelData = encapsulate([packed.getvalue()])
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.save_as(file)
    found = read_dicom(tmp_path)[0].array.transpose(2, 3, 1, 0)
    assert np.abs(found.astype(int) - pixels).max() <= 4
    assert np.abs(found.astype(int) - pixels).mean() < 1


@pytest.mark.parametrize("syntax", [*LOSSLESS, "JPEGExtendedProcess2_4"])
def test_a_cut_frame_is_damage(tmp_path, syntax):
    write_series(tmp_path / "plain", smooth("12 in 16", 1, 1), **KINDS["12 in 16"])
    (file,) = transcoded(tmp_path / "plain", tmp_path / "packed", syntax).iterdir()
    data = dcmread(file)
    (whole,) = generate_frames(data.PixelData, number_of_frames=1)
    for length in (len(whole) - 60, len(whole) // 2, 40):
        data.PixelData = encapsulate([whole[:length]])
        data.save_as(file)
        with pytest.raises(UnreadableError, match=f"the pixels of {file.name} are damaged"):
            read_dicom(tmp_path / "packed")


def test_a_frame_that_is_missing_is_damage(tmp_path):
    (tmp_path / "plain").mkdir()
    write_enhanced(tmp_path / "plain" / "one.dcm", smooth("12 in 16", 3, 2), oblique(2))
    (file,) = transcoded(tmp_path / "plain", tmp_path / "packed", "JPEGLosslessProcess14_1").iterdir()
    data = dcmread(file)
    data.PixelData = encapsulate(list(generate_frames(data.PixelData, number_of_frames=6))[:5])
    data.save_as(file)
    with pytest.raises(UnreadableError, match=r"the pixels of one\.dcm are damaged"):
        read_dicom(tmp_path / "packed")


def test_without_a_decoder_the_refusal_names_the_syntax_and_the_extra(tmp_path):
    write_series(tmp_path, smooth("12 in 16", 1, 1))
    (file,) = tmp_path.iterdir()
    data = dcmread(file)
    data.PixelData = encapsulate([b"\xff\xd8never read"])
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.save_as(file)
    hidden = (
        "import sys; sys.modules['gdcm'] = sys.modules['openjpeg'] = sys.modules['libjpeg'] = None\n"
        "from crnn_cli.cli.app import main; main()"
    )
    command = [sys.executable, "-c", hidden, "convert", file, tmp_path / "out.nii"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 4
    told = " ".join(ended.stderr.split())
    assert "compressed (JPEG Lossless, Non-Hierarchical, First-Order Prediction" in told
    assert "no decoder for it is installed: pip install python-gdcm" in told
    assert "Traceback" not in ended.stderr
    assert "pip install python-gdcm" in (ROOT / "README.md").read_text()


def test_extended_jpeg_of_12_bits_without_gdcm_is_unsupported_and_not_damaged(tmp_path, monkeypatch):
    """Pillow decodes 8 bits of it; where that does, it is used."""
    monkeypatch.setattr(dicom_pixels, "_TRUSTED", ("pillow", "pydicom"))
    for bits, text in ((12, "no decoder for it is installed: pip install python-gdcm"), (8, "are damaged, or beyond")):
        write_series(tmp_path / str(bits), smooth("12 in 16", 1, 1), BitsStored=bits, HighBit=bits - 1)
        (file,) = (tmp_path / str(bits)).iterdir()
        data = dcmread(file)
        data.PixelData = encapsulate([b"\xff\xd8never read"])
        data.file_meta.TransferSyntaxUID = JPEGExtended12Bit
        data.save_as(file)
        with pytest.raises(CrnnError, match=text):
            read_dicom(tmp_path / str(bits))


@pytest.mark.parametrize(
    ("syntax", "name"),
    [(HTJ2KLossless, "High-Throughput JPEG 2000"), ("1.2.840.10008.1.2.4.102", "MPEG-4"), ("1.2.3.4", r"1\.2\.3\.4")],
)
def test_what_the_extra_does_not_decode_is_not_said_to_need_it(tmp_path, monkeypatch, syntax, name):
    write_series(tmp_path, smooth("12 in 16", 1, 1))
    (file,) = tmp_path.iterdir()
    data = dcmread(file)
    data.PixelData = encapsulate([b"never read"])
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(file, implicit_vr=False, little_endian=True)
    monkeypatch.setattr(dicom_pixels, "_TRUSTED", ("gdcm", "pillow", "pydicom"))
    with pytest.raises(UnsupportedDataError, match=rf"{name}.*: convert it to an uncompressed transfer syntax first"):
        read_dicom(tmp_path)


def ended_with(file, out):
    """Return how ``crnn convert`` ends in a process of its own, and what it says."""
    command = [sys.executable, "-c", "from crnn_cli.cli.app import main; main()", "convert", file, out]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return ended.returncode, " ".join(ended.stderr.split())


@pytest.mark.parametrize("syntax", ["JPEGBaselineProcess1", "JPEGLosslessProcess14_1", "JPEGLSLossless"])
def test_what_would_end_the_decoder_is_damage_and_does_not_end_the_program(tmp_path, syntax):
    """Bytes between the segments of a JPEG stream, and a header that promises more than there is."""
    kind = "8 bits" if "Baseline" in syntax else "12 in 16"
    write_series(tmp_path / "plain", smooth(kind, 1, 1), **KINDS[kind])
    (file,) = transcoded(tmp_path / "plain", tmp_path / "packed", syntax).iterdir()
    data = dcmread(file)
    (whole,) = generate_frames(data.PixelData, number_of_frames=1)
    scan = whole.index(b"\xff\xda")
    data.PixelData = encapsulate([whole[:scan] + b"\0\0" + whole[scan:]])
    data.save_as(file)
    code, told = ended_with(file, tmp_path / "out.nii")
    assert (code, "no marker at byte" in told) == (3, True), told
    data.PixelData = encapsulate([whole])
    for rows, columns in ((48, 32), (24, 64), (8, 8)):
        data.Rows, data.Columns = rows, columns
        data.save_as(file)
        code, told = ended_with(file, tmp_path / "out.nii")
        assert (code, f"24 x 32, and the header says {rows} x {columns}" in told) == (3, True), told

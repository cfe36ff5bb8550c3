"""ISMRMRD files that are damaged, contradict themselves or hold what is not supported are refused in clear words."""

import json
from contextlib import suppress

import h5py
import numpy as np
import pytest
from ismrmrd import xsd

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.ismrmrd.read import read_ismrmrd
from tests.support.ismrmrd import Options, header_of, readout, scan, write, write_scan
from tests.support.remarks import texts

SMALL = Options(frames=2)


def read_all(place):
    """Read everything of a file."""
    found = read_ismrmrd(place)
    return [found.read(z) for z in range(found.shape_ZCTYX[0])]


def refused(tmp_path, kind, match, change=None, xml=None, o=SMALL):
    """A scan whose readouts or header are changed is refused."""
    acquisitions, _ = scan(o)
    acquisitions = (change and change(acquisitions)) or acquisitions
    place = write(tmp_path / "a.h5", acquisitions, xml or header_of(o, o.planes))
    with pytest.raises(kind, match=match) as error:
        read_all(place)
    assert type(error.value) is kind


def each(**fields):
    """Return a change of the third readout; names of counters go into idx."""

    def change(acquisitions):
        line = acquisitions[2]
        for name, value in fields.items():
            setattr(line.idx if hasattr(line.idx, name) else line, name, value)

    return change


def resized(acquisitions):
    acquisitions[2].resize(5, 2)
    acquisitions[2].data[:] = 1


def other_coils(acquisitions):
    acquisitions[2].resize(24, 3)
    acquisitions[2].data[:] = 1


def no_coils(acquisitions):
    for line in acquisitions:
        line.resize(24, 0)


def not_finite(acquisitions):
    acquisitions[2].data[0, 3] = np.inf


def all_noise(acquisitions):
    for line in acquisitions:
        line.setFlag(19)


def of_another_encoding(acquisitions):
    for line in acquisitions:
        line.encoding_space_ref = 1


def some_of_another_encoding(acquisitions):
    for line in acquisitions:
        line.encoding_space_ref = line.idx.slice * line.idx.phase


def turned(acquisitions):
    for line in acquisitions:
        if line.idx.slice == 1:
            line.read_dir[:], line.phase_dir[:] = list(line.phase_dir), list(line.read_dir)


def skewed(acquisitions):
    for line in acquisitions:
        line.phase_dir[:] = list(line.read_dir)


def moving(acquisitions):
    acquisitions[-1].position[0] += 2


def uneven(acquisitions):
    for line in acquisitions:
        if line.idx.slice == 1:
            line.position[:] = [p + 3 * d for p, d in zip(line.position, line.slice_dir, strict=True)]


def tilted(acquisitions):
    for line in acquisitions:
        line.position[0] += 4.0 * line.idx.slice


def in_one_place(acquisitions):
    for line in acquisitions:
        line.position[:] = [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        (each(kspace_encode_step_1=10), UnreadableError, r"readout 3 .*step_1 10, outside the encoded matrix of 10"),
        (each(kspace_encode_step_2=1), UnreadableError, "step_2 1, outside the encoded matrix of 1"),
        (each(center_sample=4), UnreadableError, r"readout 3 .* 24 samples, its centre at 4 .* matrix of 24"),
        (each(discard_pre=20, discard_post=20), UnreadableError, r"20 \+ 20 to discard"),
        (resized, UnreadableError, "has 5 samples, its centre at 12"),
        (other_coils, UnsupportedDataError, "readout 3 .* has 3 coils, the first for images has 2"),
        (no_coils, UnreadableError, "has no coils or no samples"),
        (not_finite, UnreadableError, "readout 3 .* NaN or infinite"),
        (all_noise, UnsupportedDataError, "none of the 40 readouts is for images"),
        (of_another_encoding, UnsupportedDataError, "40 readouts of other encodings than the first left out"),
        (
            some_of_another_encoding,
            UnsupportedDataError,
            "1 of 2 frames have no line in some slice.*; 10 readouts of other encodings than the first left out: "
            "convert each encoding to a file of its own, or leave",
        ),
        (each(set=1), UnsupportedDataError, r"2 values of set \(0, 1\)"),
        (each(contrast=1), UnsupportedDataError, "2 values of contrast"),
        (turned, UnsupportedDataError, "2 views: slices of other directions than the first"),
        (skewed, UnsupportedDataError, "not perpendicular"),
        (moving, UnsupportedDataError, "readout 40 .* lies elsewhere than the first of that slice"),
        (in_one_place, UnsupportedDataError, "slices 1 and 2 along the normal lie in the same place"),
    ],
)
def test_readouts_that_do_not_fit_are_refused(tmp_path, change, kind, match):
    refused(tmp_path, kind, match, change)


def test_uneven_and_tilted_slices_are_refused(tmp_path):
    three = Options(frames=1, slices=3, tilt=None)
    refused(tmp_path, UnsupportedDataError, "not evenly spaced", uneven, o=three)
    (tmp_path / "b").mkdir()
    refused(tmp_path / "b", UnsupportedDataError, "do not lie above each other", tilted, o=three)


def test_uneven_slices_are_taken_as_even_where_they_may_lie_so_far_beside(crnn, tmp_path):
    """The middle one of three lies 3 mm beside its place; the first and the last keep theirs."""
    o = Options(frames=2, slices=3, tilt=3)
    acquisitions, made = scan(o)
    along = {line.idx.slice: float(np.dot(line.position, line.slice_dir)) for line in acquisitions}
    middle = sorted(along, key=along.get)[1]
    for line in acquisitions:
        if line.idx.slice == middle:
            line.position[:] = [p + 3 * d for p, d in zip(line.position, line.slice_dir, strict=True)]
    place = write(tmp_path / "a.h5", acquisitions, header_of(o, o.planes))
    with pytest.raises(UnsupportedDataError, match=r"take them as even with slice_tolerance=3.0"):
        read_ismrmrd(place, slice_tolerance=2.9)
    found = read_ismrmrd(place, slice_tolerance=3.0)
    np.testing.assert_allclose(found.geometry.affine, made.affine, atol=1e-4)
    assert [note for note in texts(found.remarks) if note.startswith("slices lie up to 3.00 mm from even places")]
    assert crnn("info", place).code == 4
    ended = crnn("info", place, "--slice-tolerance", "3", "--json")
    assert "--slice-tolerance 3" in json.loads(ended.out)["next_step"]
    asked = ("--slice-tolerance", "3", "--json")
    ended = crnn("reconstruct", place, "--method", "zero-filled", "-o", tmp_path / "o.nii", *asked)
    assert json.loads(ended.out)["input"]["slice_tolerance_mm"] == "3", ended.err
    assert "are taken as even" in " ".join(ended.err.split())
    assert crnn("compare", place, "--methods", "zero-filled").code == 4
    ended = crnn("compare", place, "--methods", "zero-filled", "--hold-out-share", "0", *asked)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["input"]["slice_tolerance_mm"] == "3", ended.err


def header_with(old, new):
    xml = header_of(SMALL)
    text = xml if isinstance(xml, bytes) else xml.encode()
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("xml", "kind", "match"),
    [
        (header_with(b"encoding>", b"encodin>"), UnreadableError, "has no encoding"),
        (header_with(b"</ismrmrdHeader>", b""), UnreadableError, "no well-formed XML"),
        (header_with(b"ismrmrdHeader", b"header"), UnreadableError, "is a <header>"),
        (header_with(b"<x>24</x>", b"<x>no</x>"), UnreadableError, "'no' for encodedSpace/matrixSize/x, not a number"),
        (header_with(b"<x>24</x>", b"<x>0</x>"), UnreadableError, "0 for encodedSpace/matrixSize/x, which cannot be"),
        (header_with(b"<x>96.0</x>", b"<x>nan</x>"), UnreadableError, "no usable encodedSpace/fieldOfView_mm"),
        (header_with(b"<maximum>9</maximum>", b"<maximum>x</maximum>"), UnreadableError, "maximum, not a number"),
        (header_with(b">cartesian<", b">radial<"), UnsupportedDataError, "trajectory of this scan is 'radial'"),
        (b"\xff\xfe<a/>", UnreadableError, "not UTF-8"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><ismrmrdHeader/>', UnreadableError, "declares a document type"),
    ],
)
def test_headers_that_do_not_do_are_refused(tmp_path, xml, kind, match):
    refused(tmp_path, kind, match, xml=xml)


def test_files_that_are_no_ismrmrd_are_named(tmp_path):
    missing, text, fast, other, cut = (tmp_path / name for name in ("no.h5", "t.h5", "f.h5", "o.h5", "c.h5"))
    text.write_text("hello")
    with h5py.File(fast, "w") as file:
        file["kspace"] = np.zeros((1, 2, 3, 4), np.complex64)
        file["ismrmrd_header"] = "<ismrmrdHeader/>"
    with h5py.File(other, "w") as file:
        file["images"] = np.zeros(3)
    write_scan(cut, SMALL)
    cut.write_bytes(cut.read_bytes()[:-20000])
    for place, match in (
        (missing, "is no file"), (text, "no HDF5"), (fast, "as fastMRI files have"),
        (other, "it has images"), (cut, "cut off"),
    ):  # fmt: skip
        with pytest.raises(UnreadableError, match=match):
            read_all(place)


def test_a_file_damaged_inside_is_unreadable_not_a_traceback(tmp_path):
    """Wherever bytes are lost, the file reads as it was, or is refused as unreadable or unsupported."""
    write_scan(tmp_path / "a.h5", Options(frames=1, slices=1))
    whole = (tmp_path / "a.h5").read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(25):
        damaged = bytearray(whole)
        at = int(rng.integers(0, len(whole) - 64))
        damaged[at : at + 64] = rng.bytes(64)
        place = tmp_path / f"{trial}.h5"
        place.write_bytes(damaged)
        with suppress(UnreadableError, UnsupportedDataError):
            read_all(place)


def test_a_scan_without_readouts_is_unreadable(tmp_path):
    write_scan(tmp_path / "a.h5", SMALL)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["dataset/data"].resize((0,))
    with pytest.raises(UnreadableError, match="has a header but no readouts"):
        read_ismrmrd(tmp_path / "a.h5")


def test_readouts_of_fewer_samples_than_they_say_are_damage(tmp_path):
    write_scan(tmp_path / "a.h5", SMALL)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        row = file["dataset/data"][4]
        row["data"] = row["data"][:10]
        file["dataset/data"][4] = row
    with pytest.raises(UnreadableError, match=r"readout 5 .* has 10 numbers, where 2 coils of 24 complex samples"):
        read_all(tmp_path / "a.h5")


def test_of_several_scans_one_must_be_named(tmp_path):
    place = tmp_path / "a.h5"
    write_scan(place, SMALL)
    acquisitions, _ = scan(Options(frames=1))
    write(place, acquisitions, header_of(SMALL), group="second")
    with pytest.raises(UnsupportedDataError, match=r"holds 2 scans; .*'dataset', 'second'.*variable"):
        read_ismrmrd(place)
    assert read_ismrmrd(place, variable="second").shape_ZCTYX[2] == 1
    with pytest.raises(UnreadableError, match="no ISMRMRD scan in 'third'"):
        read_ismrmrd(place, variable="third")


def test_without_directions_the_place_is_unknown_and_said(tmp_path):
    acquisitions = [
        readout(np.ones((1, 24)), np.zeros((3, 3)), (0, 0, 0), kspace_encode_step_1=y, slice=z)
        for z in range(2) for y in range(10)
    ]  # fmt: skip
    write(tmp_path / "a.h5", acquisitions, header_of(SMALL))
    found = read_ismrmrd(tmp_path / "a.h5")
    assert found.geometry.codes == (0, 0)
    assert found.geometry.spacing == pytest.approx((4, 4, 8))
    assert "where the images lie in the patient is unknown" in " ".join(texts(found.remarks))


def test_a_centre_that_was_not_filled_in_is_taken_as_the_middle(tmp_path):
    acquisitions, made = scan(SMALL)
    for line in acquisitions:
        line.center_sample = 0
    write(tmp_path / "a.h5", acquisitions, header_of(SMALL))
    found = read_ismrmrd(tmp_path / "a.h5")
    np.testing.assert_allclose(found.read(0).kspace_CTYX, made.kspace_ZCTYX[0], atol=1e-4)
    assert "40 readouts fill the matrix but say another centre than sample 12" in " ".join(texts(found.remarks))


def test_without_limits_the_centre_is_said_to_be_assumed(tmp_path):
    write_scan(tmp_path / "a.h5", SMALL, encodingLimits=xsd.encodingLimitsType())
    found = read_ismrmrd(tmp_path / "a.h5")
    assert "the header has no limits for kspace_encode_step_1: its centre is taken to be 5" in texts(found.remarks)

"""Raw k-space that is not read is named with its converter; HDF5 that is locked or refers elsewhere is refused."""

import os
import shutil
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.hdf5 import convention_of
from crnn_cli.io.kspace.hdf5_file import require_sound
from crnn_cli.io.kspace.read import read_raw
from tests.support.ismrmrd import Options, write_scan
from tests.support.kspace import kspace, write_fastmri

FOREIGN = {
    "meas.dat": (struct.pack("<IIIIQQ", 0, 2, 1, 1, 10240, 5000) + bytes(5000), "siemens_to_ismrmrd"),
    "old.dat": (struct.pack("<II", 5000, 4) + b"Config\0" + bytes(5000), "siemens_to_ismrmrd"),
    "scan.mrd": (b"yardl\x01\0\0\0" + bytes(100), "mrd_to_ismrmrd"),
    "scan.jsonl": (b'{ "yardl": {"version": 1}}', "mrd_to_ismrmrd"),
    "stream.bin": (struct.pack("<HI", 3, 500) + b"<ismrmrdHeader>" + bytes(500), "ismrmrd_stream_to_hdf5"),
    "P12345.7": (bytes(34) + b"GE_MED_NMR" + bytes(100), "ge_to_ismrmrd"),
    "scan.raw": (b"\1" + bytes(100), "philips_to_ismrmrd"), "fid": (b"\1" + bytes(100), "bruker_to_ismrmrd"),
    "old.mat": (struct.pack("<5i", 0, 8, 6, 1, 2) + b"k\0" + bytes(768), "with -v7 or -v7.3"),
    "sparc.mat": (struct.pack(">5i", 1000, 8, 6, 0, 2) + b"k\0" + bytes(384), "with -v7 or -v7.3"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_formats_of_vendors_are_named_with_a_converter(crnn, tmp_path, name):
    content, converter = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=converter):
        read_raw(tmp_path / name)
    for command in (("info",), ("reconstruct", "--coils", "4"), ("compare",)):
        ended = crnn(command[0], tmp_path / name, *command[1:])
        assert (ended.code, converter in ended.err) == (3, True), ended.err


def elsewhere(file, outside):
    """Return ways in which an HDF5 file can refer to another."""
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(outside), "x", (4,))
    return {
        "link": lambda: file.__setitem__("more", h5py.ExternalLink(str(outside), "/x")),
        "storage": lambda: file.create_dataset("more", (4,), "f4", external=[(str(outside), 0, 16)]),
        "virtual": lambda: file.create_virtual_dataset("more", layout),
    }


@pytest.mark.parametrize("way", ["link", "storage", "virtual"])
@pytest.mark.parametrize("kind", ["fastMRI", "ISMRMRD"])
def test_hdf5_that_refers_to_other_files_is_refused(tmp_path, way, kind):
    """Even to a named pipe, which would be waited for without end."""
    outside = tmp_path / "pipe"
    os.mkfifo(outside)
    place = tmp_path / "k.h5"
    if kind == "fastMRI":
        write_fastmri(place, kspace())
    else:
        write_scan(place, Options(frames=1))
    with h5py.File(place, "a") as file:
        elsewhere(file, outside)[way]()
    with pytest.raises(UnsupportedDataError, match="refers to other files"):
        read_raw(place)


def test_soft_links_within_a_file_are_followed(tmp_path):
    k = kspace()
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["raw/data"], file["alias"] = k, h5py.SoftLink("/raw/data")
    found = read_raw(tmp_path / "k.h5", "slice,coil,t,ky,kx", "alias")
    np.testing.assert_array_equal(found.read(0).kspace_CTYX, k[0])


@pytest.mark.parametrize("block", [512, 4096, 2**17])
@pytest.mark.parametrize("name", ["k.h5", "k.mat"])
def test_hdf5_behind_a_block_of_the_user_is_read(tmp_path, block, name):
    k = kspace()
    with h5py.File(tmp_path / name, "w", userblock_size=block) as file:
        file["data"] = k
    found = read_raw(tmp_path / name, "slice,coil,t,ky,kx")
    np.testing.assert_array_equal(found.read(0).kspace_CTYX, k[0])


def test_a_file_that_is_open_for_writing_is_said_to_be_locked(tmp_path):
    write_scan(tmp_path / "a.h5", Options(frames=1))
    code = f"import h5py, sys; f = h5py.File({str(tmp_path / 'a.h5')!r}, 'a'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(UnreadableError, match=r"open for writing in another program.*wait until"):
            read_raw(tmp_path / "a.h5")
        writer.communicate(b"\n")
    assert read_raw(tmp_path / "a.h5").shape_ZCTYX[1] == 2


def test_a_file_that_was_never_closed_can_be_mended(tmp_path):
    with h5py.File(tmp_path / "k.h5", "w", libver="latest") as file:
        file["k"] = np.ones((4, 4), np.complex64)
        file.swmr_mode = True
        shutil.copy(tmp_path / "k.h5", tmp_path / "copy.h5")
    with pytest.raises(UnreadableError, match=r"never closed, or copied before.*h5clear -s"):
        convention_of(tmp_path / "copy.h5")


@pytest.mark.parametrize("name", ["mask", "ismrmrd_header"])
@pytest.mark.parametrize("content", ["group", "empty", "no values", "number"])
def test_parts_of_fastmri_that_are_no_data_are_named(tmp_path, name, content):
    place = write_fastmri(tmp_path / "f.h5", kspace())
    with h5py.File(place, "a") as file:
        file.pop(name, None)
        if content == "group":
            file.create_group(name)
        else:
            value = {"empty": h5py.Empty("f4"), "no values": np.zeros(0), "number": np.float32(5)}[content]
            file.create_dataset(name, data=value)
    with pytest.raises((UnreadableError, UnsupportedDataError), match=f"{name}|mask"):
        read_raw(place)


@pytest.mark.parametrize("content", ["group", "empty", "number"])
def test_a_header_of_ismrmrd_that_is_no_text(tmp_path, content):
    place = tmp_path / "a.h5"
    write_scan(place, Options(frames=1))
    with h5py.File(place, "a") as file:
        del file["dataset/xml"]
        if content == "group":
            file.create_group("dataset/xml")
        else:
            file.create_dataset("dataset/xml", data=h5py.Empty("S1") if content == "empty" else [5])
    with pytest.raises(UnreadableError, match="xml"):
        read_raw(place)


@pytest.mark.parametrize("member", ["traj", "data"])
def test_a_length_that_the_file_cannot_hold_is_refused_before_memory_is_reserved(tmp_path, member):
    """HDF5 would believe it, and reserve gigabytes for one readout."""
    place = tmp_path / "a.h5"
    write_scan(place, Options(frames=1, slices=1))
    with h5py.File(place, "r") as file:
        table = file["dataset/data"]
        stored = table.id.get_type()
        at = stored.get_member_offset(stored.get_member_index(member.encode()))
        chunk = table.id.get_chunk_info(0)
    content = bytearray(place.read_bytes())
    start = chunk.byte_offset + at
    content[start : start + 4] = struct.pack("<I", 2**31)
    place.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"has 2147483648 numbers, more than the file"):
        read_raw(place)


def test_fields_that_overlap_are_refused(tmp_path):
    """A damaged type, of which HDF5 would write over other memory."""
    odd = np.dtype({"names": ["real", "imag"], "formats": ["<f8", "<f4"], "offsets": [0, 4], "itemsize": 8})
    with pytest.raises(UnreadableError, match="fields that overlap"):
        require_sound(odd, "k")
    nested = np.dtype({"names": ["a"], "formats": [odd], "offsets": [0], "itemsize": 8})
    with pytest.raises(UnreadableError, match="fields that overlap"):
        require_sound(nested, "k")
    require_sound(np.dtype([("real", "<f4"), ("imag", "<f4")], align=True), "k")

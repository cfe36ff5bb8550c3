"""Sizes that a file claims, or unpacks to, are bounded before anything of that size is allocated."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data.host_memory import host_free_bytes, memory_limit, resident_bytes
from crnn_cli.data.input_files import require_file
from crnn_cli.errors import CrnnError, DeviceError, UnreadableError
from crnn_cli.io import limits
from crnn_cli.io.formats import load
from crnn_cli.io.kspace.ismrmrd.file import read_readout_headers
from crnn_cli.io.nifti.image import load_nifti, read_bytes
from tests.support.command_line import Ended
from tests.support.ismrmrd import Options, write_scan

SMALL = 2**26
"""Bytes that a refusal may allocate on the way."""


def header(shape: tuple[int, ...], dtype: str = "float32") -> bytes:
    """Header of a NIfTI-1 file, without voxels."""
    made = nib.Nifti1Header()
    made.set_data_dtype(np.dtype(dtype))
    made.set_data_shape(shape)
    made.set_xyzt_units("mm", "sec")
    made["vox_offset"], made["magic"] = 352, b"n+1"
    return bytes(made.binaryblock) + bytes(4)


def packed_zeros(start: bytes, size: int) -> bytes:
    """Gzip of a beginning and ``size`` zeros, made without holding them."""
    packer, parts = zlib.compressobj(1, zlib.DEFLATED, 31), []
    parts.append(packer.compress(start))
    for _ in range(size // 2**22):
        parts.append(packer.compress(bytes(2**22)))
    return b"".join([*parts, packer.compress(bytes(size % 2**22)), packer.flush()])


def allocated(action: object) -> int:
    """Peak of what Python and numpy allocate while an action is refused."""
    tracemalloc.start()
    try:
        with pytest.raises((UnreadableError, DeviceError)):
            action()  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [2**20, 2**33, 2**60])
@pytest.mark.parametrize("stored", [1, 100, 2**20])
def test_a_claim_is_possible_up_to_what_deflate_can_reach(size: int, stored: int) -> None:
    if size > limits.MOST_COMPRESSED * stored:
        with pytest.raises(UnreadableError, match="cannot hold as much"):
            limits.require_possible(size, stored, "x")
    else:
        limits.require_possible(size, stored, "x")


def test_measured_values_are_not_packed_as_zeros_are() -> None:
    limits.require_measured(limits.UNDOUBTED, limits.UNDOUBTED // 1000, "x")
    limits.require_measured(2**32, 2**32 // 150, "x")
    with pytest.raises(UnreadableError, match="as measured values are never"):
        limits.require_measured(2**32, 2**32 // 300, "x")


def test_memory_is_asked_for_before_it_is_taken() -> None:
    limits.require_memory(2**10, "x")
    with pytest.raises(DeviceError, match="x takes"):
        limits.require_memory(2**60, "x")
    with memory_limit(resident_bytes() + 2**24), pytest.raises(DeviceError) as raised:
        limits.require_memory(2**26, "x")
    assert raised.value.exit_code == 5
    limits.require_memory(2**26, "x")  # the limit ends with its context


def test_a_limit_bounds_what_counts_as_free() -> None:
    free = host_free_bytes()
    assert free is not None
    with memory_limit(resident_bytes() + 2**20):
        bounded = host_free_bytes()
        assert bounded is not None
        assert bounded <= 2**20
    with memory_limit(0):
        assert host_free_bytes() == 0


def test_a_stream_is_read_to_its_end_or_refused() -> None:
    content = os.urandom(2**23)
    assert limits.read_at_most(io.BytesIO(content), len(content), "x") == content
    with pytest.raises(UnreadableError, match="x goes on after"):
        limits.read_at_most(io.BytesIO(content), len(content) - 1, "x")


def test_gzip_that_goes_on_after_its_header_says_is_refused_without_unpacking_it(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(packed_zeros(header((8, 8, 2, 3)), 2**29))
    assert allocated(lambda: load_nifti(bomb)) < SMALL


def test_gzip_that_claims_more_than_it_can_hold_is_refused_before_disk_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("disk was reserved")

    monkeypatch.setattr(os, "posix_fallocate", never)
    liar = tmp_path / "liar.nii.gz"
    liar.write_bytes(gzip.compress(header((1024, 1024, 256, 8))))
    with pytest.raises(UnreadableError):
        load_nifti(liar)


def test_a_large_image_that_compresses_well_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(packed_zeros(header((256, 256, 300), "uint8"), 256 * 256 * 300))
    assert load_nifti(path).image.array.shape == (256, 256, 300)


@pytest.mark.parametrize("beginning", [b"", header((8, 8, 2, 3)), header((2**14, 2**14, 2**9))])
def test_an_endless_stream_ends(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        sent = False

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            part = b"" if self.sent else beginning
            self.sent = True
            buffer[:] = part.ljust(len(buffer), b"\0")[: len(buffer)]
            return len(buffer)

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Endless())))

    def read() -> None:
        content = read_bytes(Path("-"))
        if len(content) <= limits.HEAD:
            raise UnreadableError("only the start was kept")

    assert allocated(read) < SMALL


def test_a_member_of_an_archive_that_is_no_measurement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.dcm", "w") as member,
    ):
        for _ in range(2 * limits.UNDOUBTED // 2**24):
            member.write(bytes(2**24))
    assert allocated(lambda: load(path)) < SMALL


def test_a_member_of_an_archive_is_unpacked_whole(tmp_path: Path) -> None:
    path, content = tmp_path / "study.zip", os.urandom(5000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", content)
    with zipfile.ZipFile(path) as archive:
        assert limits.zip_member(archive, archive.getinfo("a.dcm")) == content


def test_deflated_data_are_counted_without_being_held() -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(2**24)) for _ in range(2 * limits.UNDOUBTED // 2**24)) + packer.flush()
    assert allocated(lambda: limits.require_inflated(io.BytesIO(packed), len(packed), "x")) < SMALL
    honest = zlib.compress(os.urandom(10_000), wbits=-15)
    limits.require_inflated(io.BytesIO(honest), len(honest), "x")
    with pytest.raises(zlib.error):
        limits.require_inflated(io.BytesIO(b"\xff" * 100), 100, "x")


def test_kspace_that_claims_more_than_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", (10, 8, 4096, 4096), np.complex64, chunks=(1, 1, 256, 256), compression="gzip")
        file.attrs["note"] = "nothing of it was stored"
    assert allocated(lambda: load(path, axes="t,coil,ky,kx")) < SMALL


def test_the_mask_of_a_fastmri_file_is_compared_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fastmri.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.ones((2, 32, 16), np.complex64)
        file.create_dataset("mask", (3 * 10**8,), np.uint8, chunks=(2**20,), compression="gzip")
    tracemalloc.start()
    with pytest.raises(CrnnError, match="its mask has 300000000 lines"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < SMALL
    tracemalloc.stop()


def test_readouts_that_a_file_cannot_hold_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    row = np.dtype([("head", [("flags", "<u8"), ("fill", "V332")]), ("data", h5py.vlen_dtype(np.float32))])
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset/data", (5 * 10**6,), row, chunks=(2048,))
    assert allocated(lambda: read_readout_headers(path, "dataset")) < SMALL


@pytest.mark.parametrize("kind", ["named pipe", "socket", "device"])
def test_what_never_ends_is_no_input(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "scan.nii"
    if kind == "named pipe":
        os.mkfifo(path)
    with socket.socket(socket.AF_UNIX) as unix:
        if kind == "socket":
            unix.bind(str(path))
        with pytest.raises(UnreadableError, match=kind):
            load(path)


def test_files_folders_and_missing_paths_pass(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "a" / "b"):
        require_file(path)
    for path in (Path("\0"), Path("x" * 5000)):
        with pytest.raises(UnreadableError, match="cannot be read"):
            require_file(path)


@pytest.mark.parametrize("gz", [False, True])
def test_an_image_is_read_from_a_pipe_of_the_shell(gz: bool, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(np.float32)
    path = tmp_path / ("image.nii.gz" if gz else "image.nii")
    nib.Nifti1Image(array, np.eye(4)).to_filename(path)
    reader, writer = os.pipe()
    os.write(writer, path.read_bytes())
    os.close(writer)
    try:
        loaded = load(Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)
    np.testing.assert_array_equal(loaded.image.array, array)


def test_the_option_for_memory_bounds_the_input_too(crnn: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    array = np.random.default_rng(0).normal(size=(8, 8, 1, 4)).astype(np.float32)
    nib.Nifti1Image(array, np.eye(4)).to_filename(path)
    ended = crnn("reconstruct", path, "-o", tmp_path / "out.nii.gz", "--undersample", 2, "--memory", "1M")
    assert ended.code == 5
    assert "scan.nii.gz takes" in ended.err
    assert "--memory" in ended.err


def test_readouts_that_claim_more_samples_than_the_file_has_are_refused(tmp_path: Path) -> None:
    """HDF5 itself takes the memory first and looks for the samples then."""
    path = tmp_path / "scan.h5"
    write_scan(path, Options())
    with h5py.File(path) as file:
        table = file["dataset/data"]
        places = [table.id.get_chunk_info(n).byte_offset for n in range(table.id.get_num_chunks())]
        kind = table.id.get_type()
        at = kind.get_member_offset(kind.get_member_index(b"data"))
    content = bytearray(path.read_bytes())
    content[places[0] + at : places[0] + at + 4] = (2**30).to_bytes(4, "little")
    path.write_bytes(content)
    before = resident_bytes()
    with pytest.raises(UnreadableError, match="has 1073741824 numbers"):
        load(path)
    assert resident_bytes() - before < SMALL

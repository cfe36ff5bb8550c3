"""MRD messages in, MRD images out: by pipe, from a file and over a connection, the images are those of the file."""

import io
import re
import socket
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from ismrmrd.serialization import ProtocolDeserializer

from tests.io.mrd.made import real_time, stream_of
from tests.support.command_line import heeds_interruption
from tests.support.ismrmrd import Options, write
from tests.support.live import bundle

SCAN = Options(counter="repetition", slices=1, frames=7, acceleration=2, lines=16, samples=24, coils=3)
COMMON = ("--calibrate-frames", "3")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("bundles") / "tiny-live")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return an ISMRMRD file, and the same readouts as a stream."""
    acquisitions, xml = real_time(SCAN, flagged=True)
    return write(tmp_path_factory.mktemp("scan") / "scan.h5", acquisitions, xml), stream_of(acquisitions, xml)


@pytest.fixture(scope="module")
def of_file(scan, model, tmp_path_factory):
    """Return the images of the file, reconstructed without a stream."""
    from typer.testing import CliRunner

    from crnn_cli.cli.app import app

    out = tmp_path_factory.mktemp("file") / "file.nii.gz"
    ended = CliRunner().invoke(app, ["reconstruct", str(scan[0]), "--model", str(model), *COMMON, "-o", str(out)])
    assert ended.exit_code == 0, ended.stderr
    return nib.load(out)


def two_sets():
    """Return a stream whose lines alternate between two sets."""
    acquisitions, xml = real_time(SCAN)
    for number, each in enumerate(acquisitions):
        each.idx.set = number % 2
    return stream_of(acquisitions, xml)


def sent(content):
    """Return the images (x, y, t) of MRD messages."""
    images = list(ProtocolDeserializer(io.BytesIO(content)).deserialize())
    return np.stack([each.data[0, 0].T for each in images], axis=-1)


def test_a_pipe_of_messages_becomes_mrd_images_those_of_the_file(crnn, scan, model, of_file):
    ended = crnn("reconstruct", "-", "--stream", "--model", model, *COMMON, "-o", "-", stdin=scan[1])
    assert ended.code == 0, ended.err
    np.testing.assert_array_equal(sent(ended.out), of_file.get_fdata()[:, :, 0])
    from_file = crnn("reconstruct", scan[0], "--stream", "--model", model, *COMMON, "--format", "mrd", "-o", "-")
    assert from_file.code == 0, from_file.err
    np.testing.assert_array_equal(sent(from_file.out), sent(ended.out))


def test_a_pipe_of_messages_becomes_a_nifti_file_with_the_place_of_the_scan(crnn, scan, model, of_file, tmp_path):
    out = tmp_path / "stream.nii.gz"
    ended = crnn("reconstruct", "-", "--stream", "--model", model, *COMMON, "-o", out, stdin=scan[1])
    assert ended.code == 0, ended.err
    image = nib.load(out)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(of_file.dataobj))
    np.testing.assert_allclose(image.affine, of_file.affine, atol=1e-4)
    assert image.header.get_zooms() == pytest.approx(of_file.header.get_zooms(), abs=1e-4)


def test_slices_that_take_turns_lie_in_order(crnn, model, tmp_path):
    acquisitions, xml = real_time(Options(counter="repetition", slices=3, frames=4, lines=12, samples=16, coils=2))
    file = write(tmp_path / "scan.h5", acquisitions, xml)
    common = ("--model", model, *COMMON, "-o")
    assert crnn("reconstruct", "-", "--stream", *common, tmp_path / "s.nii.gz",
                stdin=stream_of(acquisitions, xml)).code == 0  # fmt: skip
    assert crnn("reconstruct", file, *common, tmp_path / "f.nii.gz").code == 0
    images = [nib.load(tmp_path / name) for name in ("s.nii.gz", "f.nii.gz")]
    np.testing.assert_array_equal(*(each.get_fdata() for each in images))
    np.testing.assert_allclose(images[0].affine, images[1].affine, atol=1e-4)


def test_frames_before_the_end_of_a_broken_stream_are_kept(crnn, scan, model, of_file, tmp_path):
    out = tmp_path / "part.nii.gz"
    broken = scan[1][: int(0.8 * len(scan[1]))]
    ended = crnn("reconstruct", "-", "--stream", "--model", model, *COMMON, "-o", out, stdin=broken)
    assert ended.code == 3, ended.err
    part = nib.load(out).get_fdata()
    assert 3 <= part.shape[3] < 7
    np.testing.assert_array_equal(part, of_file.get_fdata()[..., : part.shape[3]])


def test_frames_that_wait_for_the_calibration_are_kept_when_a_stream_breaks_off(crnn, scan, model, tmp_path):
    out = tmp_path / "part.nii.gz"
    broken = scan[1][: int(0.8 * len(scan[1]))]
    ended = crnn("reconstruct", "-", "--stream", "--model", model, "--calibrate-frames", "7", "-o", out, stdin=broken)
    assert ended.code == 3, ended.err
    part = nib.load(out).get_fdata()
    assert 3 <= part.shape[3] < 7
    assert np.isfinite(part).all()
    assert (part.max(axis=(0, 1, 2)) > 0).all()


def test_options_of_files_are_refused_for_messages(crnn, scan, model):
    ended = crnn("reconstruct", "-", "--stream", "--model", model, "--undersample", "4", "-o", "-", stdin=scan[1])
    assert ended.code == 2
    assert "--undersample" in ended.err


def test_a_server_answers_its_clients_one_after_another(scan, model, of_file):
    command = [sys.executable, "-m", "crnn_cli", "reconstruct", "--stream", "--listen", "127.0.0.1:0", "--model", model,
               *COMMON]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True,
        preexec_fn=heeds_interruption,  # noqa: PLW1509
    ) as server:  # fmt: skip
        try:
            assert server.stderr is not None
            port = int(re.search(r"127\.0\.0\.1:(\d+)", server.stderr.readline())[1])
            refused = {b"GET / HTTP/1.1\r\n\r\n": "no stream of MRD messages", two_sets(): "the first with --set 0"}
            for content in (scan[1], *refused, scan[1]):
                with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                    client.sendall(content)
                    client.shutdown(socket.SHUT_WR)
                    received = client.makefile("rb").read()
                if content is not scan[1]:
                    words = list(ProtocolDeserializer(io.BytesIO(received)).deserialize())
                    assert refused[content] in words[0]
                else:
                    np.testing.assert_array_equal(sent(received), of_file.get_fdata()[:, :, 0])
            server.send_signal(2)
            assert server.wait(30) == 130
        finally:
            server.kill()

"""crnn reconstruct --stream: the images of the file, whatever the way out, and what is done is kept."""

import json
import time
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli.data.image import Image
from crnn_cli.data.raw_scan import RawSlice
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.reconstruction.coil_preparation import CoilRequest
from crnn_cli.reconstruction.stream import StreamMethod
from crnn_cli.workflows.reconstruct.scan import Simulation, scan_from_image
from crnn_cli.workflows.stream.run import StreamRecord, run_stream
from crnn_cli.workflows.stream.sinks import Collected
from crnn_cli.workflows.stream.sources import ArrivedFrame, ScanFrames
from tests.support.cines import AFFINE, save
from tests.support.live import bundle, network, settings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("bundles") / "tiny-live")


def cine(slices=1, frames=12):
    g = np.random.default_rng(3)
    x, y = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 24), indexing="ij")
    beat = 0.5 + 0.1 * np.sin(2 * np.pi * np.arange(frames) / 8)
    disc = (x**2 + y**2)[:, :, None, None] < (beat + 0.05 * np.arange(slices)[:, None]) ** 2
    return (disc * 100 + g.random((20, 24, slices, frames))).astype(np.float32)


@pytest.fixture
def scan(tmp_path):
    return save(tmp_path / "cine.nii.gz", cine())


@pytest.mark.parametrize("copies", [(), ("--ensemble", "2")])
def test_file_pipe_and_plain_run_give_the_same_images(crnn, scan, model, tmp_path, copies):
    common = ("--undersample", "3", "--model", model, "--calibrate-frames", "4", *copies)
    ended = crnn("reconstruct", scan, *common, "--stream", "-o", tmp_path / "s.nii.gz", "--json")
    assert ended.code == 0, ended.err
    assert crnn("reconstruct", scan, *common, "-o", tmp_path / "f.nii.gz").code == 0
    images = [nib.load(tmp_path / name) for name in ("s.nii.gz", "f.nii.gz")]
    np.testing.assert_array_equal(*(np.asarray(each.dataobj) for each in images))
    np.testing.assert_allclose(images[0].affine, AFFINE, atol=1e-5)
    piped = crnn("reconstruct", scan, *common, "--stream", "-o", "-")
    assert piped.code == 0, piped.err
    image = nib.Nifti1Image.from_bytes(piped.out)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(images[0].dataobj))
    assert image.header.get_zooms()[3] == pytest.approx(0.03)
    report = json.loads(ended.out)
    assert report == json.loads((tmp_path / "s.json").read_text())
    assert report["stream"]["frames"] == 12
    assert report["calibration_frames"] == 4
    assert report["ensemble"] == (2 if copies else 1)
    assert report["stream"]["held_out"]["frames"] == 1
    assert report["acceleration"] == pytest.approx(3, abs=0.1)
    latency = report["stream"]["latency_ms"]
    assert 0 < latency["median"] <= latency["percentile_99"] <= latency["worst"]


def test_slices_of_a_file_follow_each_other(crnn, model, tmp_path):
    scan = save(tmp_path / "two.nii.gz", cine(slices=2))
    common = ("--undersample", "3", "--model", model)
    for name, more in (("s.nii.gz", ["--stream"]), ("f.nii.gz", [])):
        assert crnn("reconstruct", scan, *common, *more, "-o", tmp_path / name).code == 0
    images = [nib.load(tmp_path / name).get_fdata() for name in ("s.nii.gz", "f.nii.gz")]
    np.testing.assert_array_equal(*images)
    piped = crnn("reconstruct", scan, *common, "--stream", "-o", "-")
    np.testing.assert_array_equal(nib.Nifti1Image.from_bytes(piped.out).get_fdata(), images[1])
    one = crnn("reconstruct", scan, *common, "--stream", "--slice", "2", "-o", tmp_path / "one.nii.gz")
    assert one.code == 0, one.err
    np.testing.assert_array_equal(nib.load(tmp_path / "one.nii.gz").get_fdata()[:, :, 0], images[1][:, :, 1])


def test_a_paced_replay_takes_its_time_and_counts_late_frames(crnn, scan, model, tmp_path):
    began = time.perf_counter()
    ended = crnn("reconstruct", scan, "--undersample", "3", "--model", model, "--stream", "--pace",
                 "-o", tmp_path / "s.nii.gz", "--json")  # fmt: skip
    assert ended.code == 0, ended.err
    assert time.perf_counter() - began >= 11 * 0.03
    report = json.loads(ended.out)
    assert report["paced"]
    assert report["stream"]["interval_ms"] == pytest.approx(30)
    assert 0 <= report["stream"]["frames_late"] <= 4


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, "interrupted"),
        (UnsupportedDataError("the matrix changed"), 4, "the matrix changed"),
    ],
)
def test_a_stream_that_ends_early_keeps_the_frames_that_are_done(
    crnn, scan, model, tmp_path, monkeypatch, error, code, words
):
    common = ("--undersample", "3", "--model", model, "--stream", "-o")
    assert crnn("reconstruct", scan, *common, tmp_path / "whole.nii.gz").code == 0
    frames = ScanFrames.__iter__

    def ends(source):
        for number, frame in enumerate(frames(source)):
            if number == 10:
                raise error
            yield frame

    monkeypatch.setattr(ScanFrames, "__iter__", ends)
    ended = crnn("reconstruct", scan, *common, tmp_path / "part.nii.gz")
    assert ended.code == code, ended.err
    part, whole = (nib.load(tmp_path / name).get_fdata() for name in ("part.nii.gz", "whole.nii.gz"))
    np.testing.assert_array_equal(part, whole[..., :10])
    report = json.loads((tmp_path / "part.json").read_text())
    assert report["stream"]["frames"] == 10
    assert report["stream"]["ended"] == words
    assert "stream-ended-early" in [doubt["code"] for doubt in report["doubts"]]


def source_of(seconds=None):
    """Return the frames of a simulated scan; with ``seconds`` all are due at that time."""
    source = ScanFrames(scan_from_image(Image(cine(), AFFINE, frame_time=0.03), None, Simulation(3)))
    if seconds is None:
        return source

    class Due(Failing):
        def __iter__(self):
            return (replace(frame, seconds=seconds) for frame in source)

    return Due(source, 0)


def method():
    return StreamMethod(network(), settings(4), torch.device("cpu"), CoilRequest())


def test_samples_of_images_count_as_exact():
    assert source_of().coils.exact


@pytest.mark.parametrize("paced", [True, False])
def test_latency_counts_from_when_a_frame_was_due(monkeypatch, paced):
    time_now, record = [0.0], StreamRecord()

    class Slow:
        def put(self, image_YX, frame):
            time_now[0] += 1.0

    for module in ("compute.clock", "workflows.stream.run"):
        monkeypatch.setattr(f"crnn_cli.{module}.now", lambda: time_now[0])
    run_stream(source_of(0.0), method(), Slow(), record, paced=paced)
    assert record.latency.frames == 8
    assert record.latency.worst == (12.0 if paced else 1.0)
    assert record.late == 8


def test_many_images_come_back_as_they_were():
    collected, made = Collected(), np.random.default_rng(0).normal(size=(2, 18, 200, 180, 2)).view(complex)[..., 0]
    for number in range(18):
        for z in range(2):
            image = made[z, number].astype(np.complex64)
            collected.put(image, ArrivedFrame(RawSlice(image[None, None], image[None] != 0), z, number, None))
    np.testing.assert_array_equal(collected.images(None), made.astype(np.complex64))


class Failing:
    """A source that fails after some frames."""

    def __init__(self, source, after):
        self._source, self._after = source, after

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __iter__(self):
        for number, frame in enumerate(self._source):
            if number == self._after:
                raise UnsupportedDataError("the matrix changed")
            yield frame


def test_what_was_done_before_a_failure_is_kept():
    source = source_of()
    whole, part, record = Collected(), Collected(), StreamRecord()
    run_stream(source, method(), whole, StreamRecord())
    with pytest.raises(UnsupportedDataError, match="matrix"):
        run_stream(Failing(source, 7), method(), part, record)
    assert part.frames == dict(record.done) == {0: 7}
    np.testing.assert_array_equal(part.images(1), whole.images(1)[:, :7])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stream", "--model", "cine-crnn-fast"], "causal"),
        (["--stream", "--adapt", "10s"], "--adapt"),
        (["--stream", "--method", "tv"], "--method"),
        (["--stream", "--format", "dicom"], "dicom"),
        (["--stream", "--format", "mrd"], "standard output"),
        (["--stream", "--listen", "9002"], "both"),
        (["--pace"], "--stream"),
        (["--calibrate-frames", "4"], "--calibrate-frames"),
        (["--renew-frames", "4"], "--stream"),
    ],
)
def test_options_that_do_not_go_together_are_refused(crnn, scan, arguments, words):
    ended = crnn("reconstruct", scan, *arguments)
    assert ended.code == 2, ended.err
    assert words in ended.err


def test_a_scan_or_an_address_is_needed(crnn):
    assert "SCAN is missing" in crnn("reconstruct").err
    assert crnn("reconstruct", "--stream").code == 2


def test_a_pipe_that_brings_something_else_is_refused(crnn, model):
    for content in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x89HDF\r\n\x1a\n" + bytes(100)):
        ended = crnn("reconstruct", "-", "--stream", "--model", model, "-o", "-", stdin=content)
        assert ended.code == 3, ended.err
        assert ended.out == b""

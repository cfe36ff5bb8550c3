"""``crnn reconstruct`` on files: what it writes is true, and bad input leaves nothing behind."""

import contextlib
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import torch

from crnn_cli.bundles.store import load_network, read_bundle
from crnn_cli.cli import console
from crnn_cli.data.acquisition import from_fully_sampled, from_zero_filled
from crnn_cli.data.geometry import displayed_slice
from crnn_cli.data.image import Image
from crnn_cli.errors import UsageError
from crnn_cli.io import atomic_write
from crnn_cli.io.atomic_write import Output
from crnn_cli.mri.sampling import sheared_grid
from crnn_cli.reconstruction.measurement import SingleCoilSource
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor, reconstruct
from crnn_cli.reconstruction.settings import InferenceSettings
from crnn_cli.report import montage as preview
from crnn_cli.report.rows import reconstruction_rows
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.command_line import heeds_interruption, table_rows
from tests.support.data import ROOT


def read(file):
    image = nib.load(file)
    return np.asanyarray(image.dataobj), image


def test_measured_samples_survive_to_the_file(crnn, scan, bundle, tmp_path):
    zero_filled, mask, file = scan
    ended = crnn("reconstruct", file, "--model", bundle, "--complex", "-o", tmp_path / "out.nii.gz")
    assert ended.code == 0, ended.err
    assert ended.out == b""
    images, nifti = read(tmp_path / "out.nii.gz")
    measured = to_kspace(zero_filled) * mask
    residual = np.linalg.norm(to_kspace(images) * mask - measured) / np.linalg.norm(measured)
    assert residual <= 1e-5
    assert np.linalg.norm(images - zero_filled) > 0.01 * np.linalg.norm(zero_filled)
    np.testing.assert_allclose(nifti.affine, AFFINE, atol=1e-4)
    assert nifti.header["pixdim"][4] == pytest.approx(0.03)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["reliability"]["residual"]["overall"] <= 1e-6
    assert report["acceleration"] == pytest.approx(1 / mask[0].mean(), rel=1e-3)
    assert report["origin"].startswith("zero-filled images as given")
    assert report["phase_encoding_axis"] == "y"
    assert report["input"] == {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert report["output"] == str(tmp_path / "out.nii.gz")
    described = read_bundle(bundle)
    assert report["model"] == {"name": "tiny", "sha256": described.sha256, "licence": "CC0-1.0"}
    assert (report["iterations"], report["noise_ratio"], report["seed"]) == (2, None, None)
    assert report["device"] in ("cpu", "cuda")
    assert 0 <= report["seconds"] < 60
    assert report["not_for"] == "diagnostic use"
    assert "quality_against_truth" not in report
    assert set(report["versions"]) == {"python", "torch", "numpy"}
    assert report["command"] == ["crnn", *sys.argv[1:]]
    description = bytes(nifti.header["descrip"]).rstrip(b"\0").decode()
    assert description == f"{report['tool']} tiny {report['acceleration']:.2f}x"


def test_no_iterations_give_the_start_alone(crnn, scan, bundle, tmp_path):
    arguments = ["--model", bundle, "--complex", "--iterations", 0, "-o", tmp_path / "o.nii"]
    assert crnn("reconstruct", scan[2], *arguments).code == 0
    start, network = run(scan[0], bundle, iterations=0), run(scan[0], bundle, iterations=2)
    np.testing.assert_allclose(read(tmp_path / "o.nii")[0], start, atol=1e-5)
    assert np.abs(start - network).max() > 1e-2 * np.abs(start).max()
    assert json.loads((tmp_path / "o.json").read_text())["iterations"] == 0


def test_iterations_and_noise_are_used_and_reported(crnn, scan, bundle, tmp_path):
    arguments = ["--model", bundle, "--complex", "--iterations", 3, "--noise-ratio", 0.5, "-o", tmp_path / "o.nii"]
    assert crnn("reconstruct", scan[2], *arguments).code == 0
    expected = run(scan[0], bundle, noise=0.5, iterations=3)
    np.testing.assert_allclose(read(tmp_path / "o.nii")[0], expected, atol=1e-5)
    report = json.loads((tmp_path / "o.json").read_text())
    assert (report["iterations"], report["noise_ratio"]) == (3, 0.5)
    assert 1e-3 < report["reliability"]["residual"]["overall"] < 1


def test_header_codes_and_frame_time_are_kept(crnn, scan, bundle, tmp_path):
    nifti = nib.load(scan[2])
    nifti.set_sform(AFFINE, code=3)
    nib.save(nifti, tmp_path / "s.nii")
    assert crnn("reconstruct", tmp_path / "s.nii", "--model", bundle, "-o", tmp_path / "o.nii").code == 0
    header = read(tmp_path / "o.nii")[1].header
    assert int(header["sform_code"]) == 3
    assert header["pixdim"][4] == pytest.approx(0.03)


def test_stored_axes_can_be_named(crnn, bundle, tmp_path):
    zero_filled = to_images(to_kspace(moving_cine(z=1)) * lines_mask(24, 20, 6)).astype(np.complex64)
    whole = save(tmp_path / "whole.nii", zero_filled)
    flat = save(tmp_path / "flat.nii", zero_filled[:, :, 0])
    magnitude = save(tmp_path / "magnitude.nii", np.abs(zero_filled[:, :, 0]))
    phase = save(tmp_path / "phase.nii", np.angle(zero_filled[:, :, 0]))
    for file, extra in ((whole, []), (flat, ["--axes", "x,y,t"]), (magnitude, ["--axes", "x,y,t", "--phase", phase])):
        out = tmp_path / f"out_{file.name}"
        ended = crnn("reconstruct", file, *extra, "--model", bundle, "-o", out)
        assert ended.code == 0, ended.err
        expected = read(tmp_path / "out_whole.nii")[0]
        np.testing.assert_allclose(read(out)[0], expected, atol=1e-4 * expected.max())
    assert json.loads((tmp_path / "out_magnitude.json").read_text())["input"]["phase"] == str(phase)


def test_a_phase_that_is_named_goes_before_the_sibling(crnn, scan, bundle, tmp_path):
    file = save(tmp_path / "s_part-mag.nii", np.abs(scan[0]))
    save(tmp_path / "s_part-phase.nii", 0 * np.abs(scan[0]))
    mine = save(tmp_path / "mine.nii", np.angle(scan[0]))
    ended = crnn("reconstruct", file, "--phase", mine, "--model", bundle, "-o", tmp_path / "o.nii")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "o.json").read_text())["input"]["phase"] == str(mine)


def test_doubts_about_the_header_are_told(crnn, scan, bundle, tmp_path):
    file = save(tmp_path / "s.nii", scan[0], frame_time=0)
    assert "warning: the header gives no frame time" in crnn("reconstruct", file, "--model", bundle).err


def test_magnitude_is_the_default_and_equals_the_complex_output(crnn, scan, bundle, tmp_path):
    for name, extra in (("m", []), ("c", ["--complex"])):
        assert crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / f"{name}.nii", *extra).code == 0
    magnitude, complex_ = read(tmp_path / "m.nii")[0], read(tmp_path / "c.nii")[0]
    assert magnitude.dtype == np.float32
    np.testing.assert_array_equal(magnitude, np.abs(complex_))


def test_same_input_same_bytes(crnn, scan, bundle, tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        assert crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / name).code == 0
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def run(array, bundle, noise=0.0, iterations=2):
    description = read_bundle(bundle)
    network = load_network(description, torch.device("cpu"))
    recipe = InferenceSettings(description.initial_image, description.input_rms, iterations, noise)
    acquisition = from_zero_filled(Image(array, AFFINE))
    method = NetworkReconstructor(network, recipe)
    return acquisition.to_image(
        reconstruct(SingleCoilSource(acquisition), method, torch.device("cpu")).images_ZTYX
    ).array


def test_scaling_the_scan_scales_the_images(scan, bundle):
    expected = run(scan[0], bundle)
    for factor in (1e-9, 4.0, 1e6):
        found = run((factor * scan[0]).astype(np.complex64), bundle) / factor
        assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_slices_do_not_see_each_other(scan, bundle):
    whole = run(scan[0], bundle)
    for z in (0, 1):
        alone = run(np.ascontiguousarray(scan[0][:, :, z : z + 1]), bundle)
        np.testing.assert_allclose(alone[:, :, 0], whole[:, :, z], atol=1e-5 * np.abs(whole).max())


def test_transposed_scan_gives_transposed_images(scan, bundle):
    expected = run(scan[0], bundle)
    found = run(np.ascontiguousarray(scan[0].transpose(1, 0, 2, 3)), bundle)
    np.testing.assert_allclose(found.transpose(1, 0, 2, 3), expected, atol=1e-5 * np.abs(expected).max())


def test_noise_trust_moves_away_from_the_samples(scan, bundle):
    hard, soft = run(scan[0], bundle), run(scan[0], bundle, noise=1.0)
    assert np.linalg.norm(hard - soft) > 1e-3 * np.linalg.norm(hard)


@pytest.mark.parametrize(("x", "y", "z", "t"), [(17, 13, 1, 2), (12, 31, 3, 3)])
def test_odd_sizes_and_few_frames(crnn, bundle, tmp_path, x, y, z, t):
    zero_filled = to_images(to_kspace(moving_cine(x, y, z, t)) * lines_mask(x, y, t)).astype(np.complex64)
    file = save(tmp_path / "odd.nii", zero_filled)
    ended = crnn("reconstruct", file, "--model", bundle)
    assert ended.code == 0, ended.err
    assert read(tmp_path / "odd_crnn.nii.gz")[0].shape == (x, y, z, t)


def test_mask_by_hand_equals_mask_found(crnn, scan, bundle, tmp_path):
    save(tmp_path / "mask.nii", scan[1])
    assert crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "a.nii").code == 0
    by_hand = crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "b.nii", "--mask", tmp_path / "mask.nii")
    assert by_hand.code == 0, by_hand.err
    np.testing.assert_array_equal(read(tmp_path / "a.nii")[0], read(tmp_path / "b.nii")[0])


def test_magnitude_with_phase_or_bids_sibling(crnn, scan, bundle, tmp_path):
    save(tmp_path / "s_part-mag_cine.nii", np.abs(scan[0]).astype(np.float64))
    save(tmp_path / "s_part-phase_cine.nii", np.angle(scan[0].astype(np.complex128)))
    ended = crnn("reconstruct", tmp_path / "s_part-mag_cine.nii", "--model", bundle, "-o", tmp_path / "sibling.nii")
    assert ended.code == 0, ended.err
    (tmp_path / "s_part-mag_cine.nii").rename(tmp_path / "m.nii")
    named = ["--phase", tmp_path / "s_part-phase_cine.nii"]
    assert crnn("reconstruct", tmp_path / "m.nii", *named, "--model", bundle, "-o", tmp_path / "named.nii").code == 0
    assert crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "complex.nii").code == 0
    expected = read(tmp_path / "complex.nii")[0]
    for name in ("sibling.nii", "named.nii"):
        np.testing.assert_allclose(read(tmp_path / name)[0], expected, atol=1e-4 * expected.max())


def test_simulation_is_said_everywhere_and_measured(crnn, bundle, tmp_path):
    file = save(tmp_path / "cine.nii", np.abs(moving_cine()))
    arguments = ["--undersample", 4, "--model", bundle, "--preview", tmp_path / "p.png", "--json", "--phase-axis", "x"]
    ended = crnn("reconstruct", file, "-o", tmp_path / "out.nii", *arguments)
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report == json.loads((tmp_path / "out.json").read_text())
    assert report["simulated"]
    assert report["phase_encoding_axis"] == "x"
    assert b"SIMULATED" in bytes(read(tmp_path / "out.nii")[1].header["descrip"])
    assert "SIMULATED" in ended.err
    truth = np.abs(moving_cine())
    error = np.mean((read(tmp_path / "out.nii")[0] - truth) ** 2)
    expected = 10 * np.log10(truth.max() ** 2 / error)
    assert report["quality_against_truth"]["reconstructed"]["psnr_db"] == pytest.approx(expected, abs=1e-3)
    assert PIL.Image.open(tmp_path / "p.png").size[0] > 300


@pytest.mark.parametrize("kind", ["complex", "magnitude (phase taken as zero)"])
def test_simulation_is_what_was_asked_for(crnn, bundle, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("COLUMNS", "300")
    truth = moving_cine() if kind == "complex" else np.abs(moving_cine())
    file = save(tmp_path / "cine.nii", truth)
    how = ["--undersample", 3, "--pattern", "sheared-grid", "--centre-lines", 2, "--seed", 5]
    ended = crnn("reconstruct", file, *how, "--model", bundle, "--complex", "-o", tmp_path / "o.nii")
    assert ended.code == 0, ended.err
    generator = torch.Generator().manual_seed(5)
    masks = torch.stack([sheared_grid(6, 20, 3, generator, 2) for _ in range(2)]).numpy()
    assert not np.array_equal(masks[0], masks[1])
    acquisition = from_fully_sampled(Image(truth, AFFINE), masks, 1, "")
    network = load_network(read_bundle(bundle), torch.device("cpu"))
    method = NetworkReconstructor(network, InferenceSettings("view-shared", 1.0, 2))
    made = reconstruct(SingleCoilSource(acquisition), method, torch.device("cpu"))
    np.testing.assert_allclose(read(tmp_path / "o.nii")[0], acquisition.to_image(made.images_ZTYX).array, atol=1e-5)
    report = json.loads((tmp_path / "o.json").read_text())
    assert report["origin"] == f"SIMULATED from a fully sampled {kind} series, sheared-grid, seed 5"
    assert report["seed"] == 5
    assert report["acceleration"] == pytest.approx(acquisition.acceleration, abs=1e-4)
    table = table_rows(ended.err)
    for name, images in (("zero_filled", made.zero_filled_ZTYX), ("reconstructed", made.images_ZTYX)):
        error = np.abs(acquisition.to_image(images).array) - np.abs(truth)
        psnr = 10 * np.log10(np.abs(truth).max() ** 2 / np.mean(error**2))
        found = report["quality_against_truth"][name]
        assert found["psnr_db"] == pytest.approx(psnr, abs=1e-3)
        assert table[f"{name.replace('_', '-')} vs truth"] == [f"PSNR {psnr:.2f} dB, SSIM {found['ssim']:.4f}"]
    assert table["data"] == [report["origin"]]
    assert table["acceleration"] == [f"{acquisition.acceleration:.2f}x along y"]
    assert table["method"] == ["tiny (CC0-1.0)"]
    assert table["residual at the samples"] == [f"{report['reliability']['residual']['overall']:.1e}"]
    assert table["written"] == [str(tmp_path / "o.nii")]


@pytest.mark.parametrize("simulated", [False, True])
def test_the_preview_shows_the_middle_slice_and_says_what_is_what(crnn, bundle, tmp_path, monkeypatch, simulated):
    seen = []

    def preview_output(*arguments):
        seen.append(arguments)
        return Output(arguments[3], b"picture")

    monkeypatch.setattr(preview, "preview_output", preview_output)
    truth, mask = moving_cine(z=3), lines_mask(24, 20, 6)
    zero_filled = to_images(to_kspace(truth) * mask)
    array = np.abs(truth) if simulated else zero_filled.astype(np.complex64)
    file, out = save(tmp_path / "s.nii", array), tmp_path / "o.nii"
    extra = ["--undersample", 3] if simulated else []
    arguments = [*extra, "--model", bundle, "-o", out, "--preview", tmp_path / "p.png"]
    assert crnn("reconstruct", file, *arguments).code == 0
    assert (tmp_path / "p.png").read_bytes() == b"picture"
    panels, spacing, frame_time, _, caption = seen[0]
    assert caption.startswith("SIMULATED") == simulated
    assert "slice 2 of 3" in caption
    assert "not for diagnostic use, left R, top A" in caption
    speed = f"{json.loads((tmp_path / 'o.json').read_text())['acceleration']:.1f}x"
    labels = [f"crnn {speed}", f"zero-filled {speed}"]
    if simulated:
        labels = ["fully sampled", *labels, "error of crnn x 5", "error of zero-filled x 5"]
    assert [panel.label for panel in panels] == labels
    assert [panel.gain for panel in panels] == ([1, 1, 1, 5, 5] if simulated else [1, 1])
    made = displayed_slice(Image(read(out)[0], AFFINE), 1)
    by_label = dict(zip(labels, (panel.frames_TYX for panel in panels), strict=True))
    np.testing.assert_allclose(by_label[f"crnn {speed}"], made, atol=1e-5)
    before = by_label[f"zero-filled {speed}"]
    if simulated:
        reference = displayed_slice(Image(np.abs(truth), AFFINE), 1)
        np.testing.assert_allclose(by_label["fully sampled"], reference, atol=1e-5)
        np.testing.assert_allclose(by_label["error of crnn x 5"], np.abs(made - reference), atol=1e-5)
        np.testing.assert_allclose(by_label["error of zero-filled x 5"], np.abs(before - reference), atol=1e-5)
        assert np.abs(before - made).max() > 1e-3
    else:
        np.testing.assert_allclose(before, displayed_slice(Image(np.abs(zero_filled), AFFINE), 1), atol=1e-5)
    assert spacing == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0)[[1, 0]])
    assert frame_time == pytest.approx(0.03)


def test_a_perfect_result_is_told():
    report = {
        "origin": "test", "acceleration": 1.0, "phase_encoding_axis": "x", "model": {"name": "m", "licence": "l"},
        "reliability": {"residual": {"overall": 0.0}}, "seconds": 1.0, "device": "cpu",
        "quality_against_truth": {"reconstructed": {"identical": True, "psnr_db": None, "ssim": 1.0}},
    }  # fmt: skip
    rows = dict(reconstruction_rows(Path("a.nii"), "m (l)", report))
    assert rows["reconstructed vs truth"] == "PSNR infinite, SSIM 1.0000"


def test_a_stream_of_images_may_have_a_preview_and_says_so(crnn, scan, bundle, tmp_path):
    ended = crnn("reconstruct", "-", "--model", bundle, "--preview", tmp_path / "p.png", stdin=scan[2].read_bytes())
    assert ended.code == 0, ended.err
    assert nib.Nifti1Image.from_bytes(ended.out).shape == scan[0].shape
    assert PIL.Image.open(tmp_path / "p.png").size[0] > 300
    assert table_rows(ended.err)["written"] == ["standard output"]


def test_images_are_not_poured_over_a_terminal(crnn, scan, bundle, monkeypatch):
    def refuse():
        raise UsageError("a terminal")

    monkeypatch.setattr(atomic_write, "require_pipe", refuse)
    assert crnn("reconstruct", scan[2], "--model", bundle, "-o", "-").code == 2


def test_progress_goes_to_the_bar(crnn, scan, bundle, monkeypatch):
    told = []

    @contextlib.contextmanager
    def bar(label):
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr(console, "progress_bar", bar)
    for folds in (0, 2):
        told.clear()
        assert crnn("reconstruct", scan[2], "--model", bundle, "--hold-out-folds", folds, "--force").code == 0
        assert told == [(done, 4 * (1 + folds)) for done in range(5 + 4 * folds)]


def test_movie_has_a_frame_a_frame(crnn, scan, bundle, tmp_path):
    arguments = ["--model", bundle, "-o", tmp_path / "o.nii", "--preview", tmp_path / "p.gif"]
    assert crnn("reconstruct", scan[2], *arguments).code == 0
    movie = PIL.Image.open(tmp_path / "p.gif")
    assert movie.n_frames == 6
    assert movie.info["duration"] == 30


def test_two_axes_undersampled_work_with_a_warning(crnn, bundle, tmp_path):
    mask = np.random.default_rng(0).random((24, 20, 1, 6)) < 0.4
    mask[10:14, 8:12] = True
    file = save(tmp_path / "s.nii", to_images(to_kspace(moving_cine()) * mask).astype(np.complex64))
    ended = crnn("reconstruct", file, "--model", bundle)
    assert ended.code == 0
    assert "both spatial axes" in ended.err


def program(*arguments, preexec_fn=heeds_interruption):
    command = [sys.executable, "-B", "-m", "crnn_cli", *map(str, arguments)]  # no bytecode that a limit cuts off
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=preexec_fn,  # noqa: PLW1509
    )  # fmt: skip


def test_works_in_a_pipe(scan, bundle):
    running = program("reconstruct", "-", "-o", "-", "--model", bundle)
    out, err = running.communicate(scan[2].read_bytes())
    assert running.returncode == 0, err
    image = nib.Nifti1Image.from_bytes(out)
    assert image.shape == scan[0].shape


def test_a_pipe_that_the_reader_closes_ends_it_without_a_word(scan, bundle):
    big = gzip.decompress(scan[2].read_bytes())
    running = program("reconstruct", "-", "-o", "-", "--model", bundle)
    running.stdout.close()
    running.stdin.write(big)
    running.stdin.close()
    err = running.stderr.read().decode()
    assert running.wait() == 141
    assert err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_standard_output_ends_with_one_line(scan, bundle):
    command = [sys.executable, "-m", "crnn_cli", "reconstruct", str(scan[2]), "-o", "-", "--model", str(bundle)]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 1
    assert ended.stderr.decode().startswith("error: ")
    assert "Traceback" not in ended.stderr.decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption_leaves_nothing(bundle, tmp_path, number, code):
    truth = moving_cine(96, 96, 4, 8)
    file = save(tmp_path / "s.nii", to_images(to_kspace(truth) * lines_mask(96, 96, 8)).astype(np.complex64))
    running = program("reconstruct", file, "--model", bundle, "--iterations", 100, "-v")
    begun = any(line.startswith(b"memory: ") for line in running.stderr)  # waits: it is told before the first slice
    time.sleep(0.3)
    assert begun, "it ended before"
    assert running.poll() is None, running.stderr.read()
    os.kill(running.pid, number)
    err = running.communicate()[1].decode()
    assert running.returncode == code
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["s.nii"]


def bad_inputs(tmp_path, zero_filled, file, bundle):
    """Return name -> (arguments, exit code, words of the message)."""

    def made(name, array, **options):
        return save(tmp_path / name, array, **options)

    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "cut.nii.gz").write_bytes(file.read_bytes()[:3000])
    (tmp_path / "text.nii").write_text("patient,age\n1,2\n" * 99)
    for name in ("taken.nii.gz", "taken.json", "taken.gif"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "locked").mkdir()
    nan = zero_filled.copy()
    nan[1, 2, 0, 3] = np.nan
    out = tmp_path / "o.nii.gz"
    mask = lines_mask(24, 20, 6)
    cine = made("cine.nii", np.abs(zero_filled))
    return {
        "missing file": ([tmp_path / "none.nii"], 3, "does not exist"),
        "folder": ([tmp_path], 3, "folder"),
        "empty file": ([tmp_path / "empty.nii.gz"], 3, "empty"),
        "truncated file": ([tmp_path / "cut.nii.gz"], 3, "truncated"),
        "text renamed": ([tmp_path / "text.nii"], 3, "not a NIfTI"),
        "3-D": ([made("3d.nii", zero_filled[..., 0])], 4, "--axes x,y,t"),
        "magnitude": ([made("m.nii", np.abs(zero_filled))], 4, "--undersample"),
        "fully sampled": ([made("full.nii", moving_cine())], 4, "fully sampled"),
        "one frame": ([made("one.nii", zero_filled[..., :1])], 4, "one frame"),
        "NaN": ([made("nan.nii", nan)], 4, "NaN"),
        "constant": ([made("const.nii", np.ones_like(zero_filled))], 4, "constant"),
        "constant, simulated": ([tmp_path / "const.nii", "--undersample", 4], 4, "constant"),
        "mask shape": ([file, "--mask", made("m1.nii", mask[1:])], 4, "the mask is"),
        "mask values": ([file, "--mask", made("m2.nii", 2 * mask)], 4, "0 and 1"),
        "mask zero": ([file, "--mask", made("m3.nii", 0 * mask)], 4, "zero everywhere"),
        "mask disagrees": ([file, "--mask", made("m4.nii", mask[:, ::-1])], 4, "disagrees"),
        "mask and simulation": ([file, "--mask", tmp_path / "m1.nii", "--undersample", 4], 2, "one of them"),
        "output folder missing": ([file, "-o", tmp_path / "no" / "o.nii"], 1, "does not exist"),
        "output is a folder": ([file, "-o", tmp_path / "locked"], 2, ".nii"),
        "output exists": ([file, "-o", tmp_path / "taken.nii.gz"], 1, "--force"),
        "output of a stream exists": (["-", "-o", tmp_path / "taken.nii.gz"], 1, "--force"),
        "report exists": ([file, "-o", tmp_path / "taken.nii"], 1, "never replaced"),
        "preview exists": ([file, "-o", out, "--preview", tmp_path / "taken.gif"], 1, "--force"),
        "output is the input": ([file, "-o", tmp_path / "locked" / ".." / file.name, "--force"], 2, "is the input"),
        "output of another kind": ([file, "-o", tmp_path / "o.png"], 2, ".nii"),
        "preview of another kind": ([file, "-o", out, "--preview", tmp_path / "p.bmp"], 2, ".png"),
        "unknown device": ([file, "--device", "quantum"], 2, "--device quantum is not known"),
        "absent device": ([file, "--device", "cuda:77"], 5, "cuda:77"),
        "unknown model": ([file, "--model", "gpt"], 2, "no model gpt"),
        "unknown pattern": ([cine, "--undersample", 4, "--pattern", "spiral"], 2, "--pattern spiral is not known"),
        "too fast": ([cine, "--undersample", 999], 2, "acceleration"),
        "slower than full": ([file, "--undersample", 0.5], 2, ""),
        "unknown option": ([file, "--undersampel", 4], 2, ""),
        "phase of a complex file": ([file, "--phase", file], 2, "complex already"),
        "images and JSON on one stream": ([file, "-o", "-", "--json"], 2, "standard output"),
        "unknown axis of the simulation": ([file, "--undersample", 4, "--phase-axis", "z"], 2, "--phase-axis z"),
        "mask from the stream": ([file, "--mask", "-"], 2, "only the scan itself"),
        "unknown axes": ([file, "--axes", "a,b"], 2, "--axes"),
        "simulation option without simulation": ([file, "--pattern", "sheared-grid"], 2, "needs --undersample"),
        "simulation from undersampled data": ([file, "--undersample", 4], 4, "undersampled already"),
        "mask is the output": ([file, "--mask", tmp_path / "m1.nii", "-o", tmp_path / "m1.nii", "--force"], 2, "input"),
    }  # fmt: skip


BAD = [
    "missing file", "folder", "empty file", "truncated file", "text renamed", "3-D", "magnitude", "fully sampled",
    "one frame", "NaN", "constant", "constant, simulated", "mask shape", "mask values", "mask zero", "mask disagrees",
    "mask and simulation", "output folder missing", "output is a folder", "output exists",
    "output of a stream exists", "report exists", "preview exists", "output is the input",
    "output of another kind", "preview of another kind", "unknown device", "absent device", "unknown model",
    "unknown pattern", "too fast", "slower than full", "unknown option", "phase of a complex file",
    "images and JSON on one stream", "unknown axis of the simulation", "mask from the stream", "unknown axes",
    "simulation option without simulation", "simulation from undersampled data", "mask is the output",
]  # fmt: skip


@pytest.fixture(scope="module")
def bad(tmp_path_factory, bundle):
    """Return a folder of bad inputs, and what `bad_inputs` says of them."""
    folder = tmp_path_factory.mktemp("bad")
    zero_filled = to_images(to_kspace(moving_cine()) * lines_mask(24, 20, 6)).astype(np.complex64)
    return folder, bad_inputs(folder, zero_filled, save(folder / "scan.nii.gz", zero_filled), bundle)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(crnn, bundle, bad, name):
    folder, cases = bad
    assert list(cases) == BAD
    arguments, code, words = cases[name]
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    model = [] if "--model" in arguments else ["--model", bundle]
    ended = crnn("reconstruct", *arguments, *model)
    assert ended.code == code, ended.err
    assert words in ended.err
    if words:
        errors = [line for line in ended.err.splitlines() if not line.startswith("warning:")]
        assert len(errors) == 1, ended.err
        assert errors[0].startswith("error: ")
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_brackets_in_names_are_printed_as_they_are(crnn, bundle, tmp_path):
    ended = crnn("reconstruct", tmp_path / "[bold]a[/bold].nii", "--model", bundle)
    assert "[bold]a[/bold].nii" in ended.err


def test_full_disk_leaves_nothing(scan, bundle, tmp_path):
    """A limit on file size stands in for a full disk: the write fails half-way."""
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    running = program("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "o.nii", preexec_fn=limit)
    err = running.communicate()[1].decode()
    assert running.returncode == 1
    assert "cannot write" in err
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_force_replaces(crnn, scan, bundle, tmp_path):
    for _ in range(2):
        ended = crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "o.nii", "--force")
        assert ended.code == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu(crnn, scan, bundle, tmp_path):
    for device in ("cpu", "cuda"):
        ended = crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / f"{device}.nii", "--device", device)
        assert ended.code == 0, ended.err
    cpu, cuda = (read(tmp_path / f"{d}.nii")[0] for d in ("cpu", "cuda"))
    assert np.abs(cpu - cuda).max() < 1e-3 * cpu.max()


def test_simulation_of_tiny_frames_works_without_measures(crnn, bundle, tmp_path):
    file = save(tmp_path / "tiny.nii", np.abs(moving_cine(9, 12, 1, 3)))
    ended = crnn("reconstruct", file, "--undersample", 3, "--model", bundle)
    assert ended.code == 0, ended.err
    assert "not measured" in ended.err
    assert "quality_against_truth" not in json.loads((tmp_path / "tiny_crnn.json").read_text())

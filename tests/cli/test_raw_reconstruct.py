"""``crnn reconstruct`` on raw k-space: images in the right place, coils used rightly, clear refusals."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli.mri.fourier import kspace_to_image
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from tests.support.cfl import write_cfl
from tests.support.cines import moving_cine, to_kspace
from tests.support.data import data_file
from tests.support.ismrmrd import Options, write_beats, write_scan

COILS = 3
AXES = "slice,coil,t,ky,kx"


def sensitivities(y=20, x=24):
    """Return smooth maps (coil, y, x) with sum |s|^2 = 1, which go round at the edges of the field of view."""
    v, u = np.meshgrid(2 * np.pi * np.arange(y) / y, 2 * np.pi * np.arange(x) / x, indexing="ij")
    maps = [np.exp(1j * k) * (1.2 + np.cos(u + 2 * k) + 0.8 * np.cos(v - k) + 0.3j * np.sin(u)) for k in range(COILS)]
    return np.stack(maps) / np.sqrt(sum(abs(m) ** 2 for m in maps))


def measured(slices=2, acceleration=2, centre=8, noise=1e-4):
    """Return truth (x, y, z, t) and undersampled k-space (slice, coil, t, ky, kx)."""
    truth = moving_cine(z=slices, noise=0)
    seen = truth[:, :, None] * sensitivities().transpose(2, 1, 0)[..., None, None]
    kspace = to_kspace(seen).transpose(3, 2, 4, 1, 0)
    rng = np.random.default_rng(1)
    kspace = kspace + noise * (rng.normal(size=kspace.shape) + 1j * rng.normal(size=kspace.shape))
    mask = np.zeros((6, 20), bool)
    for t in range(6):
        mask[t, t % acceleration :: acceleration] = True
    mask[:, 10 - centre // 2 : 10 + (centre + 1) // 2] = True
    return truth, (kspace * mask[:, :, None]).astype(np.complex64)


@pytest.fixture
def raw(tmp_path):
    np.save(tmp_path / "k.npy", measured()[1])
    return tmp_path / "k.npy"


def error(file, truth):
    made = np.abs(np.asanyarray(nib.load(file).dataobj))
    return np.linalg.norm(made - np.abs(truth)) / np.linalg.norm(truth)


@pytest.mark.parametrize("method", ["sense", "tv", "llr"])
def test_classical_methods_find_the_truth_from_several_coils(crnn, raw, method):
    truth, _ = measured()
    weight = [] if method == "sense" else ["--regularisation", 1e-4]
    out = raw.with_name("o.nii")
    ended = crnn("reconstruct", raw, "--axes", AXES, "--method", method, *weight, "-o", out, "--json")
    assert ended.code == 0, ended.err
    assert error(out, truth) < 0.06
    report = json.loads(ended.out)
    assert report["method"]["name"] == method
    assert report["acceleration"] == pytest.approx(120 / 84, abs=0.01)
    assert report["coils"][0]["maps"] == "ESPIRiT"
    assert report["coils"][1]["calibration"][0] >= 8
    assert report["input"]["format"] == "NumPy"
    used = report["regularisation_weights_used"]
    assert min(used) == max(used) == (0.001 if method == "sense" else 1e-4)
    assert f"weight {used[0]:.2g}" in " ".join(re.findall(r"[\w.]+", ended.err))


def test_noise_is_found_slice_by_slice_and_default_weights_follow(crnn, tmp_path):
    found = {}
    for noise in (1e-3, 0.3):
        np.save(tmp_path / "k.npy", measured(noise=noise)[1])
        ended = crnn("reconstruct", tmp_path / "k.npy", "--axes", AXES, "--method", "tv", "--json", "--force")
        assert ended.code == 0, ended.err
        report = json.loads(ended.out)
        found[noise] = report["regularisation_weights_used"]
        for facts in report["coils"]:
            assert 0.8 * noise < facts["noise_deviation"] / 2**0.5 < 1.5 * noise + 0.05
    assert all(more > 2 * less for less, more in zip(*found.values(), strict=True))


def test_the_network_takes_several_coils(crnn, raw, bundle):
    ended = crnn("reconstruct", raw, "--axes", AXES, "--model", bundle, "-o", raw.with_name("o.nii"), "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["method"] == {"name": "crnn"}
    assert report["reliability"]["residual"]["overall"] < 0.1
    assert error(raw.with_name("o.nii"), measured()[0]) < 0.3


def test_maps_that_were_saved_give_the_same_images(crnn, raw, tmp_path):
    asked = ("reconstruct", raw, "--axes", AXES, "--method", "sense")
    assert crnn(*asked, "-o", tmp_path / "a.nii", "--save-maps", tmp_path / "m.npy").code == 0
    assert np.load(tmp_path / "m.npy").shape == (2, COILS, 20, 24)
    ended = crnn(*asked, "-o", tmp_path / "b.nii", "--maps", tmp_path / "m.npy")
    assert ended.code == 0, ended.err
    first, second = (nib.load(tmp_path / f"{name}.nii").get_fdata() for name in "ab")
    np.testing.assert_allclose(first, second, atol=1e-5 * first.max())
    assert crnn(*asked, "-o", tmp_path / "c.nii", "--save-maps", tmp_path / "m.png").code == 0
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"


def test_true_maps_of_one_slice_stand_for_all(crnn, raw, tmp_path):
    np.save(tmp_path / "m.npy", sensitivities().astype(np.complex64))
    ended = crnn(
        "reconstruct", raw, "--axes", AXES, "--method", "sense", "--maps", tmp_path / "m.npy", "-o", tmp_path / "o.nii"
    )
    assert ended.code == 0, ended.err
    assert error(tmp_path / "o.nii", measured()[0]) < 0.02
    assert "given" in ended.err


def test_maps_of_bart_are_taken(crnn, raw, tmp_path):
    maps = np.zeros((24, 20, 1, COILS), np.complex64)
    maps[:, :, 0] = sensitivities().transpose(2, 1, 0)
    write_cfl(tmp_path / "m", maps)
    asked = ("reconstruct", raw, "--axes", AXES, "--method", "sense", "-o", tmp_path / "o.nii", "--force")
    ended = crnn(*asked, "--maps", tmp_path / "m.cfl")
    assert ended.code == 0, ended.err
    assert error(tmp_path / "o.nii", measured()[0]) < 0.02
    single = nib.load(tmp_path / "o.nii").get_fdata()
    write_cfl(tmp_path / "two", np.stack([maps, 0 * maps], 4))  # ecalib -m 2 lays sets along dimension 4
    ended = crnn(*asked, "--maps", tmp_path / "two.cfl", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["coils"][0]["map_sets"] == 2
    np.testing.assert_allclose(nib.load(tmp_path / "o.nii").get_fdata(), single, atol=1e-4 * single.max())
    write_cfl(tmp_path / "odd", np.repeat(maps[..., None, None], 2, 5))
    ended = crnn(*asked, "--maps", tmp_path / "odd.cfl")
    assert (ended.code, "dimension 5" in ended.err) == (4, True), ended.err


def folded(frames=4):
    """Return undersampled k-space (coil, t, ky, kx) of a phantom that folds along y, and what its coils see of it."""
    scan = PhantomScan(Grid(48, 64, 5.6), frames, 1, 6, seed=2)
    whole = simulate_slice(scan, 0).kspace_CTYX[:, :, ::2]
    rng = np.random.default_rng(3)
    noise = torch.from_numpy(rng.standard_normal((2, *whole.shape)).astype(np.float32))
    mask = rng.random((frames, 32)) < 0.4
    mask[:, 10:22] = True
    truth = kspace_to_image(whole).abs().square().sum(0).sqrt()
    return ((whole + 0.02 * torch.complex(*noise)).numpy() * mask[:, :, None]).astype(np.complex64), truth.numpy()


def test_a_body_larger_than_the_field_of_view_gets_two_sets_of_maps(crnn, tmp_path):
    kspace, truth = folded()
    np.save(tmp_path / "k.npy", kspace)
    asked = ("reconstruct", tmp_path / "k.npy", "--axes", "coil,t,ky,kx", "--method", "tv")
    asked += ("--iterations", 12, "--hold-out-folds", 0, "--json", "--force")
    found = {}
    for number in ("auto", "1", "2"):
        out = tmp_path / f"{number}.nii"
        ended = crnn(*asked, "-o", out, "--map-sets", number, "--save-maps", tmp_path / "m.npy")
        assert ended.code == 0, ended.err
        report = json.loads(ended.out)
        doubts = {each["code"]: each["text"] for each in report["doubts"]}
        assert "folds in slice 1" in doubts["field-of-view-small"]
        assert report["coils"][0]["map_sets"] == (1 if number == "1" else 2)
        assert f"{'one set' if number == '1' else 'two sets'} of coil" in doubts["field-of-view-small"]
        found[number] = np.asanyarray(nib.load(out).dataobj)[:, :, 0].transpose(2, 1, 0)
    np.testing.assert_array_equal(found["auto"], found["2"])
    errors = {name: np.linalg.norm(image - truth) / np.linalg.norm(truth) for name, image in found.items()}
    assert errors["2"] < 0.6 * errors["1"]
    assert np.load(tmp_path / "m.npy").shape == (1, 2, 6, 32, 48)
    ended = crnn(*asked, "-o", tmp_path / "again.nii", "--maps", tmp_path / "m.npy")
    assert ended.code == 0, ended.err
    again = np.asanyarray(nib.load(tmp_path / "again.nii").dataobj)[:, :, 0].transpose(2, 1, 0)
    np.testing.assert_allclose(again, found["2"], atol=1e-3 * truth.max())
    assert crnn(*asked, "-o", tmp_path / "p.nii", "--save-maps", tmp_path / "m.png").code == 0


def test_the_network_its_tuning_and_its_uncertainty_take_two_sets(crnn, tmp_path, bundle):
    kspace, truth = folded()
    np.save(tmp_path / "k.npy", kspace)
    ended = crnn(
        "reconstruct", tmp_path / "k.npy", "--axes", "coil,t,ky,kx", "--model", bundle, "-o", tmp_path / "o.nii",
        "--adapt-steps", 2, "--ensemble", 2, "--uncertainty", tmp_path / "sd.nii", "--uncertainty-runs", 2, "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["coils"][0]["map_sets"] == 2
    assert report["adapted"]["steps"] == 2
    assert 0 < report["reliability"]["null_space_energy_fraction"]["overall"] < 1
    assert report["reliability"]["held_out"]["overall"] < 1
    image = np.asanyarray(nib.load(tmp_path / "o.nii").dataobj)[:, :, 0].transpose(2, 1, 0)
    assert np.linalg.norm(image - truth) < 0.5 * np.linalg.norm(truth)
    assert nib.load(tmp_path / "sd.nii").get_fdata().min() > 0


def test_a_number_of_map_sets_belongs_to_maps_that_are_estimated(crnn, raw, tmp_path):
    np.save(tmp_path / "m.npy", sensitivities().astype(np.complex64))
    asked = ("reconstruct", raw, "--axes", AXES, "--method", "sense")
    for more in (("--map-sets", 2, "--maps", tmp_path / "m.npy"), ("--map-sets", 3)):
        ended = crnn(*asked, *more)
        assert (ended.code, "--map-sets" in ended.err) == (2, True), ended.err


def test_compression_loses_little_and_says_how_much(crnn, raw, tmp_path):
    asked = ("reconstruct", raw, "--axes", AXES, "--method", "sense", "--json")
    ended = crnn(*asked, "--coils", 2, "-o", tmp_path / "o.nii")
    facts = json.loads(ended.out)["coils"][0]
    assert (facts["coils"], facts["used"]) == (3, 2)
    assert 0.8 < facts["energy_kept"] < 1
    one = json.loads(crnn(*asked, "--coils", 1, "-o", tmp_path / "p.nii").out)["coils"][0]
    assert one["energy_kept"] < facts["energy_kept"]
    assert "maps" not in one
    ended = crnn(*asked, "--coils", 1, "-o", tmp_path / "q.nii", "--save-maps", tmp_path / "m.npy")
    assert (ended.code, "one coil" in ended.err, (tmp_path / "q.nii").exists()) == (4, True, False)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--axes", AXES, "--coils", 4], 2, "there are 3"),
        (["--axes", AXES, "--mask", "m.nii"], 2, "--mask does not belong to raw"),
        (["--axes", AXES, "--undersample", 2], 2, "--undersample does not belong to raw"),
        (["--axes", AXES, "--phases", 8], 2, "--phases sorts"),
        (["--axes", AXES, "--variable", "x"], 2, "only one array"),
        (["--axes", "coil,t,ky,kx"], 2, "4"),
        (["--axes", "slice,t,coil,ky,kx", "--method", "median"], 2, "median is not known"),
        (["--axes", "slice,coil,ky,t,kx", "--method", "sense"], 4, "ky"),
        ([], 4, "--axes"),
        (["--axes", AXES, "--regularisation", 1], 2, "--noise-ratio"),
        (["--axes", AXES, "--method", "zero-filled", "--regularisation", 1], 2, "has none"),
        (["--axes", AXES, "--method", "zero-filled", "--iterations", 3], 2, "does not iterate"),
        (["--axes", AXES, "--method", "tv", "--iterations", 0], 2, "at least 1"),
        (["--axes", AXES, "--method", "tv", "--noise-ratio", 1], 2, "--regularisation"),
        (["--axes", AXES, "--method", "tv", "--model", "cine-crnn"], 2, "--model belongs"),
        (["--axes", AXES, "--save-maps", "maps.nii"], 2, ".npy"),
        (["--axes", AXES, "--format", "dicom"], 4, "DICOM source"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(crnn, raw, monkeypatch, more, code, said):
    monkeypatch.chdir(raw.parent)
    (raw.parent / "m.nii").write_bytes(b"")
    before = sorted(raw.parent.iterdir())
    ended = crnn("reconstruct", raw, *more)
    assert (ended.code, said in ended.err) == (code, True), ended.err
    assert sorted(raw.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("maps", "code", "said"),
    [
        (np.ones((COILS, 20, 20), np.complex64), 4, r"(1, 3, 20, 20)"),
        (np.ones((COILS, 20, 24), np.float32), 4, "complex"),
        (np.full((COILS, 20, 24), np.nan, np.complex64), 4, "NaN"),
        (np.zeros((COILS, 20, 24), np.complex64), 4, "zero everywhere"),
        (None, 3, "of no known format"),
    ],
)
def test_maps_that_do_not_fit_are_refused(crnn, raw, tmp_path, maps, code, said):
    place = tmp_path / "m.npy"
    place.write_text("x") if maps is None else np.save(place, maps)
    ended = crnn("reconstruct", raw, "--axes", AXES, "--maps", place, "--method", "sense")
    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_options_of_raw_data_do_not_fit_images(crnn, scan):
    for option in (
        ("--coils", 2),
        ("--maps", "m.npy"),
        ("--map-sets", 2),
        ("--phases", 8),
        ("--variable", "x"),
        ("--save-maps", "m.npy"),
    ):
        ended = crnn("reconstruct", scan[2], *option)
        assert (ended.code, "raw k-space" in ended.err) == (2, True), ended.err


def test_no_calibration_lines_and_one_frame_say_what_helps(crnn, tmp_path):
    np.save(tmp_path / "k.npy", measured(acceleration=5, centre=0)[1][..., :1, :, :])
    ended = crnn("reconstruct", tmp_path / "k.npy", "--axes", AXES, "--method", "sense")
    assert (ended.code, "--maps FILE" in ended.err) == (4, True), ended.err
    np.save(tmp_path / "one.npy", measured()[1][:, :, :1])
    ended = crnn("reconstruct", tmp_path / "one.npy", "--axes", AXES)
    assert (ended.code, "--method sense" in ended.err) == (4, True), ended.err


def test_images_of_ismrmrd_lie_where_the_header_says(crnn, tmp_path, bundle):
    made = write_scan(tmp_path / "raw.h5", Options(samples=16, lines=16, frames=3, coils=2, noise=np.eye(2) * 1e-4))
    ended = crnn(
        "reconstruct", tmp_path / "raw.h5", "--model", bundle, "-o", tmp_path / "o.nii", "--preview", tmp_path / "p.png"
    )
    assert ended.code == 0, ended.err
    image = nib.load(tmp_path / "o.nii")
    np.testing.assert_allclose(image.affine, made.affine, atol=1e-3)
    assert image.shape == (16, 16, 2, 3)
    assert image.header.get_zooms()[3] == pytest.approx(made.frame_time, rel=0.01)
    assert "noise whitened" in " ".join(ended.err.split())


def test_lines_are_sorted_by_ecg(crnn, tmp_path):
    write_beats(tmp_path / "raw.h5", Options(samples=16, lines=16, coils=2, slices=1), 4, [200] * 32)
    ended = crnn("reconstruct", tmp_path / "raw.h5", "--phases", 4, "--method", "sliding-window")
    assert ended.code == 0, ended.err
    assert nib.load(tmp_path / "raw_crnn.nii.gz").shape[3] == 4


@pytest.mark.parametrize(
    ("parts", "axes", "shape"),
    [
        ("ksp.cfl", None, (180, 230, 1)), ("cartesian_ksp.npy", "coil,ky,kx", (180, 230, 1)),
        ("meas_MID00349_FID09273_SNR_R3.h5", None, (192, 144, 1)),
        ("hp13c_lactate_prospective.mat", "kx,ky,kz,t", (80, 40, 12, 13)),
    ],
)  # fmt: skip
def test_every_real_file_is_reconstructed(crnn, tmp_path, parts, axes, shape):
    file = data_file("kspace", parts)
    asked = ["--axes", axes] if axes else []
    ended = crnn("reconstruct", file, *asked, "--method", "sense", "-o", tmp_path / "o.nii.gz", "--json")
    assert ended.code == 0, ended.err
    assert nib.load(tmp_path / "o.nii.gz").shape[: len(shape)] == shape
    assert json.loads(ended.out)["reliability"]["residual"]["overall"] < 0.1


def test_lines_held_out_that_are_not_predicted_are_a_doubt(crnn, tmp_path):
    """Coils whose sensitivities are nonsense: a small residual at the samples, above 1 where nothing was shown."""
    np.save(tmp_path / "k.npy", measured(slices=1, centre=10)[1])
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(COILS, 20, 24)) + 1j * rng.normal(size=(COILS, 20, 24))
    np.save(tmp_path / "m.npy", maps.astype(np.complex64))
    asked = ("reconstruct", tmp_path / "k.npy", "--axes", AXES, "--method", "sense", "--json", "--hold-out-folds", "2")
    ended = crnn(*asked, "--regularisation", 1e-5, "--maps", tmp_path / "m.npy", "-o", tmp_path / "o.nii")
    report = json.loads(ended.out)
    assert report["reliability"]["held_out"]["overall"] >= 1
    assert "held-out-not-predicted" in [each["code"] for each in report["doubts"]]
    ended = crnn(*asked, "-o", tmp_path / "p.nii")
    report = json.loads(ended.out)
    assert report["reliability"]["held_out"]["overall"] < 1
    assert "held-out-not-predicted" not in [each["code"] for each in report["doubts"]]
    ended = crnn(*asked, "--maps", tmp_path / "m.npy", "--regularisation", 1e-5, "--strict", "-o", tmp_path / "q.nii")
    assert (ended.code, (tmp_path / "q.nii").exists()) == (4, False)


def test_the_number_of_threads_is_reported_and_can_be_chosen(crnn, raw):
    before = torch.get_num_threads()
    for number in (1, 2):
        asked = ("--axes", AXES, "--method", "zero-filled", "--threads", number, "--json", "--force")
        ended = crnn("reconstruct", raw, *asked)
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["threads"] == number
    assert torch.get_num_threads() == before
    report = json.loads(crnn("reconstruct", raw, "--axes", AXES, "--method", "zero-filled", "--json", "--force").out)
    assert report["threads"] == before

"""``crnn info`` on raw k-space: what is in the file, from its headers and one slice."""

import hashlib
import json

import numpy as np
import pytest

from crnn_cli.cli.remedies import spell_option
from crnn_cli.errors import Param
from tests.cli.test_info_proposals import require_to_run
from tests.cli.test_raw_reconstruct import AXES, measured
from tests.support.command_line import table_rows
from tests.support.data import data_file
from tests.support.ismrmrd import Options, header_of, scan, write, write_beats, write_scan
from tests.support.kspace import kspace, lines, write_bart
from tests.support.raw_field.make import make_case


def described(crnn, *arguments):
    ended = crnn("info", *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_an_array_is_described_by_the_axes_that_are_named(crnn, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    np.save(tmp_path / "k.npy", measured()[1])
    found = described(crnn, tmp_path / "k.npy", "--axes", AXES)
    assert (found["format"], found["slices"], found["coils"], found["frames"]) == ("NumPy", 2, 3, 6)
    assert found["grid"] == [20, 24]
    assert found["image_shape"] == [24, 20, 2, 6]
    assert found["lines_per_frame"] == [14]
    assert found["acceleration"] == pytest.approx(20 / 14, abs=1e-3)
    assert (found["calibration_lines"], found["n_undersampled_axes"], found["noise_scan"]) == (20, 1, False)
    assert f"--axes {AXES}" in found["next_step"]
    table = table_rows(crnn("info", tmp_path / "k.npy", "--axes", AXES).out)
    assert table["slices, coils, frames"] == ["2, 3, 6"]
    assert table["sampling"][0].startswith("1.43x along one axis, 14 lines")


def test_ismrmrd_is_described_with_geometry_noise_and_calibration(crnn, tmp_path):
    options = Options(
        samples=16, lines=16, coils=2, acceleration=2, calibration="separate", noise=np.eye(2), oversampling=2
    )
    made = write_scan(tmp_path / "raw.h5", options)
    found = described(crnn, tmp_path / "raw.h5")
    assert (found["format"], found["coils"], found["frames"]) == ("ISMRMRD", 2, 3)
    assert found["grid"] == [16, 32]
    assert found["field_shown"] == [1.0, 0.5]
    assert found["image_shape"] == [16, 16, 2, 3]
    assert found["acceleration"] == pytest.approx(2, abs=0.3)
    assert (found["noise_scan"], found["separate_calibration"]) == (True, True)
    assert found["frame_time_s"] == pytest.approx(made.frame_time, rel=0.01)
    np.testing.assert_allclose(found["spacing_mm"], np.linalg.norm(made.affine[:3, :3], axis=0), rtol=1e-3)


@pytest.mark.parametrize(("more", "said"), [(["--series", "1"], "DICOM"), (["--slice-tolerance", "1"], "ISMRMRD")])
def test_options_of_dicom_do_not_fit(crnn, tmp_path, more, said):
    np.save(tmp_path / "k.npy", measured()[1])
    ended = crnn("info", tmp_path / "k.npy", "--axes", AXES, *more)
    assert (ended.code, said in ended.err) == (2, True)


def test_a_variable_belongs_to_raw_data(crnn, scan):
    ended = crnn("info", scan[2], "--variable", "kspace")
    assert (ended.code, "--variable" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "axes", "wanted"),
    [
        ("ksp.cfl", None, {"format": "BART", "coils": 8, "frames": 1, "grid": [230, 180], "n_undersampled_axes": 2}),
        ("cartesian_ksp.npy", "coil,ky,kx", {"format": "NumPy", "coils": 8, "frames": 1, "grid": [230, 180]}),
        (
            "hp13c_lactate_prospective.mat", "kx,ky,kz,t",
            {"format": "MATLAB", "coils": 1, "frames": 13, "image_shape": [80, 40, 12, 13], "acceleration": 3.982},
        ),
        (
            "meas_MID00349_FID09273_SNR_R3.h5", None,
            {
                "format": "ISMRMRD", "coils": 14, "grid": [144, 384], "field_shown": [1.0, 0.5], "noise_scan": True,
                "image_shape": [192, 144, 1, 1], "spacing_mm": [1.4583, 1.4583, 8.0], "lines_per_frame": [36],
                "calibration_lines": 48, "separate_calibration": True, "acceleration": 4.0,
            },
        ),
    ],
)  # fmt: skip
def test_every_real_file_is_described_rightly(crnn, name, axes, wanted):
    found = described(crnn, data_file("kspace", name), *(["--axes", axes] if axes else []))
    assert {key: found[key] for key in wanted} == wanted


def options(case):
    """Return the options that read a generated file."""
    given = {name: value for name, value in (case.choices | case.chosen).items() if value is not None}
    spelled = [spell_option(Param(name, None if value is True else value)) for name, value in given.items()]
    return [word for option in spelled for word in option.split()]


@pytest.mark.parametrize("seed", range(300, 310))
def test_what_is_proposed_for_a_file_of_the_field_runs(crnn, bundle, tmp_path, seed):
    """With the options that read it; and where it is refused, so does ``info``, with exit code 3 or 4."""
    case = make_case(seed, tmp_path)
    if case.refused is None:
        require_to_run(crnn, bundle, tmp_path, case.path, *options(case))
    else:
        ended = crnn("info", case.path, *options(case))
        assert ended.code in (3, 4) or "empty frame" in case.told, ended.err


def test_phases_are_proposed_where_beats_were_not_used(crnn, bundle, tmp_path):
    o = Options(lines=12, samples=16, oversampling=1, slices=1, coils=1)
    write_beats(tmp_path / "beats.h5", o, 8, [40] * 24)
    found = described(crnn, tmp_path / "beats.h5")
    assert "ecg-not-used" in [each["code"] for each in found["doubts"]]
    phases = int(found["next_commands"][0].split("--phases ")[1].split()[0])
    assert 4 <= phases <= 30
    assert require_to_run(crnn, bundle, tmp_path, tmp_path / "beats.h5") == ["reconstruct"]


@pytest.mark.parametrize("counter", ["set", "contrast"])
def test_a_choice_that_info_asks_for_is_taken(crnn, tmp_path, counter):
    o = Options(frames=2, slices=1)
    acquisitions, _ = scan(o)
    others, _ = scan(o)
    for line in others:
        setattr(line.idx, counter, 1)
    place = write(tmp_path / "a.h5", acquisitions + others, header_of(o))
    ended = crnn("info", place)
    assert (ended.code, f"--{counter} 0" in ended.err) == (4, True), ended.err
    found = described(crnn, place, f"--{counter}", "1")
    assert f"--{counter} 1" in found["next_step"]
    ended = crnn("reconstruct", place, f"--{counter}", "1", "--method", "zero-filled", "--coils", "1", "--json", "-o",
                 tmp_path / "o.nii")  # fmt: skip
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["input"][{"set": "set_number"}.get(counter, counter)] == 1
    assert crnn("reconstruct", place, f"--{counter}", "5").code == 2


def test_a_bart_pair_is_named_without_suffix_everywhere(crnn, tmp_path):
    write_bart(tmp_path / "k", kspace(1, 4, 5) * lines()[:, :, None])
    found = described(crnn, tmp_path / "k")
    assert found["next_commands"] == [f"crnn reconstruct {tmp_path / 'k'}"]
    sums = set()
    for name in ("k", "k.hdr", "k.cfl"):
        ended = crnn("reconstruct", tmp_path / name, "--method", "sliding-window", "--json", "--force", "-o",
                     tmp_path / "o.nii")  # fmt: skip
        assert ended.code == 0, ended.err
        sums.add(json.loads(ended.out)["input"]["sha256"])
    assert sums == {hashlib.sha256((tmp_path / "k.cfl").read_bytes()).hexdigest()}
    assert crnn("batch", "reconstruct", tmp_path / "k", "--method", "sliding-window", "-o", tmp_path / "out").code == 0

"""Memory limits and reduced precision: their cost, and that the images stay the same."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli import notices
from crnn_cli.compute.memory import free_bytes
from crnn_cli.errors import UnreadableError, UsageError
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.reconstruction.measurement import SingleCoilSource
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor, reconstruct
from crnn_cli.reconstruction.settings import InferenceSettings
from crnn_cli.training.start import choose_precision
from tests.reconstruction.test_reconstruct import acquisition

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return CRNNMRI(CRNNMRIConfig(features=8, iterations=3)).eval()


def test_a_limit_includes_memory_already_held():
    everything = free_bytes(CPU)
    assert everything is None or everything > 2**20
    held = torch.ones(2**26, dtype=torch.uint8)
    assert free_bytes(CPU, 1) == 0
    with_it = free_bytes(CPU, 2**31)
    del held
    assert with_it < 2**31 - 2**26
    assert with_it < free_bytes(CPU, 2**31) + 2**20


def test_as_few_sequences_as_possible_are_spilled_to_disk():
    net, image = network(), torch.zeros(1, 6, 64, 64, dtype=torch.complex64)
    sequence = 6 * 64 * 64 * 8 * 4
    net.plan_memory(image, 10**12)
    assert net.on_disk == 0
    least = 64 * 64 * (4 * 2 * 8 * 4 + 160 * 6)
    disk = []
    for free in range(least, least + 6 * sequence, sequence // 4):
        net.plan_memory(image, free)
        disk.append(net.on_disk)
    assert disk == sorted(disk, reverse=True)
    assert set(disk) == set(range(CpuSchedule.SEQUENCES + 1))
    with pytest.raises(MemoryError, match="6 frames of 64 x 64"):
        net.plan_memory(image, least - 1)
    with torch.autocast("cpu", torch.bfloat16):
        net.plan_memory(image, least - 1)
    assert net.on_disk < CpuSchedule.SEQUENCES


def images(half=False, free=None, monkeypatch=None):
    net = network()
    if monkeypatch is not None:
        monkeypatch.setattr("crnn_cli.reconstruction.reconstruct.free_bytes", lambda device, limit: free)
    made = reconstruct(
        SingleCoilSource(acquisition()),
        NetworkReconstructor(net, InferenceSettings("view-shared", 1.0, 3, 0.0, half)),
        CPU,
    )
    return made, net


def test_images_are_the_same_with_states_on_disk(monkeypatch):
    plenty, net = images()
    assert net.on_disk == 0
    small = 12 * 10 * (4 * 2 * 8 * 4 + 160 * 4)
    scarce, net = images(free=small + 1, monkeypatch=monkeypatch)
    assert net.on_disk == CpuSchedule.SEQUENCES
    np.testing.assert_array_equal(plenty.images_ZTYX, scarce.images_ZTYX)
    with pytest.raises(MemoryError, match="are free"):
        images(free=small - 1, monkeypatch=monkeypatch)


def test_half_precision_moves_the_images_a_little_and_keeps_the_samples():
    exact, half = images()[0], images(half=True)[0]
    error = np.linalg.norm(half.images_ZTYX - exact.images_ZTYX) / np.linalg.norm(exact.images_ZTYX)
    assert 1e-6 < error < 0.02
    assert half.residual < 1e-5


def test_precision_and_memory_are_options(crnn, scan, bundle, tmp_path):
    asked = ("reconstruct", scan[2], "--model", bundle, "--json", "--hold-out-folds", 0)
    made = {}
    for name, more in {"a": (), "b": ("--memory", "4G"), "c": ("--precision", "bf16")}.items():
        ended = crnn(*asked, "-o", tmp_path / f"{name}.nii", *more)
        assert ended.code == 0, ended.err
        made[name] = nib.load(tmp_path / f"{name}.nii").get_fdata()
        assert json.loads(ended.out)["precision"] == ("bf16" if name == "c" else "fp32")
    np.testing.assert_array_equal(made["a"], made["b"])
    assert 0 < np.abs(made["c"] - made["a"]).max() < 0.05 * made["a"].max()
    ended = crnn(*asked, "-o", tmp_path / "d.nii", "--memory", "1K")
    assert (ended.code, "--memory" in ended.err, (tmp_path / "d.nii").exists()) == (5, True, False), ended.err
    for more in (("--memory", "much"), ("--memory", "0G"), ("--precision", "half")):
        ended = crnn(*asked, "-o", tmp_path / "e.nii", *more)
        assert (ended.code, more[0] in ended.err) == (UsageError.exit_code, True)
    ended = crnn("reconstruct", scan[2], "-o", tmp_path / "e.nii", "--method", "tv", "--memory", "4G")
    assert (ended.code, "--memory belongs" in ended.err) == (UsageError.exit_code, True)


@pytest.mark.parametrize(("allowed", "able", "asked", "used"), [
    (True, True, (), "bf16"), (True, False, (), "fp32"), (False, True, (), "fp32"), (None, True, (), "fp32"),
    (True, True, ("--precision", "fp32"), "fp32"),
])  # fmt: skip
def test_a_model_measured_in_bfloat16_is_used_so_where_the_device_has_it(
    crnn, scan, bundle, tmp_path, monkeypatch, allowed, able, asked, used
):
    monkeypatch.setattr("crnn_cli.compute.device.has_native_bfloat16", lambda device: able)
    model = shutil.copytree(bundle, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | ({} if allowed is None else {"bfloat16": allowed})))
    ended = crnn("reconstruct", scan[2], "--model", model, "--json", "-o", tmp_path / "a.nii", *asked)
    assert (ended.code, json.loads(ended.out)["precision"]) == (0, used)


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_bfloat16_without_instructions_is_said_to_be_slow(crnn, scan, bundle, tmp_path, monkeypatch, able, asked):
    monkeypatch.setattr("crnn_cli.compute.device.has_native_bfloat16", lambda device: able)
    chosen = ("--precision", asked, "--device", "cpu")
    ended = crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "a.nii", *chosen)
    assert ended.code == 0, ended.err
    facts = [fact["code"] for fact in json.loads((tmp_path / "a.json").read_text())["facts"]]
    assert ("bfloat16-emulated" in facts) == ("many times slower" in ended.err) == (asked == "bf16" and not able)
    with notices.recording() as record:
        assert choose_precision(asked, CPU) == asked
    assert bool(record.remarks) == (asked == "bf16" and not able)


def test_a_model_says_true_or_false_of_bfloat16(crnn, scan, bundle, tmp_path):
    model = shutil.copytree(bundle, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"bfloat16": "yes"}))
    ended = crnn("reconstruct", scan[2], "--model", model, "-o", tmp_path / "a.nii")
    assert (ended.code, "neither true nor false" in ended.err) == (UnreadableError.exit_code, True)

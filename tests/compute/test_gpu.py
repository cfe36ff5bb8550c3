"""GPU memory that runs out, and TF32; mostly with stand-ins on the CPU."""

import numpy as np
import pytest
import torch

from crnn_cli.compute.device import explain_out_of_memory, tf32_convolutions
from crnn_cli.compute.memory import free_bytes
from crnn_cli.errors import DeviceError
from crnn_cli.mri import consistency, multicoil
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.engines.gpu import ChunkedGpuSchedule
from crnn_cli.reconstruction.measurement import SingleCoilSource
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor, reconstruct
from crnn_cli.reconstruction.settings import InferenceSettings
from tests.compute.test_memory import network
from tests.mri.test_multicoil import problem as coil_problem
from tests.reconstruction.test_reconstruct import acquisition

CPU = torch.device("cpu")
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB."


class Small:
    """A network whose GPU has memory for so many frames at once: it fails in the middle of an iteration."""

    def __init__(self, fits, frames=4):
        self.fits, self.at_once, self.net = fits, frames, network()

    on_disk = 0

    def plan_memory(self, image, free):
        self.at_once = image.shape[1]

    def memory_required(self, image):
        return 0, 0

    def sequences_on_disk(self, image, free):
        return 0

    def reduce_memory(self, image):
        self.net.at_once = self.at_once = self.at_once // 2
        return self.at_once

    def __call__(self, image, consistency, iterations, progress):
        if self.at_once > self.fits:
            for _ in range(self.at_once - 1):
                progress()
            raise torch.cuda.OutOfMemoryError(FULL)
        return self.net(image, consistency, iterations, progress)


def run(net, told=None):
    warned = []
    method = NetworkReconstructor(net, InferenceSettings("view-shared", 1.0, 3, 0.0), warned.append)
    progress = (lambda done, total: None) if told is None else (lambda done, total: told.append(done))
    return reconstruct(SingleCoilSource(acquisition()), method, CPU, progress), warned


def test_a_slice_that_does_not_fit_is_computed_again_in_smaller_chunks_with_a_note():
    wanted, silence = run(network())
    assert not silence
    told = []
    found, warned = run(Small(fits=1), told)
    np.testing.assert_allclose(found.images_ZTYX, wanted.images_ZTYX, atol=1e-5 * np.abs(wanted.images_ZTYX).max())
    assert [line.rpartition(", ")[2] for line in warned] == ["2 frames at once", "1 frames at once"] * 2
    assert told == list(range(7))  # 3 steps of 2 slices, none told twice


def test_a_slice_that_never_fits_raises_with_a_remedy():
    for net in (Small(fits=0), lambda image, consistency, iterations, progress: Small(0)(0, 0, 0, progress)):
        with pytest.raises(DeviceError, match=r"Tried|out of memory.*precision='bf16'.*device='cpu'") as raised:
            run(net)
        assert raised.value.exit_code == 5
    with pytest.raises(ValueError, match="other"), explain_out_of_memory(CPU):
        raise ValueError("other")


def test_chunks_hold_as_many_frames_as_fit_and_are_halved_where_they_did_not():
    net, image = CRNNMRI(CRNNMRIConfig(features=8)), torch.empty(2, 12, 64, 32, dtype=torch.complex64, device="meta")
    net._feature_dtype = lambda image: torch.float32
    frame = 2 * 64 * 32 * 8 * 4
    least = 12 * (ChunkedGpuSchedule.SEQUENCES * frame + 160 * 2 * 64 * 32)
    for at_once, free in ((12, 10**12), (12, least + 48 * frame), (6, least + 48 * frame - 1), (1, 0)):
        net.plan_memory(image, free)
        assert net.at_once == at_once
    net.at_once = 0
    assert [net.reduce_memory(image) for _ in range(5)] == [6, 3, 2, 1, 0]
    for other, at_once in ((image, 1), (image[:1], 12), (image, 1)):
        net.plan_memory(other, 10**12)
        assert net.at_once == at_once
    assert net.on_disk == 0
    assert network().reduce_memory(torch.zeros(1, 4, 8, 8, dtype=torch.complex64)) == 0


@pytest.mark.parametrize(
    "more",
    [
        {}, {"tsm_channels": 2, "temporal_context": 1, "weight_sets": 2, "noise_aware": 1},
        {"tsm_channels": 2, "temporal_context": 1, "pixel_unshuffle": 2},
    ],
)  # fmt: skip
@pytest.mark.parametrize("frames", [2, 5])
def test_the_gpu_schedule_gives_the_images_of_the_cpu_schedule(more, frames):
    torch.manual_seed(0)
    net = CRNNMRI(CRNNMRIConfig(features=6, iterations=4, **more)).double()
    kspace, mask, maps, image = coil_problem(dtype=torch.complex128)
    kspace, mask, image = (values.repeat_interleave(2, -3)[..., :frames, :, :] for values in (kspace, mask, image))
    operator = multicoil.MultiCoilConsistency(kspace, mask, maps)
    with torch.no_grad():
        wanted = net(image, operator)
        for net.at_once in range(1, frames + 1):
            assert isinstance(net._schedule(image), ChunkedGpuSchedule)
            torch.testing.assert_close(net(image, operator), wanted)


def test_steps_after_convergence_add_nothing(monkeypatch):
    kspace, mask, maps, image = coil_problem(coils=1)
    maps = maps / maps.abs()
    asked = []

    def never(going):
        asked.append(bool(going.any()))
        return False

    for noise in (0.0, 0.5):
        operator = multicoil.MultiCoilConsistency(kspace, mask, maps, noise, steps=6)
        wanted = operator(image)
        with monkeypatch.context() as patched:
            patched.setattr(multicoil, "_all_converged", never)
            assert torch.equal(operator(image), wanted)
    assert not all(asked)


@pytest.mark.parametrize("two_axes", [False, True])
def test_lines_of_the_initial_image_are_solved_one_by_one_or_in_batches(monkeypatch, two_axes):
    kspace, mask, _, _ = coil_problem(two_axes, coils=1)
    operator = consistency.SingleCoilConsistency(kspace[:, 0], mask)
    wanted = operator.time_wiener()
    for lines in (2, 3, 7, 100):
        monkeypatch.setattr(consistency, "_lines_per_batch", lambda mask, lines=lines: lines)
        torch.testing.assert_close(operator.time_wiener(), wanted)
    monkeypatch.undo()
    empty = {"dtype": torch.float32, "device": "meta"}
    assert consistency._lines_per_batch(torch.empty(1, 30, 256, 1, **empty)) == 256
    assert 1 < consistency._lines_per_batch(torch.empty(1, 30, 256, 256, **empty)) < 256
    assert consistency._lines_per_batch(torch.empty(4, 300, 256, 256, **empty)) == 1
    assert consistency._lines_per_batch(mask) == 1


def test_training_discards_captured_graphs():
    net, forgotten = network(), []
    net.cuda_graph.release = lambda: forgotten.append(True)
    operator = consistency.SingleCoilConsistency(torch.zeros(1, 2, 4, 4, dtype=torch.complex64), torch.ones(1, 2, 4, 1))
    with torch.no_grad():
        net(operator.zero_filled(), operator)
    assert not forgotten
    net(operator.zero_filled(), operator)
    assert forgotten


def test_float32_is_exact_unless_rounding_is_asked_for_and_the_setting_is_put_back():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled
    for rounded in (False, True):
        with tf32_convolutions(rounded):
            assert torch.backends.cudnn.allow_tf32 is rounded
            assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled) == before[1:]
        assert (torch.backends.cudnn.allow_tf32, *before[1:]) == before


def test_memory_in_reserve_counts_as_free(monkeypatch):
    for name, value in (("mem_get_info", (100, 1000)), ("memory_reserved", 70), ("memory_allocated", 30)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda")) == 140


def test_tf32_is_refused_on_a_cpu_and_mps_everywhere(crnn, scan, bundle, tmp_path):
    asked = ("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "a.nii")
    ended = crnn(*asked, "--device", "cpu", "--precision", "tf32")
    assert (ended.code, "fp32 or bf16" in ended.err) == (2, True), ended.err
    ended = crnn(*asked, "--device", "mps")
    assert (ended.code, "double precision" in ended.err, "--device cpu" in ended.err) == (5, True, True), ended.err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("half", "most"), [(False, 1e-4), (True, 2e-2)])
def test_a_gpu_gives_the_images_of_a_cpu_in_parts_too(half, most):
    cuda, data = torch.device("cuda"), SingleCoilSource(acquisition())
    wanted = reconstruct(
        data, NetworkReconstructor(network(), InferenceSettings("time-wiener", 1.0, 3)), CPU
    ).images_ZTYX
    net = network().to(cuda)
    recipe = InferenceSettings("time-wiener", 1.0, 3, bfloat16=half)
    for at_once in (4, 2, 1):
        net.plan_memory = lambda image, free, n=at_once: setattr(net, "at_once", n)
        made = reconstruct(data, NetworkReconstructor(net, recipe), cuda).images_ZTYX
        assert np.linalg.norm(made - wanted) < most * np.linalg.norm(wanted)

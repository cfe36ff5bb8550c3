"""Where PyTorch's private operators are hidden, networks run without them, in both precisions."""

from functools import lru_cache
from types import SimpleNamespace

import pytest
import torch

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.engines import gpu, onednn
from crnn_cli.networks.slice_clstm import SliceCLSTM, SliceCLSTMConfig


@pytest.fixture
def hide(monkeypatch):
    """Function that hides oneDNN's operators from now on."""

    def hidden():
        monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
        monkeypatch.setattr(onednn, "_has_fused", lru_cache(onednn._has_fused.__wrapped__))

    return hidden


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.02)])
def test_networks_run_without_the_operators_and_give_the_same(hide, bf16, tolerance):
    torch.manual_seed(0)
    crnn = CRNNMRI(CRNNMRIConfig(features=5, iterations=2)).eval()
    clstm = SliceCLSTM(SliceCLSTMConfig(width=4, scales=2, hidden=4)).eval()
    image, stack = torch.randn(1, 5, 8, 6, dtype=torch.complex64), torch.randn(3, 12, 8)
    operator = SingleCoilConsistency(torch.randn_like(image), torch.eye(8)[:2].sum(0)[None, None, :, None])

    def run():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return crnn(image, operator), clstm.label(stack)

    made = run()
    hide()
    for ours, theirs in zip(made, run(), strict=True):
        assert (ours - theirs).norm() < tolerance * theirs.norm()
    for dtype in (torch.float32, torch.bfloat16):
        assert not onednn.Convolutions(dtype).fused


def test_training_runs_without_the_operators(hide):
    hide()
    crnn = CRNNMRI(CRNNMRIConfig(features=5, iterations=2))
    image = torch.randn(1, 4, 8, 6, dtype=torch.complex64)
    operator = SingleCoilConsistency(torch.randn_like(image), torch.eye(8)[:2].sum(0)[None, None, :, None])
    with torch.autocast("cpu", torch.bfloat16):
        crnn(image, operator).abs().sum().backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in crnn.parameters())


def test_a_gpu_without_the_operator_does_without(monkeypatch):
    monkeypatch.delattr(torch, "cudnn_convolution_add_relu")
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch, "rand", lambda shape, device: torch.zeros(shape))
    assert not gpu._has_fused.__wrapped__(torch.device("cuda"), torch.float32)

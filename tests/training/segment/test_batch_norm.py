"""Batch normalisation over several processes is that of one process with all items."""

import pytest
import torch
from torch import nn

from crnn_cli.training.segment.batch_norm import SharedBatchNorm2d, share_batch_norm
from tests.support.processes import run_two_processes

TWO = """
import sys
import torch
from crnn_cli.training.processes import Processes
from tests.training.segment.test_batch_norm import items, network, loss_of
processes = Processes(torch.device("cpu"))
made = processes.synchronise_batch_norm(network())
half = items()[2 * processes.rank : 2 * processes.rank + 2]
for _ in range(2):
    made.zero_grad()
    loss = loss_of(made, half)
    loss.backward()
    mean = processes.average(made, loss.item())
gradients = {name: weight.grad for name, weight in made.named_parameters()}
torch.save({"gradients": gradients, "state": made.state_dict(), "loss": mean}, f"{sys.argv[1]}/{processes.rank}.pt")
processes.wait()
processes.close()
"""


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)),
        nn.ReLU(),
    )


def items():
    generator = torch.Generator().manual_seed(1)
    return 3 + torch.randn(4, 2, 9, 8, generator=generator) * torch.arange(1, 5)[:, None, None, None]


def loss_of(made, batch):
    out = made(batch)
    return (out * torch.linspace(-1, 2, out.shape[-1])).square().mean()


def test_two_processes_have_the_gradients_and_statistics_of_one(tmp_path):
    alone = network()
    for _ in range(2):
        alone.zero_grad()
        loss = loss_of(alone, items())
        loss.backward()
    run_two_processes(TWO, tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
        for name, weight in alone.named_parameters():
            torch.testing.assert_close(found["gradients"][name], weight.grad, rtol=1e-4, atol=1e-5)
        assert list(found["state"]) == list(alone.state_dict())
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(found["state"][name], value, rtol=1e-5, atol=1e-6)


def test_evaluation_is_that_of_pytorch_and_other_layers_stay():
    made = network().eval()
    wanted = made(items())
    assert share_batch_norm(made) is made
    assert [type(module) for module in made.modules()].count(SharedBatchNorm2d) == 2
    torch.testing.assert_close(made(items()), wanted, rtol=0, atol=0)

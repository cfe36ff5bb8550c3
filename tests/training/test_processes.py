"""What training processes tell each other, where their items did not use the same weights."""

import torch
from torch import nn

from tests.support.processes import run_two_processes

TWO = """
import sys
import torch
from crnn_cli.training.processes import Processes
from tests.training.test_processes import loss_of, network
processes = Processes(torch.device("cpu"))
made = network()
loss = loss_of(made, processes.rank)
loss.backward()
mean = processes.average(made, loss.item())
gradients = {name: weight.grad for name, weight in made.named_parameters() if weight.grad is not None}
torch.save({"gradients": gradients, "loss": mean}, f"{sys.argv[1]}/{processes.rank}.pt")
processes.wait()
processes.close()
"""


def network():
    """Return three layers of different sizes: all items use the first, one the second, none the third."""
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 5), nn.Linear(3, 7)])


def loss_of(made, item):
    hidden = made[0](torch.arange(3.0) + item)
    return hidden.square().sum() if item else made[1](hidden).square().sum()


def test_weights_that_one_process_did_not_use_have_the_gradients_of_one_process_with_all_items(tmp_path):
    alone = network()
    loss = (loss_of(alone, 0) + loss_of(alone, 1)) / 2
    loss.backward()
    run_two_processes(TWO, tmp_path)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert abs(found["loss"] - loss.item()) < 1e-5 * loss.item()
        assert sorted(found["gradients"]) == [f"{layer}.{kind}" for layer in (0, 1) for kind in ("bias", "weight")]
        for name, gradient in found["gradients"].items():
            torch.testing.assert_close(gradient, alone.get_parameter(name).grad)

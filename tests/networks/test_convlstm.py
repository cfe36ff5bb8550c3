"""The ConvLSTM cell equals its formulas, and stacks of it have the sizes of the paper that introduced it."""

import pytest
import torch
from torch import nn

from crnn_cli.networks.convlstm import ConvLSTMCell
from tests.reference import convlstm_loops

SHAPE = (4, 5)  # rows, columns; a kernel of 5 reaches over them


def cell(features=2, hidden=3, input_kernel=3, hidden_kernel=3, seed=0):
    """Return a cell in double precision whose every weight, peepholes too, is random."""
    torch.manual_seed(seed)
    made = ConvLSTMCell(features, hidden, input_kernel, hidden_kernel).double()
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0, 0.7)
    return made


def named(made):
    """Return the weights of a cell by the names of the formula."""
    weights = {}
    for k, gate in enumerate("ifco"):
        part = slice(k * made.hidden, (k + 1) * made.hidden)
        weights[f"Wh{gate}"] = made.h2g.weight[part].detach().numpy()
        weights[f"b{gate}"] = made.h2g.bias[part].detach().numpy()
        if made.x2g is not None:
            weights[f"Wx{gate}"] = made.x2g.weight[part].detach().numpy()
    for gate in "ifo":
        weights[f"wc{gate}"] = getattr(made, f"peephole_{gate}").detach().numpy().ravel()
    return weights


def zeros(made, batch=2):
    return torch.zeros(batch, made.hidden, *SHAPE, dtype=torch.float64)


@pytest.mark.parametrize(("input_kernel", "hidden_kernel"), [(3, 3), (1, 5), (5, 1)])
def test_three_steps_equal_the_loops(input_kernel, hidden_kernel):
    made = cell(input_kernel=input_kernel, hidden_kernel=hidden_kernel)
    x_TBFYX = torch.randn(3, 2, 2, *SHAPE, dtype=torch.float64)
    state, expected = None, [(zeros(made)[0].numpy(), zeros(made)[0].numpy())] * 2
    for x_BFYX in x_TBFYX:
        with torch.no_grad():
            state = made(made.input_gates(x_BFYX), state)
        for b in range(2):
            expected[b] = convlstm_loops.step(named(made), x_BFYX[b].numpy(), *expected[b])
            for found, wanted in zip(state, expected[b], strict=True):
                torch.testing.assert_close(found[b], torch.from_numpy(wanted), rtol=0, atol=1e-12)


def test_without_input_it_runs_on_its_state_alone():
    made = cell(features=0)
    assert made.x2g is None
    state = tuple(torch.randn(1, 3, *SHAPE, dtype=torch.float64) for _ in range(2))
    expected = tuple(s[0].numpy() for s in state)
    for _ in range(3):
        with torch.no_grad():
            state = made(None, state)
        expected = convlstm_loops.step(named(made), None, *expected)
    for found, wanted in zip(state, expected, strict=True):
        torch.testing.assert_close(found[0], torch.from_numpy(wanted), rtol=0, atol=1e-12)


def test_no_state_means_zeros():
    made = cell()
    gates = made.input_gates(torch.randn(2, 2, *SHAPE, dtype=torch.float64))
    for found, wanted in zip(made(gates, None), made(gates, (zeros(made), zeros(made))), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_what_cannot_be_worked_on_is_refused():
    made = cell(features=0)
    with pytest.raises(ValueError, match="without input"):
        made.input_gates(torch.zeros(1, 2, *SHAPE))
    for any_cell in (made, cell()):
        with pytest.raises(ValueError, match="neither input nor state"):
            any_cell(None, None)


def test_every_parameter_gets_a_gradient():
    made = cell()
    state = None
    for x_BFYX in torch.randn(3, 1, 2, *SHAPE, dtype=torch.float64):
        state = made(made.input_gates(x_BFYX), state)
    state[0].square().sum().backward()
    for name, p in made.named_parameters():
        assert (p.grad != 0).all(), name


def test_input_gates_of_many_steps_may_be_made_at_once():
    made = cell()
    x_BFYX = torch.randn(5, 2, *SHAPE, dtype=torch.float64)
    one_by_one = torch.cat([made.input_gates(x[None]) for x in x_BFYX])
    torch.testing.assert_close(made.input_gates(x_BFYX), one_by_one)


@pytest.mark.parametrize(
    ("widths", "input_kernel", "hidden_kernel", "count"),
    [
        ((256,), 5, 5, 13_524_496),
        ((128, 128), 5, 5, 10_042_896),
        ((128, 64, 64), 5, 5, 7_585_296),
        ((128, 128), 9, 1, 11_550_224),
        ((128, 64, 64), 9, 1, 8_830_480),
    ],
)
def test_sizes_of_the_moving_digits_networks(widths, input_kernel, hidden_kernel, count):
    """Encoder and forecaster of Shi et al. for 16 channels of 4 x 4 patches; the first forecaster layer has no input.

    All hidden states of the forecaster together go through one 1 x 1 convolution.
    """
    with torch.device("meta"):
        below = (16, *widths[:-1])
        encoder = [ConvLSTMCell(f, h, input_kernel, hidden_kernel) for f, h in zip(below, widths, strict=True)]
        below = (0, *widths[:-1])
        forecaster = [ConvLSTMCell(f, h, input_kernel, hidden_kernel) for f, h in zip(below, widths, strict=True)]
        whole = nn.ModuleList([*encoder, *forecaster, nn.Conv2d(sum(widths), 16, 1)])
    assert sum(p.numel() for p in whole.parameters()) == count

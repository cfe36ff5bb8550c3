"""The ConvGRU cell equals its formulas."""

import pytest
import torch

from crnn_cli.networks.convgru import ConvGRUCell
from tests.reference import convgru_loops

SHAPE = (4, 5)  # rows, columns; a kernel of 5 reaches over them


def cell(features=2, hidden=3, input_kernel=3, hidden_kernel=3):
    """Return a cell in double precision whose every weight is random."""
    torch.manual_seed(0)
    made = ConvGRUCell(features, hidden, input_kernel, hidden_kernel).double()
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0, 0.7)
    return made


def named(made):
    """Return the weights of a cell by the names of the formula."""
    weights = {}
    for k, gate in enumerate("zrn"):
        part = slice(k * made.hidden, (k + 1) * made.hidden)
        weights[f"Wh{gate}"] = made.h2g.weight[part].detach().numpy()
        weights[f"b{gate}"] = made.h2g.bias[part].detach().numpy()
        if made.x2g is not None:
            weights[f"Wx{gate}"] = made.x2g.weight[part].detach().numpy()
    return weights


@pytest.mark.parametrize(("input_kernel", "hidden_kernel"), [(3, 3), (1, 5)])
def test_three_steps_equal_the_loops(input_kernel, hidden_kernel):
    made = cell(input_kernel=input_kernel, hidden_kernel=hidden_kernel)
    state, expected = None, torch.zeros(3, *SHAPE, dtype=torch.float64).numpy()
    for x_BFYX in torch.randn(3, 1, 2, *SHAPE, dtype=torch.float64):
        with torch.no_grad():
            state = made(made.input_gates(x_BFYX), state)
        expected = convgru_loops.step(named(made), x_BFYX[0].numpy(), expected)
        torch.testing.assert_close(state[0][0], torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_without_input_it_runs_on_its_state_alone():
    made = cell(features=0)
    state = (torch.randn(1, 3, *SHAPE, dtype=torch.float64),)
    expected = state[0][0].numpy()
    for _ in range(3):
        with torch.no_grad():
            state = made(None, state)
        expected = convgru_loops.step(named(made), None, expected)
    torch.testing.assert_close(state[0][0], torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_what_cannot_be_worked_on_is_refused():
    made = cell(features=0)
    with pytest.raises(ValueError, match="without input"):
        made.input_gates(torch.zeros(1, 2, *SHAPE))
    for any_cell in (made, cell()):
        with pytest.raises(ValueError, match="neither input nor state"):
            any_cell(None, None)


def test_it_has_three_quarters_of_the_weights_of_a_convlstm():
    from crnn_cli.networks.convlstm import ConvLSTMCell

    gru, lstm = ConvGRUCell(5, 7), ConvLSTMCell(5, 7)
    peepholes = 3 * 7
    assert sum(p.numel() for p in gru.parameters()) * 4 == (sum(p.numel() for p in lstm.parameters()) - peepholes) * 3

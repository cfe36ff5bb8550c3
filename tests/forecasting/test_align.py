"""What moved is brought back: shift, turn and brightness are found, and nothing is moved where that does not help."""

import pytest
import torch

from crnn_cli.forecasting.align import Drift, Movement, movement_between
from tests.support.beats import beating

FRAME = torch.from_numpy(beating(frames=1, size=(60, 50), noise=0)[..., 0]) + 20 * torch.exp(
    -(torch.linspace(-3, 2, 60)[:, None] ** 2) - torch.linspace(-1, 4, 50) ** 2
)
MOVES = [Movement(y=0.7), Movement(x=-1.3), Movement(turn=0.03), Movement(y=-0.4, x=0.3, turn=-0.02, gain=1.1)]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_movement_is_found(move, noise):
    torch.manual_seed(0)
    newest = move.applied_to(FRAME[None])[0] + noise * torch.randn(60, 50)
    found = movement_between(FRAME + noise * torch.randn(60, 50), newest)
    for name, near in (("y", 0.1), ("x", 0.1), ("turn", 0.005), ("gain", 0.01)):
        assert getattr(found, name) == pytest.approx(getattr(move, name), abs=near)


def test_a_frame_in_its_place_stays():
    found = movement_between(FRAME, FRAME)
    assert max(abs(found.y), abs(found.x), abs(found.turn), abs(found.gain - 1)) < 1e-6
    torch.testing.assert_close(found.applied_to(FRAME[None])[0], FRAME, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FRAME, torch.zeros(60, 50)),
        (torch.zeros(60, 50), FRAME),
        (FRAME[:5, :5], FRAME[:5, :5] + 1),
        (FRAME, torch.roll(FRAME, 25, 0)),
    ],
)
def test_what_is_no_small_movement_moves_nothing(one, other):
    assert movement_between(one, other) == Movement()


def test_movements_go_on_as_they_did_but_not_faster_than_a_body():
    slow, fast, short = Drift(), Drift(), Drift()
    for t in range(6):
        slow.add(Movement(y=0.1 * t, turn=0.01 * t))
        fast.add(Movement(x=2.0 * t))
    short.add(Movement(y=5.0))
    ahead = slow.ahead(Movement(y=0.5, turn=0.05), 3)
    assert (ahead.y, ahead.turn) == (pytest.approx(0.8), pytest.approx(0.08))
    assert fast.ahead(Movement(), 1).x == pytest.approx(0.3)
    assert short.ahead(Movement(y=1.0), 4) == Movement(y=1.0)
    slow.forget()
    assert slow.ahead(Movement(y=1.0), 4) == Movement(y=1.0)

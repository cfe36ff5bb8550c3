"""Sampling patterns: budget, centre, density, reproducibility."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UsageError
from crnn_cli.mri.sampling import PATTERNS, default_centre_lines, draw_pattern, true_acceleration, variable_density


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("acceleration", "lines"), [(6, 42), (9, 28), (11, 23)])
def test_published_demo_line_counts(acceleration, lines):
    mask = variable_density(30, 256, acceleration, generator())
    assert (mask.sum(1) == lines).all()
    assert mask[:, 124:132].all()


def test_variable_density_follows_the_published_density():
    frames, n, acceleration = 4000, 64, 8
    mask = variable_density(frames, n, acceleration, generator(), centre_lines=0)
    index = torch.arange(n)
    pdf = torch.exp(-(0.5 / (n / 10) ** 2) * (index - n / 2) ** 2) + 1 / (2 * acceleration)
    far = (index - n / 2).abs() > 24
    near = (index - n / 2).abs() < 2
    # without replacement flattens the density: order and rough ratio are what must hold
    assert mask[:, near].float().mean() > 4 * mask[:, far].float().mean()
    assert torch.corrcoef(torch.stack([mask.float().mean(0), pdf]))[0, 1] > 0.98


@pytest.mark.parametrize(("measured", "centre"), [(42, 8), (12, 8), (11, 7), (3, 2), (2, 1), (1, 1)])
def test_centre_lines_are_eight_or_two_thirds(measured, centre):
    assert default_centre_lines(measured) == centre
    mask = variable_density(200, 8 * measured, 8, generator())
    assert int(mask.all(0).sum()) == (centre if measured > centre else measured)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(PATTERNS)),
    frames=st.integers(1, 12),
    lines=st.integers(8, 300),
    acceleration=st.floats(1, 8),
    seed=st.integers(0, 9),
)
def test_every_pattern_keeps_its_budget_and_centre(name, frames, lines, acceleration, seed):
    mask = draw_pattern(name, frames, lines, acceleration, generator(seed))
    budget = int(lines / acceleration)
    centre = default_centre_lines(budget)
    first = lines // 2 - centre // 2
    assert mask.shape == (frames, lines)
    assert (mask.sum(1) <= budget).all()
    assert (mask.sum(1) >= 1).all()
    assert mask[:, first : first + centre].all()
    assert true_acceleration(mask) >= acceleration * 0.999


def test_same_seed_same_pattern_other_seed_other_pattern():
    first, again = (variable_density(9, 100, 8, generator(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, variable_density(9, 100, 8, generator(5)))


def test_sheared_grid_visits_every_line_over_its_period():
    mask = draw_pattern("sheared-grid", 40, 96, 6, generator())
    assert mask.any(0).all()
    assert not torch.equal(mask[0], mask[1])


@pytest.mark.parametrize(("step", "jump"), [(5, 3), (6, 5), (8, 5), (10, 7)])
def test_sheared_grid_jumps_by_the_golden_ratio_from_any_start(step, jump):
    starts = set()
    for seed in range(9):
        mask = draw_pattern("sheared-grid", 7, 40 * step, step, generator(seed), centre_lines=0)
        first = mask.byte().argmax(1)
        assert (first.diff() % step == jump).all()
        assert all(mask[frame, first[frame] :: step].all() for frame in range(7))
        starts.add(int(first[0]))
    assert len(starts) > 1


def test_acceleration_of_one_measures_everything():
    for name in PATTERNS:
        assert draw_pattern(name, 3, 17, 1, generator()).all()


@pytest.mark.parametrize(
    ("name", "acceleration", "centre"),
    [
        ("spiral", 4, None), ("variable-density", 0.5, None), ("variable-density", 65, None), ("sheared-grid", 8, 9),
        ("sheared-grid", 8, -1),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(name, acceleration, centre):
    with pytest.raises(UsageError):
        draw_pattern(name, 4, 64, acceleration, generator(), centre)

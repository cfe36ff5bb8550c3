"""Inverse density weights: the odds of being missed, and 1 where all frames measured the same."""

import pytest
import torch

from crnn_cli.mri.sampling import sheared_grid, variable_density
from crnn_cli.mri.sampling_density import MOST, inverse_density_weights


def test_weights_are_the_odds_of_being_missing():
    """Half of the lines on one side, a tenth on the other: odds of 1 and 9, far from where they meet."""
    draw = torch.rand(1, 4000, 80, 1, generator=torch.Generator().manual_seed(0))
    weights = inverse_density_weights(draw < torch.where(torch.arange(80) < 40, 0.5, 0.1)[:, None])
    assert weights.shape == (1, 1, 80, 1)
    torch.testing.assert_close(weights[0, 0, :25, 0], torch.ones(25), atol=0.1, rtol=0)
    torch.testing.assert_close(weights[0, 0, 55:, 0], torch.full((25,), 9.0), atol=0.8, rtol=0)


def test_outer_lines_count_most_and_those_that_all_frames_have_nothing():
    mask = variable_density(30, 100, 8, torch.Generator().manual_seed(0))[None, :, :, None]
    weights = inverse_density_weights(mask)[0, 0, :, 0]
    assert not weights[mask.all(1)[0, :, 0]].any()
    others = weights[~mask.all(1)[0, :, 0]]
    assert (others.min(), others.max()) == (1, MOST)
    assert weights[70:].diff().min() >= 0


def test_single_samples_are_weighed_along_both_axes():
    share = torch.where(torch.arange(60) < 30, 0.6, 0.3) * torch.where(torch.arange(50) < 25, 1.0, 0.5)[:, None]
    draw = torch.rand(1, 3000, 50, 60, generator=torch.Generator().manual_seed(0))
    weights = inverse_density_weights(draw < share)[0, 0]
    odds = (1 - share) / share
    for y, x in ((5, 5), (5, 50), (45, 5), (45, 50)):
        assert float(weights[y, x]) == pytest.approx(float(odds[y, x] / odds.min()), rel=0.1)


def test_few_samples_at_a_place_say_little_so_that_neighbours_along_both_axes_count():
    weights = inverse_density_weights(torch.rand(1, 4, 60, 60, generator=torch.Generator().manual_seed(0)) < 0.3)
    assert 1.2 < weights.max() / weights[weights > 0].min() < 5


@pytest.mark.parametrize("lines", [5, 64])
def test_nothing_is_rare_where_all_frames_measured_the_same(lines):
    mask = (torch.arange(lines) % 3 == 0).expand(1, 4, lines)[..., None]
    assert torch.equal(inverse_density_weights(mask), torch.ones(1, 1, lines, 1))


def test_nothing_is_rare_in_a_grid_that_moves_on():
    mask = sheared_grid(16, 64, 4, torch.Generator().manual_seed(0), 0)[None, :, :, None]
    torch.testing.assert_close(inverse_density_weights(mask), torch.ones(1, 1, 64, 1), atol=0.1, rtol=0)

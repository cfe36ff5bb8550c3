"""The expected PSNR follows its law, and says where the law was not fitted."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.assessment.expected_psnr import WIDER, ErrorBudget, error_budget, expected_quality
from crnn_cli.assessment.held_out import ResidualSums
from crnn_cli.assessment.reliability import SliceReliability
from crnn_cli.bundles.psnr_law import PSNRLaw

LAW = PSNRLaw(-1.0, 0.3, (-2.0, 2.5), (3, 14), (-40, -10), 50)
BUDGET = ErrorBudget(missed=2.0, noise=1.0, energy=400.0, acceleration=8.0)


def a_slice(missed, energy, noise=0.0, frames=4):
    ones = torch.ones(frames, dtype=torch.float64)
    energy_T = energy / frames * ones
    return SliceReliability(
        ResidualSums(ones, ones, ones), None, "", None, ones, energy_T, np.zeros((1, 1)), None, 0.0, missed, noise
    )


def test_the_psnr_is_contrast_less_what_the_law_says():
    found = expected_quality(LAW, BUDGET, 14.0)
    missed = 10 * math.log10(2.3 / 400)
    assert found.psnr == pytest.approx(14 - (-1 + missed))
    assert (found.low, found.high) == pytest.approx((found.psnr - 2, found.psnr + 2.5))
    assert found.outside == ()
    assert found.counted == found.psnr
    facts = found.summary()
    assert facts["psnr_db"] == round(found.psnr, 1)
    assert 10 * math.log10(facts["nmse"]) == pytest.approx(14 - found.psnr, abs=0.01)
    assert facts["low_nmse"] < facts["nmse"] < facts["high_nmse"]


def test_it_does_not_depend_on_the_unit_of_the_images():
    tiny = replace(BUDGET, missed=2e-12, noise=1e-12, energy=400e-12)
    assert expected_quality(LAW, tiny, 14.0).psnr == pytest.approx(expected_quality(LAW, BUDGET, 14.0).psnr)


@pytest.mark.parametrize("change", [{"acceleration": 2.5}, {"acceleration": 16.0}, {"missed": 300.0}, {"missed": 1e-9}])
def test_outside_the_fit_the_interval_is_wider_and_its_least_counts(change):
    found = expected_quality(LAW, replace(BUDGET, noise=0.0, **change), 14.0)
    assert len(found.outside) == 1
    assert (found.psnr - found.low, found.high - found.psnr) == pytest.approx((2 * WIDER, 2.5 * WIDER))
    assert found.counted == found.low
    assert found.summary()["outside"] == list(found.outside)


def test_the_budget_is_that_of_all_slices_in_which_lines_were_held_out():
    slices = [a_slice(1.0, 100.0, 0.5), a_slice(3.0, 300.0, 0.25), a_slice(None, 1e6, 9.0)]
    assert error_budget(slices, 6.0) == ErrorBudget(4.0, 0.75, 400.0, 6.0)
    assert error_budget([a_slice(None, 1.0)], 6.0) is None
    assert error_budget([a_slice(0.0, 1.0)], 6.0) is None
    assert error_budget([], 6.0) is None

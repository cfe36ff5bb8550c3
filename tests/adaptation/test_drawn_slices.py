"""A network is tuned on drawn slices that are hidden from it, and judged by slices that it has never seen."""

import numpy as np
import pytest
import torch

from crnn_cli.adaptation import drawn_examples, drawn_slices
from crnn_cli.adaptation.drawn_examples import Example, draw_example, example_of
from crnn_cli.adaptation.drawn_slices import TuneSettings, tune
from crnn_cli.adaptation.drawn_trials import Trial, better_tuned, gains
from crnn_cli.segmentation.drawn.stack import DrawnStack
from tests.support.drawn import image_of, small_network, truth

CPU = torch.device("cpu")


def stack_of(slices=(1, 3, 5, 7)):
    labels = np.moveaxis(truth(), 2, 0)
    image = np.moveaxis(image_of(truth()).array, 2, 0)
    known = np.isin(np.arange(9), slices)
    numbers = np.where(labels == 2, 1, np.where(labels == 5, 2, 0)) * known[:, None, None]
    return DrawnStack(np.ascontiguousarray(image), numbers.astype(np.uint8), known, (6.0, 1.2, 1.2))


def weights_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def judge(monkeypatch):
    """Return a function that lets one copy, after every step, find these Dice in place of what it labels."""
    monkeypatch.setattr(drawn_slices, "EVERY", 1)
    monkeypatch.setattr(drawn_slices, "MOST_COPIES", 1)

    def judge(*dice):
        left = iter(dice)
        monkeypatch.setattr(drawn_slices, "_judged", lambda copies: [{1: next(left)} for _ in copies])

    return judge


def test_hidden_slices_are_asked_for_and_not_told():
    stack, visible = stack_of(), np.isin(np.arange(9), [1, 7])
    example = example_of(stack, 2, visible)
    changed = stack.drawn_SYX.copy()
    changed[[3, 5]] = 0
    other = example_of(DrawnStack(stack.image_SYX, changed, stack.known_S, stack.spacing), 2, visible)
    for name in ("image_SYX", "distance_SYX", "others_SYX", "known_S"):
        torch.testing.assert_close(getattr(example.given, name), getattr(other.given, name))
    assert example.given.known_S.tolist() == [True, *[False] * 5, True]
    torch.testing.assert_close(example.weight_S, torch.tensor([0.1, 0, 1, 0, 1, 0, 0.1]))
    assert example.target_SYX[[2, 4]].sum() > 100
    assert other.target_SYX[[2, 4]].sum() == 0


def test_an_example_reaches_to_the_visible_slices_around_those_hidden():
    stack = stack_of((1, 3, 4, 6, 7))
    for visible, known in (
        ([1, 3, 6, 7], [True, False, False, True]),
        ([3, 4, 6, 7], [False, False, True]),
        ([3, 7], [False, False, True, False, False, False, True]),
    ):
        example = example_of(stack, 2, np.isin(np.arange(9), visible))
        assert example.given.known_S.tolist() == known


@pytest.mark.parametrize(("inside", "of", "expected"), [
    ((40, 80), 160, (28, 92)), ((2, 34), 160, (2, 34)), ((0, 40), 160, (0, 64)), ((130, 170), 175, (111, 175)),
    ((5, 45), 50, (0, 50)),
])  # fmt: skip
def test_parts_have_few_different_sizes_and_hold_what_is_inside(inside, of, expected):
    row = torch.zeros(of, dtype=torch.bool)
    row[inside[0] : inside[1]] = True
    assert drawn_examples._span(row) == slice(*expected)


def test_examples_are_cut_to_the_structure_and_to_a_few_slices(monkeypatch):
    monkeypatch.setattr(drawn_examples, "_GRAIN", 1)
    generator = np.random.default_rng(0)
    long = DrawnStack(*(np.repeat(each, 3, axis=0) for each in (stack_of().image_SYX, stack_of().drawn_SYX)),
                      np.isin(np.arange(27), [4, 13, 22]), (2.0, 1.2, 1.2))  # fmt: skip
    long = DrawnStack(long.image_SYX, long.drawn_SYX * long.known_S[:, None, None], long.known_S, long.spacing)
    for _ in range(12):
        example = draw_example([long], generator)
        assert example.given.image_SYX.shape == example.target_SYX.shape
        assert len(example.weight_S) == len(example.given.known_S) <= 8
        grid = example.given.grid.size
        assert example.given.image_SYX[0].numel() < 0.8 * grid[0] * grid[1]
        lost = example.target_SYX.sum() if (example.weight_S > 0).all() else 1
        assert lost > 0


def test_a_structure_is_asked_for_where_some_slice_shows_it():
    generator = np.random.default_rng(0)
    stack = stack_of()
    only = np.where((stack.drawn_SYX == 1) & (np.arange(9) != 3)[:, None, None], 0, stack.drawn_SYX).astype(np.uint8)
    for _ in range(20):
        example = draw_example([DrawnStack(stack.image_SYX, only, stack.known_S, stack.spacing)], generator)
        assert (example.given.distance_SYX > 0).any(), "the structure is in no visible slice"
        assert (example.weight_S == 1).any() or int(example.given.known_S.sum()) == 4


def test_the_same_seed_and_steps_repeat_and_the_network_handed_in_stays():
    network = small_network()
    before = weights_of(network)
    first, second = (tune(network, [stack_of((2, 4, 6))], TuneSettings(None, 2, 5), CPU) for _ in range(2))
    assert same(weights_of(network), before)
    assert same(weights_of(first.network), weights_of(second.network))
    assert (first.steps, first.before, first.after) == (2, second.before, second.after)


@pytest.mark.parametrize(("after", "used"), [(0.504, False), (0.5, False), (0.3, False), (0.51, True)])
def test_it_is_used_only_if_slices_left_out_get_better(judge, after, used):
    judge(0.5, after)
    network = small_network()
    result = tune(network, [stack_of()], TuneSettings(None, 1, 0), CPU)
    assert result.used is used
    assert same(weights_of(result.network), weights_of(network)) is not used
    assert result.before == 0.5


def test_the_best_weights_are_kept_when_it_gets_worse_or_is_interrupted(judge):
    told = []
    judge(0.5, 0.6)
    one = tune(small_network(), [stack_of()], TuneSettings(None, 1, 0), CPU)
    judge(0.5, 0.6, 0.55, 0.4)
    asked = tune(
        small_network(), [stack_of()], TuneSettings(None, 9, 0), CPU, lambda done, total: told.append(done),
        lambda: told[-1] == 3,
    )  # fmt: skip
    assert (asked.steps, asked.best_step, asked.after) == (3, 1, 0.6)
    assert asked.interrupted
    assert same(weights_of(asked.network), weights_of(one.network))


def test_each_structure_is_tuned_if_it_gains_itself():
    trials = [Trial(1, 0.5, 0.6), Trial(2, 0.7, 0.71), Trial(1, 0.5, 0.45), Trial(2, 0.7, 0.69), Trial(3, 0.2, 0.2049)]
    assert better_tuned([1, 2, 3, 4], trials) == {1}
    assert better_tuned([1, 2], []) == {1, 2}, "nothing speaks against it"
    assert gains(trials)[1] == (0.5, pytest.approx(0.525))


def test_what_copies_made_of_each_structure_is_told():
    result = tune(small_network(), [stack_of()], TuneSettings(None, 1, 0), CPU)
    assert sorted({trial.number for trial in result.trials}) == [1, 2]
    assert len(result.trials) == 8
    by_slice = [(a.before + b.before) / 2 for a, b in zip(result.trials[::2], result.trials[1::2], strict=True)]
    assert np.mean(by_slice) == pytest.approx(result.before)


def test_it_ends_where_nothing_gets_better(judge):
    judge(*[0.5] * 9)  # and a tenth is not asked for
    result = tune(small_network(), [stack_of()], TuneSettings(None, 99, 0), CPU)
    assert result.steps == 8
    assert not result.used


def test_each_copy_never_learns_from_the_slice_that_judges_it():
    learners = drawn_slices._copies(small_network(), [stack_of()], TuneSettings(None, 1, 0), CPU)
    assert len(learners) == 4
    left_out = []
    for learner in learners:
        shown = learner.stacks[0].known_S
        assert int(shown.sum()) == 3
        left_out += np.flatnonzero(stack_of().known_S & ~shown).tolist()
        assert all(isinstance(each, Example) for each in learner.left_out.examples.values())
        assert len(learner.left_out.examples) == 2
    assert left_out == [3, 5, 1, 7], "slices between others come first"


def test_two_slices_judge_nothing_and_one_is_refused():
    result = tune(small_network(), [stack_of((2, 6))], TuneSettings(None, 1, 0), CPU)
    assert (result.before, result.after, result.left_out, result.used) == (None, None, 0, True)
    with pytest.raises(ValueError, match="two drawn slices"):
        tune(small_network(), [stack_of((2,))], TuneSettings(None, 1, 0), CPU)


def test_learning_lowers_the_loss():
    stack, network = stack_of(), small_network()
    example = example_of(stack, 2, np.isin(np.arange(9), [1, 5]))
    before = float(example.loss(network, CPU).detach())
    learner = drawn_slices._Learner(network, [stack], None, CPU, (0, 0))
    for _ in range(12):
        learner.step()
    assert float(example.loss(learner.network, CPU).detach()) < before

"""Partial labels: what is not labelled is neither learned nor unlearned."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UnsupportedDataError
from tests.training.datasets.test_sets import arrays, pair_of

pytest.importorskip("monai", reason="training needs the extra train")

from dataclasses import replace

from crnn_cli.training.segment.items import load_case
from crnn_cli.training.segment.losses import LOSSES, supervised_loss
from crnn_cli.training.segment.partial import merge_unlabelled, model_labels, structure_values
from tests.training.segment.test_items import RECIPE
from tests.training.segment.test_job import CPU, TASK, job
from tests.training.segment.test_losses import problem

NAMES = ("right ventricle", "myocardium", "left ventricle")


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 5), st.data())
def test_probabilities_of_what_is_unlabelled_are_added_to_the_background(classes, data):
    logits, _ = problem(batch=1, classes=classes, seed=data.draw(st.integers(0, 99)))
    labelled = torch.tensor([[True, *(data.draw(st.booleans()) for _ in range(classes - 1))]])
    before, after = (torch.softmax(x, dim=2) for x in (logits, merge_unlabelled(logits, labelled)))
    kept = labelled[0].clone()
    kept[0] = False
    torch.testing.assert_close(after[:, :, kept], before[:, :, kept])
    assert not after[:, :, ~labelled[0]].any()
    torch.testing.assert_close(after.sum(dim=2), torch.ones_like(after[:, :, 0]))


@pytest.mark.parametrize("name", LOSSES)
def test_which_of_the_unlabelled_classes_a_voxel_is_does_not_matter(name):
    """Logits that move probability between the background and an unlabelled structure have the same loss."""
    logits, labels = problem(batch=1, classes=3)
    labelled = torch.tensor([[True, False, True]])
    target = torch.stack([labels[:, :, 0] + labels[:, :, 1], torch.zeros_like(labels[:, :, 0]), labels[:, :, 2]], dim=2)
    p = torch.softmax(logits, dim=2)
    share = torch.rand(p[:, :, 0].shape, dtype=p.dtype) * 0.8 + 0.1
    rest = p[:, :, 0] + p[:, :, 1]
    others = torch.stack([share * rest, (1 - share) * rest, p[:, :, 2]], dim=2).log()
    first, second = (LOSSES[name](merge_unlabelled(x, labelled), target) for x in (logits, others))
    torch.testing.assert_close(first, second)
    assert not torch.isclose(LOSSES[name](logits, target), LOSSES[name](others, target)) or name in ("jaccard", "dice")


def test_gradients_are_finite_and_spare_the_division_of_the_rest():
    logits, labels = problem(batch=1, classes=3)
    logits = logits.float().requires_grad_()
    labels = labels.float()
    labels[:, :, 0] += labels[:, :, 1]
    labels[:, :, 1] = 0
    labelled = torch.tensor([[True, False, True]])
    supervised_loss({"jaccard": 1.0, "ce": 0.5}, [merge_unlabelled(logits, labelled)] * 2, labels).backward()
    gradient = logits.grad
    assert gradient.isfinite().all()
    assert gradient[:, :, 2].abs().sum() > 0
    p = torch.softmax(logits.detach(), dim=2)  # both parts of the rest are drawn the same way, by their share
    torch.testing.assert_close(gradient[:, :, 0] * p[:, :, 1], gradient[:, :, 1] * p[:, :, 0], atol=1e-7, rtol=1e-3)


def test_whole_labels_are_left_as_they_are():
    logits, _ = problem()
    assert merge_unlabelled(logits, torch.ones(2, 3, dtype=torch.bool)) is logits


@given(st.permutations(NAMES), st.integers(1, 3))
def test_values_of_a_file_become_those_of_the_model(order, count):
    values = structure_values(order[:count], NAMES)
    assert [NAMES[value - 1] for value in values] == list(order[:count])
    file = np.arange(count + 1, dtype=np.uint8)
    assert model_labels(file, values).tolist() == [0, *values]


def test_a_structure_that_the_model_lacks_is_refused():
    with pytest.raises(UnsupportedDataError, match=r"'aorta'.*right ventricle, myocardium, left ventricle"):
        structure_values(["aorta"], NAMES)


def test_a_partly_labelled_volume_is_a_case_of_its_structures(tmp_path):
    image, labels = arrays()
    pair = replace(pair_of(tmp_path, image, np.minimum(labels, 1)), structures=("b",))
    whole, partly = load_case(replace(pair, structures=()), None, RECIPE), load_case(pair, None, RECIPE, ("a", "b"))
    np.testing.assert_array_equal(partly.labels_SYX == 2, whole.labels_SYX == 1)
    assert partly.values == (2,)
    assert whole.values is None


def test_the_job_learns_only_what_is_labelled():
    """A batch in which structure 1 is not labelled: nothing tells the two parts of the rest apart."""
    own = job(cases=1)
    own.items.cases = [replace(own.items.cases[0], values=(2,))]
    network = own.network(0, None).eval()
    image, labels, labelled = own.item(0, 0)
    assert labelled.tolist() == [True, False, True]
    (loss,) = own.losses(0, network, [(image, labels, labelled)], CPU)
    outputs = [merge_unlabelled(output, labelled[None]) for output in network(image[None])]
    weights = TASK.settings.loss.weights()
    torch.testing.assert_close(loss, supervised_loss(weights, outputs, labels[None]))
    assert not torch.isclose(loss, supervised_loss(weights, network(image[None]), labels[None]))

"""Sets of weights without effect are found, and a training says so."""

import logging

import pytest
import torch

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.live_crnn import LiveCRNN, LiveCRNNConfig
from crnn_cli.training.reconstruct.idle import changes_by_set, doubt_idle_sets


def crnn_mri():
    network = CRNNMRI(CRNNMRIConfig(features=4, iterations=3, weight_sets=3))
    return network, [*(layers.conv4_x for layers in network.earlier), network.conv4_x]


def live():
    network = LiveCRNN(LiveCRNNConfig(4, 3, 3, 3))
    for layers in network.sets:
        torch.nn.init.normal_(layers.output.weight)
    return network, [layers.output for layers in network.sets]


@pytest.mark.parametrize("make", [crnn_mri, live])
@pytest.mark.parametrize("idle", [0, 1, 2])
def test_the_set_that_adds_nothing_is_found_and_weights_stay(make, idle):
    torch.manual_seed(0)
    network, outputs = make()
    with torch.no_grad():
        for weight in outputs[idle].parameters():
            weight.zero_()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    image = torch.randn(1, 4, 12, 10, dtype=torch.complex64)
    mask = (torch.rand(1, 4, 12, 1) < 0.4).float()
    changes = changes_by_set(network, image, SingleCoilConsistency(image * mask, mask))
    assert changes[idle] == 0
    assert all(change > 1e-3 for number, change in enumerate(changes) if number != idle)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [([0.1, 0.02], None), ([0.0], None), ([0.1, 0.0009], "0.1%: 2;"), ([0.0, 0.1, 1e-5], "0.1%: 1, 3;")],
)
def test_idle_sets_are_a_doubt_unless_there_is_one_set_alone(changes, said, caplog):
    caplog.set_level(logging.WARNING, "crnn")
    doubt_idle_sets(changes)
    assert (said is None) == (caplog.text == "")
    assert said is None or said in caplog.text

"""The ways over the slices compute the same, and the fast one follows the weights."""

import dataclasses

import pytest
import torch

from crnn_cli.bundles.store import find_bundle, load_segmentation
from crnn_cli.networks import slice_clstm
from crnn_cli.networks.engines import onednn as fused_module
from crnn_cli.networks.engines import slice_layers as slices
from crnn_cli.networks.engines.onednn import Convolutions
from crnn_cli.networks.engines.slice_layers import FoldedBatchNormLayers, ReferenceLayers
from tests.networks.test_slice_clstm import logits, network, stack


def probabilities(made, image_SYX):
    return torch.softmax(logits(made, image_SYX), 1)


@pytest.fixture(params=["fused", "one after the other"])
def fused(request, monkeypatch):
    if request.param == "fused" and not fused_module._has_fused(torch.float32):
        pytest.skip("this PyTorch has no convolution into a sum")
    if request.param != "fused":
        monkeypatch.setattr(fused_module, "_has_fused", lambda dtype: False)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("directions", [0, 1, 2])
@pytest.mark.parametrize(("slices", "at_once"), [(1, 1), (5, 1), (5, 2), (4, 2), (5, 5), (3, 100)])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_label_is_the_softmax_of_forward(monkeypatch, directions, slices, at_once, kernel):
    """Whatever is fused, wherever chunks of slices end, and however far the cells reach."""
    monkeypatch.setattr(slice_clstm, "_PIXELS_AT_ONCE", at_once * 12 * 8)
    made, image = network(directions, kernel=kernel), stack(slices)
    torch.testing.assert_close(made.label(image), probabilities(made, image), rtol=0, atol=2e-6)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("gates", [1, 130, 300, 10**9])
def test_rows_at_a_time_change_nothing(monkeypatch, gates, kernel):
    """One row, two, five of twelve, or all."""
    made, image = network(2, kernel=kernel), stack(4)
    monkeypatch.setattr(slices, "_GATES_PER_THREAD", max(1, gates // torch.get_num_threads()))
    torch.testing.assert_close(made.label(image), probabilities(made, image), rtol=0, atol=2e-6)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("rows", [range(0, 1), range(0, 4), range(3, 5), range(4, 9), range(0, 9)])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (7, 5)])
def test_rows_of_a_convolution_are_rows_of_the_whole(rows, size):
    g = torch.Generator().manual_seed(0)
    features = torch.randn(1, 4, 9, 6, generator=g).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(3, 4, *size, generator=g), torch.randn(3, generator=g)
    convolutions, part = Convolutions(torch.float32), slice(rows.start, rows.stop)
    whole = torch.nn.functional.conv2d(features, *kernel, padding=(size[0] // 2, size[1] // 2))
    torch.testing.assert_close(convolutions.conv(kernel, features, rows=rows), whole[:, :, part])
    torch.testing.assert_close(convolutions.conv(kernel, features, relu=True), whole.relu())
    terms = torch.randn(1, 3, len(rows), 6, generator=g).contiguous(memory_format=torch.channels_last)
    expected = terms + whole[:, :, part]
    torch.testing.assert_close(convolutions.conv_accumulate_(kernel, features, terms, rows=rows), expected)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("scales", [1, 2, 4])
def test_folded_features_are_those_of_the_modules(width, scales):
    made = slice_clstm.SliceCLSTM(dataclasses.replace(network(0).config, width=width, scales=scales)).eval()
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2)
        image = stack(3, 16, 8)[:, None]
        for plain, folded in zip(
            made.cnn(image, ReferenceLayers()), made.cnn(image, FoldedBatchNormLayers()), strict=True
        ):
            torch.testing.assert_close(folded, plain, rtol=1e-5, atol=1e-5)


def test_weights_that_change_after_labelling_are_used():
    made, image = network(2), stack()
    before = made.label(image)
    with torch.no_grad():
        for value in made.state_dict().values():
            if value.is_floating_point():
                value.mul_(1.3)
    after = made.label(image)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, probabilities(made, image), rtol=0, atol=2e-6)


def test_statistics_of_the_batch_are_used_in_training():
    """Where normalisations are not those of evaluation, nothing may be folded."""
    made, image = network(0).train(), stack(4)
    torch.testing.assert_close(made.label(image), probabilities(made, image))
    assert (made.label(image) - made.eval().label(image)).abs().max() > 1e-3


def test_labelling_leaves_weights_image_and_gradients_alone():
    made, image = network(2), stack()
    weights = {name: value.clone() for name, value in made.state_dict().items()}
    kept = image.clone()
    made.label(image)
    assert torch.equal(image, kept)
    assert all(torch.equal(value, weights[name]) for name, value in made.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in made.parameters())
    assert torch.equal(made.label(image), made.label(image))


@pytest.mark.parametrize("name", ["cardiac-sax-clstm", "hippocampus-clstm"])
def test_published_bundles_label_as_their_modules_do(name):
    made = load_segmentation(find_bundle(name, "segment"), torch.device("cpu"))
    image = torch.nn.functional.interpolate(stack(3, 6, 5)[None], (43, 37), mode="bilinear")[0].mul(0.4).add(0.4)
    found, expected = made.label(image), probabilities(made, image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_bfloat16_is_near_and_asked_for_by_autocast():
    made = load_segmentation(find_bundle("cardiac-sax-clstm", "segment"), torch.device("cpu"))
    image = torch.nn.functional.interpolate(stack(3, 6, 5)[None], (43, 37), mode="bilinear")[0].mul(0.4).add(0.4)
    with torch.autocast("cpu", torch.bfloat16):
        found = made.label(image)
    assert found.dtype == torch.float32
    apart = (found - made.label(image)).abs().max()
    assert 1e-6 < apart < 0.1

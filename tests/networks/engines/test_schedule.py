"""Both ways to go over the frames compute the same, whatever this PyTorch can fuse."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig, RecurrentCell
from crnn_cli.networks.engines import onednn as module
from crnn_cli.networks.engines.cpu import CpuSchedule
from crnn_cli.networks.engines.schedule import BatchedSchedule
from crnn_cli.networks.engines.spill import DiskTensorList

FEATURES = 6


def features(frames, batch=2, channels=FEATURES, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(frames, batch, channels, 9, 7, generator=g).to(dtype)


def convolution(inputs=FEATURES, outputs=FEATURES, dtype=torch.float32):
    return nn.Conv2d(inputs, outputs, 3, padding=1).to(dtype)


@pytest.fixture(params=["fused", "one after the other"])
def fused(request, monkeypatch):
    if request.param == "fused" and not module._has_fused(torch.float32):
        pytest.skip("this PyTorch has no convolution into a sum")
    if request.param != "fused":
        monkeypatch.setattr(module, "_has_fused", lambda dtype: False)
    torch.manual_seed(0)


def both(frames, dtype, run):
    """Return what all frames at once and the lists make of the same; pairs and single frames agree."""
    found = []
    with torch.no_grad():
        for way in (BatchedSchedule(2, dtype), CpuSchedule(frames, dtype), CpuSchedule(frames, dtype, paired=False)):
            found.append(way.from_layout(run(way)))
    torch.testing.assert_close(found[1], found[2])
    return found[:2]


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("frames", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("first", [False, True])
def test_recurrence_is_the_same(frames, dtype, first):
    cell = RecurrentCell(2, FEATURES, 3).to(dtype)
    x, before = features(frames, channels=2, dtype=dtype), features(frames, dtype=dtype, seed=1)

    def run(way):
        return way.recurrent(cell, way.to_layout(x), None if first else way.to_layout(before))

    whole, pairs = both(frames, dtype, run)
    torch.testing.assert_close(pairs, whole)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("first", [False, True])
def test_layers_are_the_same(frames, dtype, shift, first):
    one, two, out = convolution(dtype=dtype), convolution(dtype=dtype), convolution(outputs=2, dtype=dtype)
    below, before = features(frames, dtype=dtype), features(frames, dtype=dtype, seed=1)

    def run(way):
        state = None if first else way.to_layout(before)
        return way.output(out, way.layer(one, two, way.to_layout(below), state, shift))

    whole, pairs = both(frames, dtype, run)
    torch.testing.assert_close(pairs, whole)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 3), (1, 7)])
@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_a_convolution_of_few_outputs_is_one(size, outputs, biased):
    torch.manual_seed(0)
    weight, bias = torch.randn(outputs, FEATURES, *size), torch.randn(outputs) if biased else None
    below = features(2)[0].contiguous(memory_format=torch.channels_last)
    plain = conv2d(below, weight, bias, padding=(size[0] // 2, size[1] // 2))
    torch.testing.assert_close(module.Convolutions(torch.float32).conv_few_outputs((weight, bias), below), plain)
    halves = weight.bfloat16(), None if bias is None else bias.bfloat16()
    half = module.Convolutions(torch.bfloat16).conv_few_outputs(halves, below.bfloat16())
    assert half.dtype == torch.float32
    assert (half - plain).norm() < 0.01 * plain.norm()


@pytest.mark.parametrize("largest", [0, 2**25])
@pytest.mark.parametrize("frames", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("more", [{}, {"tsm_channels": 1, "temporal_context": 1, "weight_sets": 2}])
def test_what_lies_on_disk_makes_no_difference(monkeypatch, frames, more, largest):
    monkeypatch.setattr("crnn_cli.networks.engines.cpu.LARGEST_PAIR_BYTES", largest)
    torch.manual_seed(0)
    net = CRNNMRI(CRNNMRIConfig(features=5, iterations=3, **more))
    net.ample_memory = True
    image = torch.randn(2, frames, 8, 6, dtype=torch.complex64)
    operator = SingleCoilConsistency(torch.randn_like(image), torch.eye(8)[:2].sum(0)[None, None, :, None])
    for half in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            made = []
            for net.on_disk in range(CpuSchedule.SEQUENCES + 1):
                made.append(net(image, operator))
        assert all(torch.equal(made[0], other) for other in made[1:])


def test_files_keep_what_they_are_given():
    kept = DiskTensorList()
    pairs = [features(2)[0], features(2)[1], features(1, batch=1)[0]]
    kept.extend(pairs)
    pairs[1] = features(2, seed=3)[0]
    kept[1] = pairs[1]
    assert all(torch.equal(a, b) for a, b in zip(kept, pairs, strict=True))
    assert kept[-1].is_contiguous(memory_format=torch.channels_last)
    kept[0].zero_()  # read anew: the file does not change
    assert torch.equal(kept[0], pairs[0])
    assert torch.equal(kept.pop(), pairs[2])
    assert len(kept) == 2
    for wrong in (pairs[2], pairs[1].double()):
        with pytest.raises(ValueError, match="cannot become"):
            kept[1] = wrong
    with pytest.raises(ValueError, match="at the end"):
        kept.insert(0, pairs[0])
    with pytest.raises(ValueError, match="taken away"):
        del kept[0]


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("paired", [True, False])
def test_half_precision_is_near(paired):
    cell, one, two = RecurrentCell(2, FEATURES, 3), convolution(), convolution()
    x, before = features(5, channels=2), features(5, seed=1)
    made = {}
    with torch.no_grad():
        for dtype in (torch.float32, torch.bfloat16):
            way = CpuSchedule(5, dtype, paired=paired)
            state = way.recurrent(cell, way.to_layout(x), way.to_layout(before))
            sequence = way.layer(one, two, state, way.to_layout(before), 1)
            assert {pair.dtype for pair in sequence} == {dtype}
            made[dtype] = way.from_layout(sequence).float()
    error = (made[torch.bfloat16] - made[torch.float32]).norm() / made[torch.float32].norm()
    assert 1e-4 < error < 0.02


@pytest.mark.parametrize("paired", [True, False])
def test_what_entered_and_states_before_are_let_go_and_what_is_below_is_kept(paired):
    way, cell, one, two = (
        CpuSchedule(4, torch.float32, paired=paired),
        RecurrentCell(2, FEATURES, 3),
        convolution(),
        convolution(),
    )
    x, state = way.to_layout(features(4, channels=2)), way.to_layout(features(4, seed=1))
    with torch.no_grad():
        below = way.recurrent(cell, x, state)
        assert not any(pair.untyped_storage().nbytes() for pair in [*x, *state])
        kept = [pair.clone() for pair in below]
        before = way.to_layout(features(4, seed=2))
        made = way.layer(one, two, below, before, 2)
    assert made is before
    assert all(torch.equal(a, b) for a, b in zip(below, kept, strict=True))


def test_large_pairs_become_frames_of_their_own_where_memory_is_plenty():
    for lines, roomy, paired in ((64, True, True), (255, True, True), (256, True, False), (256, False, True)):
        way = CpuSchedule.fastest_for(torch.Size((1, 5, lines, 256)), 64, torch.float32, 0, roomy)
        assert way.paired == paired
        assert len(way.to_layout(torch.zeros(5, 1, 2, 4, 4))) == (3 if paired else 5)
    assert CpuSchedule.fastest_for(torch.Size((1, 5, 256, 256)), 64, torch.bfloat16, 0, True).paired
    net, image = CRNNMRI(CRNNMRIConfig(features=5)), torch.zeros(1, 4, 8, 6, dtype=torch.complex64)
    work, sequence = net.memory_required(image)
    for factor in (1, 2):
        net.plan_memory(image, factor * (work + CpuSchedule.SEQUENCES * sequence) + 1)
        assert net.ample_memory == (factor == 2)


def test_features_at_half_resolution_need_a_quarter_of_the_memory(monkeypatch):
    image, sequences, asked = torch.zeros(1, 4, 9, 6, dtype=torch.complex64), {}, []
    monkeypatch.setattr(CpuSchedule, "fastest_for", lambda *how: asked.append(how[0]) or CpuSchedule(4, torch.float32))
    for factor in (1, 2):
        net = CRNNMRI(CRNNMRIConfig(features=5, iterations=1, pixel_unshuffle=factor))
        sequences[factor] = net.memory_required(image)[1]
        with torch.no_grad():
            net(image, SingleCoilConsistency(image, torch.zeros(1, 4, 9, 1)))
    assert sequences == {1: 4 * 9 * 6 * 5 * 4, 2: 4 * 5 * 3 * 5 * 4}
    assert asked == [(1, 4, 9, 6), (1, 4, 5, 3)]


@pytest.mark.parametrize("half", [False, True])
def test_all_frames_together_are_the_same_as_lists_of_them(monkeypatch, half):
    torch.manual_seed(0)
    net = CRNNMRI(CRNNMRIConfig(features=5, iterations=3, tsm_channels=1, temporal_context=1, weight_sets=2))
    image = torch.randn(2, 5, 8, 6, dtype=torch.complex64)
    operator = SingleCoilConsistency(torch.randn_like(image), torch.eye(8)[:2].sum(0)[None, None, :, None])
    made = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        made[False] = net(image, operator)
        net.batch_frames = True
        monkeypatch.setattr(CpuSchedule, "fastest_for", None)  # it is not asked
        made[True] = net(image, operator)
    assert not made[True].requires_grad
    torch.testing.assert_close(made[True], made[False], rtol=0, atol=0.02 if half else 1e-5)

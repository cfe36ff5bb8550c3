"""A bundle is loaded as it was published, or refused."""

import dataclasses
import hashlib
import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from crnn_cli.bundles.config import read_config
from crnn_cli.bundles.import_checkpoint import import_checkpoint
from crnn_cli.bundles.int8 import dequantize, quantize
from crnn_cli.bundles.store import (
    find_bundle,
    folder_of_bundles,
    list_bundles,
    load_network,
    read_bundle,
    write_bundle,
)
from crnn_cli.errors import OutputError, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from tests.support.data import data_file

CPU = torch.device("cpu")


@pytest.fixture
def copy(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy")
    return tmp_path / "copy"


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        if value is None:
            del config[key]
        else:
            config[key] = value
    (folder / "config.json").write_text(json.dumps(config))


def reweigh(folder, change):
    weights = load_file(folder / "weights.safetensors")
    change(weights)
    save_file(weights, folder / "weights.safetensors")
    edit(folder, sha256=hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest())


def test_round_trip_keeps_every_weight(bundle, tmp_path):
    network = load_network(read_bundle(bundle), CPU)
    config = json.loads((bundle / "config.json").read_text())
    del config["format"], config["sha256"]
    again = write_bundle(tmp_path / "again", config, network.state_dict(), "card")
    assert again.sha256 == read_bundle(bundle).sha256
    assert not network.training


def test_published_bundles_load_and_have_a_card():
    bundles = list_bundles()
    assert bundles
    for found in bundles:
        load_network(found, CPU)
        card = (found.folder / "README.md").read_text()
        for word in ("Licence", "Data", "Command", "Limits"):
            assert word in card, f"{found.name}: {word}"
        assert find_bundle(found.name) == found
    assert sum(f.stat().st_size for f in folder_of_bundles().rglob("*")) < 12e6


def test_one_changed_byte_is_noticed(copy):
    content = bytearray((copy / "weights.safetensors").read_bytes())
    content[-7] ^= 1
    (copy / "weights.safetensors").write_bytes(content)
    with pytest.raises(UnreadableError, match="sha256"):
        load_network(read_bundle(copy), CPU)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("conv2_h.bias"), "lacks the weight 'conv2_h.bias'"),
        (
            lambda w: w.update({"conv2_hh.bias": w.pop("conv2_h.bias")}),
            "unknown weight 'conv2_hh.bias'.*'conv2_h.bias'",
        ),
        (lambda w: w.update({"conv2_h.bias": w["conv2_h.bias"][:3].clone()}), r"conv2_h.bias is \(3,\)"),
        (lambda w: w["conv1_x.weight"].fill_(float("nan")), "not finite"),
        (lambda w: w["conv4_x.bias"].fill_(float("inf")), "conv4_x.bias has values that are not finite"),
    ],
)
def test_wrong_weights_are_named(copy, change, reason):
    reweigh(copy, change)
    with pytest.raises(UnreadableError, match=reason):
        load_network(read_bundle(copy), CPU)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_rm": 1}, "unknown key 'input_rm'.*'input_rms'"),
        ({"sha256": None}, "lacks the key 'sha256'"),
        ({"input_rms": "big"}, "input_rms is 'big'"),
        ({"input_rms": True}, "input_rms is True"),
        ({"input_rms": -1}, "no positive number"),
        ({"input_rms": float("inf")}, "no positive number"),
        ({"input_rms": float("nan")}, "no positive number"),
        ({"format": 99}, "format 99"),
        ({"initial_image": "warm"}, "zero-filled, running or causal-total-variation"),
        ({"network": "u-net"}, "unknown network 'u-net'"),
        ({"settings": {"feature": 6}}, "unknown key 'feature'.*'features'"),
        ({"settings": {"features": 6.5}}, "features is 6.5"),
        ({"settings": {"features": True}}, "features is True"),
        ({"settings": {"iterations": 0}}, "from 1 to 1024"),
        ({"settings": {"features": 1025}}, "from 1 to 1024"),
        ({"settings": {"features": 6, "kernel": 4}}, "must be odd"),
        ({"settings": {"features": 6, "pixel_unshuffle": 0}}, "from 1 to 4"),
    ],
)
def test_wrong_config_is_named(copy, changes, reason):
    edit(copy, **changes)
    with pytest.raises(UnreadableError, match=reason):
        load_network(read_bundle(copy), CPU)


FORMAT_1 = {"initial_image": "start", "input_rms": "amplitude", "expected_spacing_mm": "plausible"}
FORMAT_1_SETTINGS = {"weight_sets": "sets", "tsm_channels": "shift", "temporal_context": "context",
                     "noise_aware": "trust"}  # fmt: skip


def to_format_1(folder):
    """Rewrite config.json of a bundle as earlier versions wrote it."""
    config = json.loads((folder / "config.json").read_text())
    config["settings"] = {FORMAT_1_SETTINGS.get(key, key): value for key, value in config["settings"].items()}
    config = {FORMAT_1.get(key, key): value for key, value in config.items()} | {"format": 1}
    (folder / "config.json").write_text(json.dumps(config))
    return config


@pytest.mark.parametrize("name", [bundle.name for bundle in list_bundles()])
def test_bundles_of_format_1_load_as_the_same(name, tmp_path):
    bundle = find_bundle(name)
    shutil.copytree(bundle.folder, tmp_path / name)
    config = to_format_1(tmp_path / name)
    assert not {"initial_image", "expected_spacing_mm", "weight_sets"} & {*config, *config["settings"]}
    before = read_bundle(tmp_path / name)
    assert dataclasses.replace(before, folder=bundle.folder) == bundle
    ours, theirs = load_network(before, CPU), load_network(bundle, CPU)
    assert ours.config == theirs.config
    for weight, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(weight, other)


@pytest.mark.parametrize("changes", [{"start": None}, {"initial_image": "zero-filled"}])
def test_keys_of_format_1_are_checked_by_their_names_there(copy, changes):
    to_format_1(copy)
    edit(copy, **changes)
    with pytest.raises(UnreadableError, match=r"lacks the key 'start'|unknown key 'initial_image'"):
        read_bundle(copy)


def test_what_is_written_is_of_format_2(bundle):
    config = json.loads((bundle / "config.json").read_text())
    assert config["format"] == 2
    assert config == read_config(bundle)


def test_task_of_another_version_is_refused(copy):
    edit(copy, task="dream")
    with pytest.raises(UnsupportedDataError, match="dream"):
        read_bundle(copy)


def test_weights_that_are_no_safetensors_are_refused_even_with_the_right_sha256(copy):
    (copy / "weights.safetensors").write_bytes(b"not weights")
    edit(copy, sha256=hashlib.sha256(b"not weights").hexdigest())
    with pytest.raises(UnreadableError, match="not a safetensors file"):
        load_network(read_bundle(copy), CPU)


def test_a_bundle_is_found_by_its_folder_and_named_after_it(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(copy)
    assert find_bundle(".").name == "copy"
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableError, match=r"holds no config\.json"):
        find_bundle(str(tmp_path / "folder"))
    with pytest.raises(UnreadableError, match="does not exist"):
        find_bundle(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cine-cnn", r"did you mean cine-crnn\?"),
        ("Cine-CRNN", r"the published models are .*cine-crnn,"),
        ("", "no model"),
    ],
)
def test_an_unknown_name_is_wrong_usage_and_the_nearest_is_named(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        find_bundle(name)


def test_missing_or_unreadable_parts(copy):
    (copy / "weights.safetensors").unlink()
    with pytest.raises(UnreadableError, match="cannot be read"):
        load_network(read_bundle(copy), CPU)
    (copy / "config.json").write_text("{")
    with pytest.raises(UnreadableError, match="JSON"):
        read_bundle(copy)
    (copy / "config.json").write_text("[]")
    with pytest.raises(UnreadableError, match="no JSON object"):
        read_bundle(copy)


def test_writing_never_replaces(bundle):
    with pytest.raises(OutputError, match="exists"):
        write_bundle(bundle, {}, {}, "")


def test_writing_is_whole_and_readable_by_all_or_leaves_nothing(bundle, tmp_path):
    assert bundle.stat().st_mode & 0o777 == 0o755
    config = json.loads((bundle / "config.json").read_text())
    del config["format"], config["sha256"]
    with pytest.raises(OutputError, match="create it first"):
        write_bundle(tmp_path / "no" / "a", config, {}, "")
    with pytest.raises(UnreadableError, match="input_rms"):
        write_bundle(tmp_path / "a", {**config, "input_rms": 0}, {}, "")
    assert not list(tmp_path.iterdir())


def published(network):
    """Return the weights of a network as the original code names them."""
    return {name.replace("bcrnn.", "bcrnn.CRNN_model."): value for name, value in network.state_dict().items()}


def test_a_checkpoint_of_any_size_and_precision_becomes_a_bundle_of_what_was_said(tmp_path):
    torch.manual_seed(0)
    network = CRNNMRI(CRNNMRIConfig(features=4, kernel=5, iterations=7))
    file = tmp_path / "small.pth"
    torch.save({name: value.half() for name, value in published(network).items()}, file)
    found = import_checkpoint(file, tmp_path / "small", 7, 0.25, "CC0-1.0")
    assert found.settings == {"features": 4, "kernel": 5, "iterations": 7}
    assert (found.input_rms, found.licence, found.initial_image) == (0.25, "CC0-1.0", "zero-filled")
    assert found.summary == "imported from small.pth"
    card = (found.folder / "README.md").read_text()
    for word in ("CC0-1.0", "small.pth", hashlib.sha256(file.read_bytes()).hexdigest()):
        assert word in card
    for name, value in load_network(found, CPU).state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, network.state_dict()[name].half().float())


def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path):
    weights = published(CRNNMRI(CRNNMRIConfig(features=4)))
    del weights["conv4_x.bias"]
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(UnreadableError, match=r"lacks the weight 'conv4_x\.bias'"):
        import_checkpoint(tmp_path / "a.pth", tmp_path / "a", 5, 0.7, "none")
    assert not (tmp_path / "a").exists()
    with pytest.raises(UnreadableError, match="does not exist"):
        import_checkpoint(tmp_path / "none.pth", tmp_path / "a", 5, 0.7, "none")


def test_published_checkpoint_is_imported_weight_by_weight(tmp_path):
    file = data_file("weights", "crnn_mri_d5_c5.pth")
    found = import_checkpoint(file, tmp_path / "published", 5, 0.7, "Apache-2.0")
    network = load_network(found, CPU)
    original = torch.load(file, weights_only=True, map_location="cpu")
    assert found.settings == {"features": 64, "kernel": 3, "iterations": 5}
    assert found.initial_image == "zero-filled"
    for name, tensor in network.state_dict().items():
        theirs = original[name.replace("bcrnn.", "bcrnn.CRNN_model.")]
        assert torch.equal(tensor, theirs.float())


class Harmful:
    """Would create a file when unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def test_pickled_code_is_not_executed(tmp_path):
    with (tmp_path / "evil.pth").open("wb") as stream:
        pickle.dump({"a": Harmful(tmp_path / "proof")}, stream)
    torch.save({"a": Harmful(tmp_path / "proof")}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(UnreadableError, match="not executed"):
            import_checkpoint(tmp_path / name, tmp_path / "out", 5, 0.7, "none")
    assert not (tmp_path / "proof").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "state", [{"a.weight": torch.zeros(2)}, [1, 2], {"a": 3}, {"bcrnn.i2h.weight": torch.zeros(2)}]
)
def test_other_checkpoints_are_refused(tmp_path, state):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UnreadableError):
        import_checkpoint(tmp_path / "other.pth", tmp_path / "out", 5, 0.7, "none")
    assert not (tmp_path / "out").exists()


def test_packed_weights_come_back_within_half_a_step_and_load(tmp_path):
    torch.manual_seed(0)
    network = CRNNMRI(CRNNMRIConfig(features=32, weight_sets=2))
    weights = network.state_dict()
    weights["conv1_x.weight"] *= torch.rand(32, 32, 1, 1) ** 4
    stored = quantize(weights)
    assert sum(t.numel() * t.element_size() for t in stored.values()) < 0.4 * 4 * sum(
        t.numel() for t in weights.values()
    )
    again = dequantize(stored)
    assert again.keys() == weights.keys()
    for name, weight in weights.items():
        largest = weight.abs().amax((2, 3), keepdim=True) if name + ".steps" in stored else 0 * weight
        assert ((again[name] - weight).abs() <= largest / 254 * 1.1 + 1e-9).all(), name
    assert torch.equal(dequantize(weights)["conv1_x.weight"], weights["conv1_x.weight"])
    config = {"task": "reconstruct", "network": "crnn-mri", "settings": {"features": 32, "weight_sets": 2},
              "input_rms": 1.0, "initial_image": "view-shared", "licence": "CC0-1.0",
              "summary": "for tests"}  # fmt: skip
    bundle = write_bundle(tmp_path / "b", config, stored, "# b")
    loaded = load_network(bundle, torch.device("cpu")).state_dict()
    assert torch.equal(loaded["conv1_x.weight"], again["conv1_x.weight"])
    broken = {**stored, "conv1_x.weight.steps": stored["conv1_x.weight.steps"][:3]}
    bundle = write_bundle(tmp_path / "c", config, broken, "# c")
    with pytest.raises(UnreadableError, match=r"conv1_x\.weight"):
        load_network(bundle, torch.device("cpu"))

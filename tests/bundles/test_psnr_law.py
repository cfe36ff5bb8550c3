"""The law of the expected PSNR in config.json is read, or refused with its reason."""

import json
import re

import pytest

from crnn_cli.bundles.config import CONFIG, read_bundle
from crnn_cli.bundles.psnr_law import PSNRLaw
from crnn_cli.bundles.store import find_bundle
from crnn_cli.errors import UnreadableError

LAW = {
    "intercept": -1, "noise_share": 0.3, "interval": [-2, 2.5], "accelerations": [3, 14], "missed_range": [-40, -10],
    "cases": 50,
}  # fmt: skip


def stated(bundle, folder, law):
    config = json.loads((bundle / CONFIG).read_text()) | {"expected_psnr": law}
    (folder / CONFIG).write_text(json.dumps(config))
    return read_bundle(folder).psnr_law


def test_a_law_is_read_and_may_be_absent(bundle, tmp_path):
    assert read_bundle(bundle).psnr_law is None
    assert stated(bundle, tmp_path, None) is None
    assert stated(bundle, tmp_path, LAW) == PSNRLaw(-1, 0.3, (-2, 2.5), (3, 14), (-40, -10), 50)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"noise_share": -0.1}, "noise_share must be at least 0"),
        ({"cases": 0}, "cases at least 1"),
        ({"cases": 1.5}, "cases is 1.5"),
        ({"intercept": 1e7}, "intercept is"),
        ({"intercept": float("nan")}, "intercept is nan"),
        ({"noise_share": True}, "noise_share is True"),
        ({"interval": [1, 2]}, "0 must lie within"),
        ({"interval": [-1]}, "interval is [-1]"),
        ({"accelerations": [14, 3]}, "accelerations is [14, 3]"),
        ({"missed_range": ["a", 0]}, "missed_range is ['a', 0]"),
        ({"slope": 1}, "unknown key 'slope'"),
    ],
)
def test_a_law_that_will_not_do_is_refused(bundle, tmp_path, change, why):
    with pytest.raises(UnreadableError, match=re.escape(why)):
        stated(bundle, tmp_path, LAW | change)
    with pytest.raises(UnreadableError, match="must be an object"):
        stated(bundle, tmp_path, [1])
    without = {key: value for key, value in LAW.items() if key != "interval"}
    with pytest.raises(UnreadableError, match="lacks the key 'interval'"):
        stated(bundle, tmp_path, without)


@pytest.mark.parametrize("name", ["cine-crnn", "cine-crnn-fast"])
def test_published_networks_have_a_law_that_makes_sense(name):
    law = find_bundle(name, "reconstruct").psnr_law
    assert law is not None
    assert -4 < law.intercept < 1  # the magnitude has a part of the error of complex images
    assert law.accelerations[0] <= 4
    assert law.accelerations[1] >= 12
    assert law.cases >= 20

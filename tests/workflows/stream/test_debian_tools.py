"""Scans written by the ismrmrd tools of Debian, another implementation of the format, as files and as streams."""

import io
import shutil
import subprocess

import h5py
import ismrmrd
import nibabel as nib
import numpy as np
import pytest
from ismrmrd.serialization import ProtocolDeserializer

from tests.io.mrd.made import stream_of
from tests.support.live import bundle

GENERATE = "ismrmrd_generate_cartesian_shepp_logan"

pytestmark = pytest.mark.skipif(not shutil.which(GENERATE), reason="ismrmrd-tools are not installed (apt)")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return a file of four repetitions of the phantom, three coils, oversampled, without noise."""
    file = tmp_path_factory.mktemp("scan") / "phantom.h5"
    asked = ("-m", "48", "-c", "3", "-r", "4", "-n", "0", "-o", str(file))
    subprocess.run([GENERATE, *asked], check=True, capture_output=True)
    return file


def test_a_stream_of_a_written_scan_shows_its_phantom_and_so_do_its_readouts_as_messages(crnn, scan, tmp_path):
    model = bundle(tmp_path / "tiny-live")
    out = tmp_path / "out.nii.gz"
    common = ("--stream", "--model", model, "--calibrate-frames", "2")
    ended = crnn("reconstruct", scan, *common, "-o", out)
    assert ended.code == 0, ended.err
    images_YXT = nib.load(out).get_fdata()[:, :, 0].transpose(1, 0, 2)
    with h5py.File(scan) as file:
        phantom = np.squeeze(file["dataset/phantom"][()])
    truth_YX = np.hypot(phantom["real"], phantom["imag"])
    for t in range(4):
        assert np.corrcoef(images_YXT[..., t].ravel(), truth_YX.ravel())[0, 1] > 0.98

    with ismrmrd.Dataset(scan, "dataset", create_if_needed=False) as dataset:
        xml = dataset.read_xml_header()
        readouts = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    sent = crnn("reconstruct", "-", *common, "-o", "-", stdin=stream_of(readouts, xml))
    assert sent.code == 0, sent.err
    received = list(ProtocolDeserializer(io.BytesIO(sent.out)).deserialize())
    np.testing.assert_array_equal(np.stack([each.data[0, 0] for each in received], -1), images_YXT)

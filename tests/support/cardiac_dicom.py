"""A beating heart of simple shapes as a DICOM cine, and its labels as DICOM SEG of every form."""

from dataclasses import replace

import numpy as np

from crnn_cli.cardiac.chambers import CODES, LEFT, MYOCARDIUM, RIGHT
from crnn_cli.data.image import Image
from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.seg import Algorithm, SegForm, seg_outputs
from crnn_cli.labels.names import Label
from tests.cardiac.hearts import heart
from tests.support.dicom import write_series

PATIENT = {
    "PatientName": "Secret^Person", "PatientID": "4711", "PatientSize": "1.8", "PatientWeight": "80",
    "StudyDate": "20260102", "StudyTime": "123000", "StudyID": "3", "FrameOfReferenceUID": "1.2.9",
}  # fmt: skip
LABELS = [
    Label(value, name, (255, 80 * value, 0), ("SCT", CODES[name], name))
    for value, name in ((1, RIGHT), (2, MYOCARDIUM), (3, LEFT))
]
"""Values of ACDC."""


def write_cine(folder, image=None, **more):
    """Write a label map as the pixels of a cine of one patient: it is its own truth."""
    if image is None:
        whole = heart(frames=8, frame_time=0.1)
        image = Image(whole.array[:, :, 2:7], whole.affine, whole.frame_time)
    lps = np.diag([-1, -1, 1]) @ image.affine[:3, :3]
    row, column, _ = (lps / np.linalg.norm(lps, axis=0)).T
    pixels = image.array.reshape((*image.shape[:3], image.frames)).astype(int).transpose(2, 3, 1, 0)
    spacing, gap = (image.spacing[1], image.spacing[0]), image.spacing[2]
    write_series(
        folder, pixels, (row, column), spacing, gap, step_ms=1000 * image.frame_time, shuffle=3, **(PATIENT | more)
    )
    return folder


def write_segs(cine, target, form=None):
    """Write the pixels of such a cine as SEG: one object for each frame, unless ``form`` says otherwise."""
    image, _, series = read_series(cine)
    labels = replace(image, array=image.array.astype(np.uint8))
    target.parent.mkdir(exist_ok=True)
    write_together(seg_outputs(labels, series, LABELS, Algorithm("crnn tiny"), target, form or SegForm()))
    return target

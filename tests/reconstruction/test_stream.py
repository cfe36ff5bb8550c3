"""Frames of a stream: the images are those of the same frames in a file, whenever they come."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.data.raw_scan import RawSlice
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.total_variation.causal import causal_tv
from crnn_cli.reconstruction.coil_preparation import CoilRequest, prepare_coils
from crnn_cli.reconstruction.ensemble import Ensemble
from crnn_cli.reconstruction.frames import (
    CausalTVImage,
    FrameReconstructor,
    brightness_of,
    frame_of,
    reconstruct_frames,
)
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import CAUSAL_IMAGES, NetworkReconstructor
from crnn_cli.reconstruction.stream import StreamedSlice, StreamMethod, join_frames
from tests.support.kspace import kspace, lines
from tests.support.live import measurement, network, settings

CPU = torch.device("cpu")


def phantom(frames=9, coils=4):
    """Return the frames of an undersampled phantom, T = 1 each."""
    measured = lines(frames, share=0.5)[:, :, None]
    samples = kspace(1, coils, frames)[0] * measured
    return [RawSlice(samples[:, t : t + 1], measured[t : t + 1]) for t in range(frames)]


def streamed(frames, *, calibrate=4, renew=0, given=None, copies=1, initial_image="running"):
    """Return the images of frames that are pushed one by one, and after which push each came."""
    request = CoilRequest(maps=given)
    method = StreamMethod(network(), settings(calibrate, 2, initial_image), CPU, request, renew, copies)
    one, images, came = StreamedSlice(method, "slice 1"), [], []
    for number, raw in enumerate([*frames, None]):
        for data in one.calibrate() if raw is None else one.push(raw):
            images.append(one.reconstruct(data).image_B1YX)
            came.append(number)
    one.close()
    return torch.cat(images, 1), came


@pytest.mark.parametrize("initial_image", CAUSAL_IMAGES)
@pytest.mark.parametrize("coils", [1, 4])
def test_a_stream_gives_the_images_of_the_file_to_the_bit(coils, initial_image):
    frames = phantom(12, coils=coils)
    whole = join_frames(frames)
    prepared = prepare_coils(join_frames(frames[:4]), CoilRequest(), CPU)
    how = settings(4, 2, initial_image)
    with torch.no_grad():
        expected = reconstruct_frames(network(), how, prepared.measure(whole, CPU), lambda: None)
    images, came = streamed(frames, initial_image=initial_image)
    assert torch.equal(images, expected)
    assert came == [3, 3, 3, *range(3, 12)]
    assert (initial_image == "running") == torch.equal(images, streamed(frames)[0])


@pytest.mark.parametrize("coils", [1, 4])
def test_causal_total_variation_of_a_stream_is_that_of_the_series_in_training(coils):
    data = measurement(12, coils=coils)
    images = CausalTVImage(brightness_of(data, 8))
    made = torch.cat([images.next(frame_of(data, t)) for t in range(12)], 1)
    torch.testing.assert_close(made, causal_tv(data.consistency()), rtol=1e-3, atol=1e-4)


def test_frames_whose_masks_differ_in_width_come_after_each_other():
    data = measurement(4)
    lines = [frame_of(data, t) for t in range(4)]
    mixed = [
        replace(frame, mask_BTYX=frame.mask_BTYX.expand_as(frame.kspace_BCTYX[:, 0])) if t % 2 else frame
        for t, frame in enumerate(lines)
    ]
    one, other = (CausalTVImage(brightness_of(data, 3)) for _ in range(2))
    for frame, same in zip(lines, mixed, strict=True):
        torch.testing.assert_close(one.next(frame), other.next(same), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("coils", [1, 4])
def test_a_stream_averages_flipped_copies_as_a_file_does_to_the_bit(coils):
    frames = phantom(coils=coils)
    data = prepare_coils(join_frames(frames[:4]), CoilRequest(), CPU).measure(join_frames(frames), CPU)
    whole = Ensemble(NetworkReconstructor(network(), settings(4)), 3)
    images, _ = streamed(frames, copies=3)
    assert torch.equal(images, whole(data, lambda: None).images_BTYX)
    assert not torch.allclose(images, streamed(frames)[0], rtol=1e-3)


def test_a_stream_shorter_than_its_calibration_is_calibrated_by_what_there_is():
    images, came = streamed(phantom()[:3])
    assert images.shape[1] == 3
    assert came == [3, 3, 3]
    assert torch.equal(images, streamed(phantom()[:3], calibrate=3)[0])


@pytest.mark.parametrize("initial_image", CAUSAL_IMAGES)
def test_sensitivities_are_renewed_after_the_frames_that_they_come_from(initial_image):
    frames, how = phantom(12), {"initial_image": initial_image}
    plain, renewed = streamed(frames, **how)[0], streamed(frames, renew=5, **how)[0]
    changed = [not torch.equal(plain[:, t], renewed[:, t]) for t in range(12)]
    assert changed.index(True) == 5 + 4  # begun with frame 5, used from four frames later
    assert torch.equal(renewed, streamed(frames, renew=5, **how)[0])


def test_given_sensitivities_stay():
    frames = phantom(12)
    maps = np.ones((4, *frames[0].kspace_CTYX.shape[2:]), np.complex64)
    assert torch.equal(streamed(frames, given=maps)[0], streamed(frames, renew=3, given=maps)[0])


def test_images_are_as_bright_as_the_data():
    data = measurement()
    with torch.no_grad():
        images = reconstruct_frames(network(), settings(), data, lambda: None)
        twice = SliceMeasurement(1000 * data.kspace_BCTYX, data.mask_BTYX)
        torch.testing.assert_close(reconstruct_frames(network(), settings(), twice, lambda: None), 1000 * images,
                                   rtol=1e-4, atol=1e-2)  # fmt: skip


@pytest.mark.parametrize("initial_image", CAUSAL_IMAGES)
def test_a_frame_from_a_part_of_its_samples_changes_nothing(initial_image):
    data, net, how = measurement(), network(), settings(initial_image=initial_image)
    one, other = (FrameReconstructor(net, how, brightness_of(data, 3)) for _ in range(2))
    part = frame_of(data, 2)
    part = SliceMeasurement(part.kspace_BCTYX * 0, part.mask_BTYX & False)
    for t in range(6):
        predict = one.from_part(part) if t == 2 else None
        images = [each.next(frame_of(data, t)) for each in (one, other)]
        assert torch.equal(*images)
        if predict is not None:
            assert not torch.allclose(predict(), images[0])


@pytest.mark.parametrize("initial_image", CAUSAL_IMAGES)
def test_a_slice_without_energy_is_zero(initial_image):
    data = measurement()
    nothing = SliceMeasurement(0 * data.kspace_BCTYX, data.mask_BTYX)
    assert not reconstruct_frames(network(), settings(initial_image=initial_image), nothing, lambda: None).any()


def test_samples_that_are_not_finite_are_refused():
    frames = phantom(3)
    frames[1].kspace_CTYX[0, 0, 12, 3] = np.nan
    with pytest.raises(UnsupportedDataError, match="slice 1"):
        streamed(frames)

"""Images are read by the `ismrmrd` package with the numbers, the place and the counters of their frames."""

import io
import os
import threading

import numpy as np
import pytest
from ismrmrd.serialization import ProtocolDeserializer

from crnn_cli.io.mrd.images import ImageWriter
from tests.io.mrd.made import frames_of, real_time, stream_of
from tests.support.ismrmrd import Options

SLICES = Options(counter="repetition", slices=2, frames=3, lines=10, samples=12, tilt=4)


def images_like(header, count):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(*header.matrix, 2)).view(complex)[..., 0] for _ in range(count)]


def written(kind, **options):
    """Write an image of each frame; return the frames, the images and what the package reads."""
    acquisitions, xml = real_time(SLICES)
    for acquisition in acquisitions:
        acquisition.user_int[2], acquisition.measurement_uid, acquisition.physiology_time_stamp[0] = -5, 77, 123
        acquisition.patient_table_position[:] = [1, 2, 3]
    found, frames = frames_of(stream_of(acquisitions, xml))
    images, out = images_like(found.header, len(frames)), io.BytesIO()
    writer = ImageWriter(out, found.header, kind, **options)
    for image, frame in zip(images, frames, strict=True):
        writer.write(image, frame)
    writer.text("done")
    writer.close()
    out.seek(0)
    return found.header, frames, images, list(ProtocolDeserializer(out).deserialize())


@pytest.mark.parametrize(("kind", "image_type", "dtype"), [("magnitude", 1, np.float32), ("complex", 5, np.complex64)])
def test_the_package_reads_the_images(kind, image_type, dtype):
    header, frames, images, read = written(kind, series=3)
    assert read.pop() == "done\0"  # and CLOSE, or the package would have raised EOFError
    assert len(read) == len(frames) == 6
    for number, (frame, image, one) in enumerate(zip(frames, images, read, strict=True)):
        expected = np.abs(image) if kind == "magnitude" else image
        assert one.data.dtype == dtype
        np.testing.assert_array_equal(one.data[0, 0], expected.astype(dtype))
        assert (one.image_type, one.image_index, one.image_series_index, one.channels) == (image_type, number + 1, 3, 1)
        assert (one.slice, one.repetition, one.phase) == (frame.slice_number, frame.number, 0)
        assert one.acquisition_time_stamp == frame.begin == 1000 + 40 * frame.number
        assert (one.measurement_uid, one.user_int[2], one.physiology_time_stamp[0]) == (77, -5, 123)
        assert list(one.patient_table_position) == [1, 2, 3]
        assert tuple(one.matrix_size) == (*header.matrix[::-1], 1) == (12, 10, 1)
        assert one.meta["DataRole"] == "Image"
        assert one.getHead().attribute_string_len == len(one.attribute_string)


def test_an_image_lies_where_its_affine_says():
    """Pixel floor(N / 2) lies at the position, and the axes run along the directions (LPS)."""
    _, frames, _, read = written("magnitude")
    for frame, one in zip(frames, read[:-1], strict=True):
        axes = np.stack([one.read_dir, one.phase_dir, one.slice_dir], 1)
        spacing = np.divide(one.field_of_view, one.matrix_size)
        middle = np.array([one.matrix_size[0] // 2, one.matrix_size[1] // 2, 0])
        lps = np.column_stack([axes * spacing, one.position - (axes * spacing) @ middle])
        np.testing.assert_allclose(frame.affine[:3], np.diag([-1, -1, 1]) @ lps, atol=1e-4)


def test_a_pipe_without_a_reader_breaks_at_the_first_image():
    found, frames = frames_of(stream_of(*real_time()))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        with pytest.raises(BrokenPipeError):
            ImageWriter(out, found.header).write(np.zeros(found.header.matrix), frames[0])
        with pytest.raises(BrokenPipeError):  # what was buffered is still there
            out.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def test_a_slow_reader_holds_the_writer_up_and_gets_all():
    """More than a pipe holds: the writer waits until the reader takes it."""
    found, frames = frames_of(stream_of(*real_time(Options(counter="repetition", slices=1, frames=2, samples=128))))
    images = images_like(found.header, 40)
    reading, writing = os.pipe()
    done = threading.Event()

    def write():
        with os.fdopen(writing, "wb") as out:
            writer = ImageWriter(out, found.header, "complex")
            for image in images:
                writer.write(image, frames[0])
            writer.close()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not done.wait(0.2)
    with os.fdopen(reading, "rb") as source:
        read = list(ProtocolDeserializer(source).deserialize())
    thread.join(10)
    assert [each.image_index for each in read] == list(range(1, 41))

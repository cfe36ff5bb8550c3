"""Frames of a stream are those of the file, each handed out when its last line has come; what is odd is refused."""

import gc
import io
import tracemalloc

import h5py
import numpy as np
import pytest

from crnn_cli.data.host_memory import memory_limit, resident_bytes
from crnn_cli.data.raw_scan import remove_oversampling
from crnn_cli.errors import DeviceError, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.ismrmrd.read import read_ismrmrd
from crnn_cli.io.mrd import replay
from crnn_cli.io.mrd.images import ImageWriter
from crnn_cli.io.mrd.read import file_frames, stream_frames
from tests.io.mrd.made import (
    LAST_IN_REPETITION,
    REAL_TIME,
    flag_ends,
    frames_of,
    lines,
    message,
    real_time,
    stream_of,
    xml_message,
)
from tests.support.data import data_file
from tests.support.ismrmrd import Options, header_of, readout, write
from tests.support.remarks import codes, texts

KINDS = {
    "real time": REAL_TIME,
    "phases": Options(counter="phase", slices=2, frames=3, tilt=None),
    "all at once": Options(
        counter="repetition", slices=3, frames=3, oversampling=2, echo=3, reverse=True, discard=(1, 2), averages=2,
        noise=np.array([[2.0, 0.6 + 0.3j], [0.6 - 0.3j, 1.0]]), partial=2, early=1,
    ),
    "separate calibration": Options(counter="repetition", acceleration=2, calibration="separate", slices=1),
    "embedded calibration": Options(counter="repetition", acceleration=2, calibration="embedded", lines=12),
    "one frame": Options(frames=1, slices=1),
}  # fmt: skip


@pytest.mark.parametrize("flagged", [False, True])
@pytest.mark.parametrize("o", KINDS.values(), ids=KINDS)
def test_frames_are_those_of_the_file_to_the_bit(tmp_path, o, flagged):
    acquisitions, xml = real_time(o, flagged=flagged and o.averages == 1)
    file = read_ismrmrd(write(tmp_path / "scan.h5", acquisitions, xml))
    for found in (frames_of(stream_of(acquisitions, xml))[0], file_frames(tmp_path / "scan.h5")):
        assert found.header.kspace_shape == (file.shape_ZCTYX[1], *file.shape_ZCTYX[3:])
        assert found.header.fov_fraction == file.fov_fraction_YX
        assert found.header.matrix == file.geometry.shape[1::-1]
        np.testing.assert_array_equal(found.header.noise_CC, file.noise_CC)
    frames = list(found)
    assert found.at_end == ()
    assert len(frames) == o.frames * o.slices
    order = found.stack().order
    np.testing.assert_array_equal(found.stack().affine, file.geometry.affine)
    slices = [file.read(z) for z in range(o.slices)]
    for frame in frames:
        z, t = order.index(frame.slice_number), frame.number
        np.testing.assert_array_equal(frame.kspace_CYX, slices[z].kspace_CTYX[:, t])
        np.testing.assert_array_equal(frame.mask_YX, slices[z].mask_TYX[t])
        assert frame.begin == frame.end == 1000 + 40 * t
        assert (frame.begin_ms, frame.skipped) == (2500 + 100 * t, 0)
        if t == 0 and o.calibration:
            np.testing.assert_array_equal(frame.calibration_CYX, slices[z].calibration_CYX)
        middle = np.array([o.samples // 2, o.lines // 2, z, 1])
        np.testing.assert_allclose(frame.affine @ (*middle[:2], 0, 1), file.geometry.affine @ middle, atol=1e-4)


def test_the_raw_slice_of_a_frame_loses_its_oversampling_as_that_of_a_file(tmp_path):
    acquisitions, xml = real_time(KINDS["all at once"])
    file = read_ismrmrd(write(tmp_path / "scan.h5", acquisitions, xml))
    found, frames = frames_of(stream_of(acquisitions, xml))
    whole = remove_oversampling(file.read(0), 0.5)
    lowest = next(frame for frame in frames if frame.slice_number == found.stack().order[0])
    one = remove_oversampling(lowest.raw, found.header.fov_fraction[1])
    np.testing.assert_array_equal(one.kspace_CTYX[:, 0], whole.kspace_CTYX[:, 0])
    np.testing.assert_array_equal(one.mask_TYX[0], whole.mask_TYX[0])


class Counting(io.BytesIO):
    """A stream that knows how far it was read."""


def consumed_after_each_frame(acquisitions, xml):
    stream = Counting(stream_of(acquisitions, xml))
    found = stream_frames(stream, "the stream")
    return [(frame.slice_number, frame.number, stream.tell()) for frame in found]


def ends(acquisitions, xml):
    """Return the byte at which each readout of a stream ends."""
    return len(xml_message(xml)) + np.cumsum([len(message(each)) for each in acquisitions])


@pytest.mark.parametrize("flag", [8, 12, 14])
def test_a_flagged_frame_is_there_with_its_last_byte(flag):
    acquisitions, xml = real_time()
    flag_ends(acquisitions, flag)
    assert consumed_after_each_frame(acquisitions, xml) == [
        (0, t, end) for t, end in enumerate(ends(acquisitions, xml)[3::4])
    ]


def test_a_frame_without_flags_is_there_with_the_first_line_of_the_next():
    acquisitions, xml = real_time()
    at = ends(acquisitions, xml)
    closed = at[-1] + 2
    assert consumed_after_each_frame(acquisitions, xml) == [
        (0, t, end) for t, end in enumerate([at[4], at[8], at[12], closed])
    ]


def test_slices_line_by_line_and_one_after_another():
    """Slices may take turns with each line, or each come with all of its frames."""
    o = Options(counter="repetition", slices=2, frames=3)
    acquisitions, xml = real_time(o)
    truth = {(f.slice_number, f.number): f.kspace_CYX for f in frames_of(stream_of(acquisitions, xml))[1]}
    by_line = sorted(acquisitions, key=lambda a: (a.idx.repetition, a.idx.kspace_encode_step_1, a.idx.slice))
    by_slice = sorted(acquisitions, key=lambda a: (a.idx.slice, a.idx.repetition))
    for sent, order in ((by_line, [(z, t) for t in range(3) for z in (0, 1)]), (by_slice, sorted(truth))):
        frames = frames_of(stream_of(sent, xml))[1]
        assert [(f.slice_number, f.number) for f in frames] == order
        for frame in frames:
            np.testing.assert_array_equal(frame.kspace_CYX, truth[frame.slice_number, frame.number])


def repetitions(*numbers, phases=(0,), **head):
    """Return lines of frames with these repetitions, in each the phases."""
    return [line for r in numbers for p in phases for line in lines(repetition=r, phase=p, **head)]


def plain(**changes):
    return header_of(Options(samples=8, lines=8), **changes)


@pytest.mark.parametrize(
    ("numbers", "skipped", "doubts"),
    [
        ([0, 1, 2], [0, 0, 0], []),
        ([0, 1, 4, 5], [0, 0, 2, 0], ["frames-skipped"]),
        ([3, 6, 9], [0, 0, 0], ["counter-stride"]),
        ([0, 3, 4], [0, 0, 2], ["counter-stride", "frames-skipped"]),
        ([0, 2, 6], [0, 0, 1], ["counter-stride", "frames-skipped"]),
        ([65534, 65535, 0, 1], [0, 0, 0, 0], []),
    ],
)
def test_frames_that_are_missing_are_counted_and_told(numbers, skipped, doubts):
    _, frames = frames_of(stream_of(repetitions(*numbers), plain()))
    assert [frame.skipped for frame in frames] == skipped
    assert [frame.number for frame in frames] == list(range(len(numbers)))
    assert [code for frame in frames for code in codes(frame.remarks) if code != "readout-centre"] == doubts


def test_beats_of_real_time_phases_are_in_order():
    """Repetitions that each count their phases: a beat may be shorter, and may lack its first phases."""
    sent = repetitions(0, phases=(0, 1, 2)) + repetitions(1, phases=(0, 1)) + repetitions(2, phases=(1, 2))
    _, frames = frames_of(stream_of(sent, plain()))
    assert [frame.skipped for frame in frames] == [0, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("kept", [5, 10, 15])
def test_a_stream_that_ends_in_the_middle_of_a_frame(kept, close):
    acquisitions, xml = real_time()
    frames = []
    with pytest.raises(
        UnreadableError, match=rf"the middle of a frame: {kept % 4} of 4 lines of repetition {kept // 4}"
    ):
        frames.extend(stream_frames(io.BytesIO(stream_of(acquisitions[:kept], xml, close)), "it"))
    assert len(frames) == kept // 4


def test_a_single_frame_is_whole_where_the_sender_says_so():
    acquisitions, xml = real_time()
    with pytest.raises(UnreadableError, match="the middle of a frame: 3 lines of repetition 0"):
        frames_of(stream_of(acquisitions[:3], xml, close=False))
    assert len(frames_of(stream_of(acquisitions[:3], xml))[1]) == 1
    flag_ends(acquisitions[:4])
    assert len(frames_of(stream_of(acquisitions[:4], xml, close=False))[1]) == 1


def test_a_stream_without_close_is_doubted():
    acquisitions, xml = real_time()
    found, frames = frames_of(stream_of(acquisitions, xml, close=False))
    assert len(frames) == 4
    assert codes(found.at_end) == ["stream-not-closed"]


def test_fewer_frames_than_stated_are_doubted():
    acquisitions, _ = real_time()
    xml = header_of(REAL_TIME)
    stated = xml.replace("</encodingLimits>", limits(repetition=9) + "</encodingLimits>")
    found, _ = frames_of(stream_of(acquisitions, stated))
    assert texts(found.at_end) == ["the header says 10 repetitions, 4 are there"]
    assert (found.header.frames, found.header.slices) == (10, None)


def test_doubts_about_the_header_come_with_it():
    acquisitions, xml = real_time()
    begin, end = xml.index("<encoding>"), xml.index("</encoding>") + len("</encoding>")
    found, _ = frames_of(stream_of(acquisitions, xml[:end] + xml[begin:]))
    assert texts(found.header.remarks) == ["the header has 2 encodings: the first is read"]


def limits(**largest):
    return "".join(
        f"<{name}><minimum>0</minimum><maximum>{n}</maximum><center>0</center></{name}>" for name, n in largest.items()
    )


def segmented():
    """A cine of 2 segments of 4 phases: each phase comes back in the second beat."""
    sent = []
    for segment in (0, 1):
        for phase in range(4):
            sent += lines(2, first=2 * segment, phase=phase, segment=segment)
    return sent


def test_interleaved_phases_cannot_be_streamed(tmp_path):
    found = stream_frames(io.BytesIO(stream_of(segmented(), plain())), "it")
    with pytest.raises(
        UnsupportedDataError, match="readout 9 is a line of repetition 0, phase 0 of slice 0, which was"
    ):
        list(found)
    xml = plain().replace("</encodingLimits>", limits(phase=3, segment=1) + "</encodingLimits>")
    with pytest.raises(UnsupportedDataError, match="measures its cardiac phases in 2 segments"):
        frames_of(stream_of(segmented(), xml))
    with pytest.raises(UnsupportedDataError, match=r"readout 9 .* belongs to an earlier frame"):
        file_frames(write(tmp_path / "scan.h5", segmented(), plain()))


def test_a_scan_whose_frames_are_not_counted_is_not_collected_for_ever():
    sent = [line for _ in range(20) for line in lines(4)]
    with pytest.raises(UnsupportedDataError, match="65 readouts by readout 65, and the matrix has 8 lines: neither"):
        frames_of(stream_of(sent, plain()))


def changed(acquisitions, at, **head):
    """Return the readouts with other values in the header of one."""
    for name, value in head.items():
        if name in ("position", "read_dir"):
            getattr(acquisitions[at], name)[:] = value
        else:
            setattr(acquisitions[at].idx if hasattr(acquisitions[at].idx, name) else acquisitions[at], name, value)
    return acquisitions


def moved():
    acquisitions = real_time()[0]
    for at in range(8, 12):
        changed(acquisitions, at, position=[0, 0, 9])
    return acquisitions


def spoiled(at, value):
    acquisitions = real_time()[0]
    acquisitions[at].data[0, 3] = value
    return acquisitions


NEXT = {"repetition": 4}
REFUSED = {
    "coils": (lambda: real_time()[0] + lines(coils=3, **NEXT), UnsupportedDataError, "has 3 coils, those before had 2"),
    "longer": (lambda: real_time()[0] + lines(samples=20, **NEXT), UnreadableError, "does not fit an encoded matrix"),
    "line": (lambda: changed(real_time()[0], 9, kspace_encode_step_1=8), UnreadableError, "outside the encoded matrix"),
    "moved": (lambda: changed(real_time()[0], 9, position=[0, 0, 9]), UnsupportedDataError, "lies elsewhere than"),
    "moved as a whole": (moved, UnsupportedDataError, "lies elsewhere than"),
    "turned": (lambda: changed(real_time()[0], 9, read_dir=[0, 0, 1]), UnsupportedDataError, "other directions than"),
    "3-D": (lambda: changed(real_time()[0], 9, kspace_encode_step_2=1), UnsupportedDataError, "is a 3-D scan"),
    "NaN": (lambda: spoiled(9, np.nan), UnreadableError, r"readout 10 .* has NaN or infinite samples"),
    "zeros": (lambda: [readout(np.zeros((2, 16)), np.eye(3), (0, 0, 0))], UnsupportedDataError, "samples .* are zero"),
    "noise": (lambda: [readout(np.ones((2, 16)), np.eye(3), (0, 0, 0), (19,))], UnreadableError, "no readouts for im"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_and_frames_before_it_are_kept(made, error, words):
    content, kept = stream_of(made(), header_of(REAL_TIME)), []
    with pytest.raises(error, match=words):
        kept.extend(stream_frames(io.BytesIO(content), "it"))
    assert all(frame.kspace_CYX.any() for frame in kept)


def test_headers_that_are_missing_change_or_are_not_cartesian():
    acquisitions, xml = real_time()
    body = stream_of(acquisitions, xml)
    with pytest.raises(UnreadableError, match="has a readout where the XML header must come"):
        frames_of(b"".join(map(message, acquisitions)))
    for nothing in (b"", b"\x04\0"):
        with pytest.raises(UnreadableError, match="the stream ended before an XML header came"):
            frames_of(nothing)
    assert len(frames_of(xml_message(xml) + body)[1]) == 4  # the same header twice changes nothing
    other = xml_message(xml.replace("<x>8</x>", "<x>16</x>"))
    with pytest.raises(UnsupportedDataError, match="another XML header in the middle of a scan"):
        frames_of(body[:-2] + other + body[-2:])
    with pytest.raises(UnsupportedDataError, match="only Cartesian"):
        frames_of(xml_message(xml.replace("cartesian", "spiral")) + body)
    with pytest.raises(UnreadableError, match="no well-formed XML"):
        frames_of(xml_message(xml[:-20]) + body)


@pytest.mark.parametrize(
    ("part", "what"), [("encodedSpace", "k-space of a frame, 2 x"), ("reconSpace", "an image, 1 x")]
)
def test_no_memory_is_reserved_for_the_matrix_that_a_header_claims(part, what):
    acquisitions, xml = real_time()
    begin = xml.index(part)
    claimed = xml[:begin] + xml[begin:].replace("<y>8</y>", "<y>20000</y>", 1)
    with (
        memory_limit(resident_bytes() + 2**18),
        pytest.raises(DeviceError, match=rf"{what} 20000 x \d+ complex samples"),
    ):
        frames_of(stream_of(acquisitions, claimed))


def test_sets_and_repetitions_are_chosen():
    both = [line for r in range(2) for s in (0, 1) for line in lines(repetition=r, set=s, seed=10 * r + s)]
    content = stream_of(both, plain())
    with pytest.raises(UnsupportedDataError, match="2 values of set"):
        frames_of(content)
    for s in (0, 1):
        _, frames = frames_of(content, choice=RawChoices(set_number=s))
        wanted = [each.data for each in both if each.idx.set == s and each.idx.repetition == 1]
        np.testing.assert_array_equal(frames[1].kspace_CYX[:, :4], np.stack(wanted, 1))
    _, frames = frames_of(content, choice=RawChoices(set_number=0, repetition=1))
    assert [int(frame.head["idx"]["repetition"]) for frame in frames] == [1]
    for choice, words in (
        (RawChoices(set_number=5), "no readout for images of the stream has it"),
        (RawChoices(view=1), "view=1 is not possible for a stream"), (RawChoices(drop_empty=True), "drop_empty"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            frames_of(content, choice=choice)


def test_the_last_line_of_another_set_ends_the_frame_too():
    both = [line for r in range(2) for s in (0, 1) for line in lines(repetition=r, set=s)]
    for last in (both[7], both[15]):
        last.setFlag(LAST_IN_REPETITION)
    stream = io.BytesIO(stream_of(both, plain()))
    found = stream_frames(stream, "it", RawChoices(set_number=0))
    assert [(frame.lines, stream.tell()) for frame in found] == [(4, ends(both, plain())[at]) for at in (7, 15)]


@pytest.mark.parametrize("at", [0, 8])
def test_calibration_lines_between_frames_are_those_of_the_next(at):
    acquisitions, xml = real_time(flagged=True)
    apart = lines(3, first=3, flags=(20,), seed=7)
    _, frames = frames_of(stream_of([*acquisitions[:at], *apart, *acquisitions[at:]], xml))
    assert [frame.number for frame in frames if frame.calibration_CYX is not None] == [at // 4]
    calibration = frames[at // 4].calibration_CYX
    np.testing.assert_array_equal(calibration[:, 3:6], np.stack([each.data for each in apart], 1))
    assert np.count_nonzero(calibration) == 3 * 2 * 16


def test_memory_stays_the_same_however_long_the_stream_is():
    """A stream of 60 frames leaves no more behind than one of 20."""
    one = b"".join(message(line) for line in lines(repetition=0))
    count = len(one) // 4
    at = 2 + 340 - 64 - 34 + 12  # of idx.repetition in a readout

    class Long(io.RawIOBase):
        """Sends frames as they are read."""

        def __init__(self):
            self.number, self.left = 0, io.BytesIO(xml_message(plain()))

        def read(self, n=-1):
            if not (part := self.left.read(n)):
                frame = bytearray(one)
                for line in range(4):
                    frame[line * count + at : line * count + at + 2] = self.number.to_bytes(2, "little")
                self.number, self.left = self.number + 1, io.BytesIO(bytes(frame))
                part = self.left.read(n)
            return part

    found, sizes = iter(stream_frames(Long(), "it")), []
    tracemalloc.start()
    try:
        for number in range(61):
            assert next(found).number == number
            if number in (20, 60):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] < sizes[0] + 1000


def test_noise_that_comes_late_is_left_out_and_told():
    noise = [readout(np.ones((2, 16)), np.eye(3), (0, 0, 0), (19,)) for _ in range(3)]
    navigator = lines(1, flags=(23,), repetition=1)
    before = repetitions(0)
    flag_ends(before)
    sent = [*before, *noise, *navigator, *repetitions(1)]
    found, frames = frames_of(stream_of(sent, plain()))
    assert found.header.noise_CC is None
    assert len(frames) == 2
    assert texts(found.at_end) == ["4 readouts left out"]


def test_a_file_is_replayed_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "BLOCK", 7)
    acquisitions, xml = real_time()
    path = write(tmp_path / "scan.h5", acquisitions, xml)
    for one, other in zip(file_frames(path), frames_of(stream_of(acquisitions, xml))[1], strict=True):
        np.testing.assert_array_equal(one.kspace_CYX, other.kspace_CYX)
        assert one.head["scan_counter"] == other.head["scan_counter"] == 4 * one.number


def test_a_file_that_lacks_fields_which_are_not_needed_is_replayed(tmp_path):
    acquisitions, xml = real_time()
    path = write(tmp_path / "scan.h5", acquisitions, xml)
    with h5py.File(path, "r+") as file:
        stored, kinds = file["dataset/data"][:], file["dataset/data"].dtype
        head, idx = kinds["head"], kinds["head"]["idx"]
        counters = [(name, idx[name]) for name in idx.names if name != "segment"]
        fields = [(name, head[name]) for name in head.names[::-1] if name not in ("idx", "user_int", "measurement_uid")]
        table = np.zeros(len(stored), [("head", [*fields, ("idx", counters)]), ("traj", kinds[1]), ("data", kinds[2])])
        for name, _ in fields:
            table["head"][name] = stored["head"][name]
        for name, _ in counters:
            table["head"]["idx"][name] = stored["head"]["idx"][name]
        table["traj"], table["data"] = stored["traj"], stored["data"]
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=table)
    found = file_frames(path)
    for one, other in zip(found, frames_of(stream_of(acquisitions, xml))[1], strict=True):
        np.testing.assert_array_equal(one.kspace_CYX, other.kspace_CYX)
        assert one.head["position"].tolist() == other.head["position"].tolist()
    ImageWriter(io.BytesIO(), found.header).write(np.zeros(found.header.matrix), one)


def test_a_real_scan_is_replayed():
    path = data_file("kspace", "meas_MID00349_FID09273_SNR_R3.h5")
    file, found = read_ismrmrd(path), file_frames(path)
    frames = list(found)
    np.testing.assert_array_equal(found.header.noise_CC, file.noise_CC)
    one = file.read(0)
    assert len(frames) == one.kspace_CTYX.shape[1]
    for t, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.kspace_CYX, one.kspace_CTYX[:, t])
        np.testing.assert_array_equal(frame.calibration_CYX, one.calibration_CYX)

"""Frames of ISMRMRD scans: heart beats from time stamps, frame times, what is ambiguous."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.ismrmrd.read import read_ismrmrd
from tests.support.ismrmrd import Options, header_of, readout, scan, write, write_beats, write_scan
from tests.support.remarks import codes, texts

SMALL = Options(lines=6, oversampling=1, slices=1, coils=1)
TICK = 2.5e-3
same_folder = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def beats(o, rng, spread=30, mean=400):
    return rng.integers(mean - spread, mean + spread + 1, 2 * o.lines).tolist()


@same_folder
@given(st.integers(0, 99), st.integers(4, 12), st.lists(st.integers(0, 10), max_size=2, unique=True))
def test_readouts_are_sorted_into_cardiac_phases_and_irregular_beats_left_out(tmp_path, seed, phases, bad):
    rng = np.random.default_rng(seed)
    lengths = beats(SMALL, rng)
    for beat in bad:
        lengths[beat] = int(rng.choice([250, 600]))
    place = tmp_path / f"{seed}-{phases}-{bad}.h5"
    kspace, mask = write_beats(place, SMALL, phases, [*lengths[:-1], 400], bad)
    regular = [length for beat, length in enumerate(lengths[:-1]) if beat not in bad]
    found = read_ismrmrd(place, phases=phases)
    one = found.read(0)
    # the length of the last beat is not known: it counts as a mean one, so that its readouts may move by a phase
    sure = slice(0, SMALL.lines - 1)
    np.testing.assert_array_equal(one.mask_TYX[:, sure], mask[:, sure])
    np.testing.assert_allclose(one.kspace_CTYX[:, :, sure], kspace[:, :, sure], atol=3e-6 * np.abs(kspace).max())
    assert found.geometry.frame_time == pytest.approx(np.mean(regular) * TICK / phases)
    left_out = [note for note in texts(found.remarks) if "left out" in note]
    assert bool(left_out) == bool(bad)
    if bad:
        assert left_out[0].startswith(f"{len(bad)} of {2 * SMALL.lines} beats left out with ")


def test_a_beat_before_a_pause_counts_as_a_mean_one(tmp_path):
    lengths = [400] * (2 * SMALL.lines)
    kspace, mask = write_beats(tmp_path / "a.h5", SMALL, 8, lengths, pause_after=5)
    found = read_ismrmrd(tmp_path / "a.h5", phases=8)
    np.testing.assert_allclose(found.read(0).kspace_CTYX, kspace, atol=1e-6 * np.abs(kspace).max())
    np.testing.assert_array_equal(found.read(0).mask_TYX, mask)
    assert found.geometry.frame_time == pytest.approx(400 * TICK / 8)
    assert not any("left out" in note for note in texts(found.remarks))


def test_without_r_waves_there_are_no_cardiac_phases(tmp_path):
    write_scan(tmp_path / "a.h5", SMALL)
    with pytest.raises(UnsupportedDataError, match="no times since an R wave"):
        read_ismrmrd(tmp_path / "a.h5", phases=10)


def cine(stamps, frames=5, counter="phase", **each):
    """Return readouts of lines over frames; ``stamps`` (beat, frame, line) says the time stamps."""
    return [
        readout(np.ones((1, SMALL.samples)), np.eye(3), (0, 0, 0), kspace_encode_step_1=y, **{counter: t},
                **stamps(y // 3, t, y % 3))
        for y in range(SMALL.lines) for t in range(frames)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stamps", "expected", "said"),
    [
        # two beats of 300 ticks, five phases of 60: retrospective, the phases fill the beat
        (lambda b, t, i: {"since_r_wave": 60 * t + 20 * i, "acquisition_time_stamp": 300 * b + 60 * t + 20 * i},
         60 * TICK, "heart beat (80/min"),
        # prospective: five phases of 40 in beats of 300
        (lambda b, t, i: {"since_r_wave": 40 * t + 12 * i, "acquisition_time_stamp": 300 * b + 40 * t + 12 * i},
         40 * TICK, "since the R wave"),
        (lambda b, t, i: {"acquisition_time_stamp": 300 * b + 50 * t + 12 * i}, 50 * TICK, "from the time stamps"),
        (lambda b, t, i: {}, None, ""),
    ],
)  # fmt: skip
def test_frame_time_of_phases(tmp_path, stamps, expected, said):
    write(tmp_path / "a.h5", cine(stamps), header_of(SMALL))
    found = read_ismrmrd(tmp_path / "a.h5")
    assert found.geometry.frame_time == (expected and pytest.approx(expected, rel=1e-3))
    assert said in " ".join(texts(found.remarks))


def test_frame_time_of_repetitions_is_estimated_where_no_clock_says_it(tmp_path):
    write(tmp_path / "a.h5", cine(lambda b, t, i: {}, counter="repetition"), header_of(SMALL, tr=3.0))
    found = read_ismrmrd(tmp_path / "a.h5")
    assert found.geometry.frame_time == pytest.approx(6 * 3e-3)
    assert "frame time is an estimate: TR of 3 ms x 6 lines of a frame" in texts(found.remarks)


def test_two_counters_that_run_are_ambiguous(tmp_path):
    made = cine(lambda b, t, i: {"repetition": b})
    write(tmp_path / "a.h5", made, header_of(SMALL))
    with pytest.raises(UnsupportedDataError, match="5 of phase and 2 of repetition"):
        read_ismrmrd(tmp_path / "a.h5")


def test_counters_that_run_away_are_damage(tmp_path):
    made = cine(lambda b, t, i: {})
    made[-1].idx.phase = 60000
    write(tmp_path / "a.h5", made, header_of(SMALL))
    with pytest.raises(UnreadableError, match="phase runs to 60001 frames"):
        read_ismrmrd(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("lacks", "left"),
    [
        (lambda line: line.idx.phase == 2, [0, 1, 3, 4]),
        (lambda line: line.idx.phase == 4 and line.idx.slice == 1, [0, 1, 2, 3]),
        (lambda line: line.idx.phase >= 2 and line.idx.slice == 0, [0, 1]),
    ],
)
@pytest.mark.parametrize("zeros", [False, True])
def test_a_frame_without_lines_is_never_invented(tmp_path, lacks, left, zeros):
    """Lines that are not in the file and lines of zeros are the same: refused with the numbers, or left out."""
    o = Options(lines=8, frames=5, counter="phase", slices=2, tilt=None)
    acquisitions, made = scan(o)
    for line in acquisitions:
        if lacks(line):
            line.data[:] = 0
    kept = acquisitions if zeros else [line for line in acquisitions if not lacks(line)]
    write(tmp_path / "a.h5", kept, header_of(o))
    with pytest.raises(UnsupportedDataError, match=rf"{5 - len(left)} of 5 frames have no .* drop_empty"):
        [read_ismrmrd(tmp_path / "a.h5").read(z) for z in (0, 1)]
    found = read_ismrmrd(tmp_path / "a.h5", drop_empty=True)
    assert found.shape_ZCTYX[2] == found.geometry.frames == len(left)
    assert "empty-frames" in codes(found.remarks)
    for z in (0, 1):
        np.testing.assert_allclose(found.read(z).kspace_CTYX, made.kspace_ZCTYX[z][:, left], atol=1e-4)


def test_a_counter_with_a_stride_counts_consecutive_frames(tmp_path):
    o = Options(frames=4, counter="repetition", slices=1)
    acquisitions, made = scan(o)
    for line in acquisitions:
        line.idx.repetition = 3 * line.idx.repetition + 2
    write(tmp_path / "a.h5", acquisitions, header_of(o))
    found = read_ismrmrd(tmp_path / "a.h5")
    assert found.geometry.frame_time == pytest.approx(made.frame_time, rel=0.01)
    assert "counter-stride" in codes(found.remarks)
    np.testing.assert_allclose(found.read(0).kspace_CTYX, made.kspace_ZCTYX[0], atol=1e-4)


def test_lines_missing_of_a_scan_that_says_to_be_whole_are_counted(tmp_path):
    o = Options(skip=((0, 1, 3), (0, 1, 4), (1, 2, 3)))
    made = write_scan(tmp_path / "a.h5", o)
    found = read_ismrmrd(tmp_path / "a.h5")
    assert any(re.match("3 of 60 lines missing in 2 of 6 frames", note) for note in texts(found.remarks))
    np.testing.assert_array_equal(np.stack([found.read(z).mask_TYX for z in (0, 1)]), made.mask_ZTYX)

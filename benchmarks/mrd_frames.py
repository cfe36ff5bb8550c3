"""Frames of k-space out of a stream of MRD messages: time, and memory over many frames; needs no data.

Stream    real time, one slice, made as it is read: each frame has its own repetition, and its last line is flagged.
Measure   processor time for each frame, of all its messages, and after its last byte alone until its k-space is there;
          resident memory after a tenth of the frames and at the end. Every eighth line is measured, and the readout is
          twofold oversampled.

python benchmarks/mrd_frames.py [--frames 10000] [--matrix 128 192] [--coils 1 8] [--json FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from crnn_cli.io.mrd.messages import ACQUISITION, ACQUISITION_HEADER, METADATA
from crnn_cli.io.mrd.read import stream_frames

XML = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{x}</x><y>{n}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>600</x><y>300</y><z>8</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{n}</x><y>{n}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>300</x><y>300</y><z>8</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{half}</center>
</kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""
LAST_IN_REPETITION = 1 << 13


class Sender(io.RawIOBase):
    """Makes frames as they are read; ``sent`` is the processor time at which the last message of one was handed out."""

    def __init__(self, matrix: int, coils: int, frames: int) -> None:
        rng, lines = np.random.default_rng(0), matrix // 8
        head = np.zeros(lines, ACQUISITION_HEADER)
        head["active_channels"], head["number_of_samples"], head["center_sample"] = coils, 2 * matrix, matrix
        head["idx"]["kspace_encode_step_1"] = np.arange(0, matrix, 8)
        head["read_dir"], head["phase_dir"], head["slice_dir"] = np.eye(3)
        head["flags"][-1] = LAST_IN_REPETITION
        self.head, self.frames, self.number, self.line = head, frames, 0, 0
        self.samples = [rng.normal(size=4 * coils * matrix).astype("<f4").tobytes() for _ in range(lines)]
        xml = XML.format(x=2 * matrix, n=matrix, last=matrix - 1, half=matrix // 2).encode()
        self.left = io.BytesIO(METADATA.to_bytes(2, "little") + len(xml).to_bytes(4, "little") + xml)
        self.sent = 0.0

    def read(self, size: int = -1) -> bytes:
        part = self.left.read(size)
        if not part and self.number < self.frames:
            self.left = self._next()
            part = self.left.read(size)
        self.sent = time.process_time()
        return part

    def _next(self) -> io.BytesIO:
        self.head["idx"]["repetition"] = self.number % 2**16
        message = ACQUISITION.to_bytes(2, "little") + self.head[self.line].tobytes() + self.samples[self.line]
        self.line = (self.line + 1) % len(self.samples)
        self.number += self.line == 0
        return io.BytesIO(message)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measure(matrix: int, coils: int, frames: int) -> dict[str, Any]:
    """Go through a stream; times in ms, memory in MiB."""
    sender, memory = Sender(matrix, coils, frames), []
    whole, after = np.full((2, frames), np.nan)  # lists would grow with the frames
    begin = time.process_time()
    for frame in stream_frames(sender, "the stream"):  # type: ignore[arg-type]
        now = time.process_time()
        whole[frame.number] = 1000 * (now - begin)
        after[frame.number] = 1000 * (now - sender.sent)
        if frame.number in (frames // 10, frames - 1):
            memory.append(resident() / 2**20)
        begin = time.process_time()
    times = {"whole": np.median(whole), "after": np.median(after), "after_99": np.quantile(after, 0.99)}
    row = {"matrix": matrix, "coils": coils, "frames": len(whole)}
    row |= {name: round(float(value), 2) for name, value in times.items()}
    return row | {"memory": [round(each, 1) for each in memory], "drift": round(memory[1] / memory[0] - 1, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--matrix", nargs="+", type=int, default=[128, 192])
    parser.add_argument("--coils", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(
        "matrix coils frames  ms a frame  ms after its last byte: median, 99th percentile  memory at a tenth, end (MiB)"
    )
    for matrix in options.matrix:
        for coils in options.coils:
            row = measure(matrix, coils, options.frames)
            rows.append(row)
            print(
                *(row[name] for name in ("matrix", "coils", "frames", "whole", "after", "after_99", "memory", "drift"))
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""From raw k-space to the ejection fraction in one pipe: time and memory of every command in it, and no file between.

python benchmarks/function_pipe.py DATA [--size 256] [--frames 25] [--slices 8] [--coils 1] [--acceleration 8]
                                        [--model cine-crnn]

DATA holds pig_cine_sax (CC0, 10 slices x 20 phases). Its middle slices are interpolated over the cycle to the number of
frames, cut in k-space to the size, and get a smooth phase, coils around the body, noise and a random sampling pattern:
an ISMRMRD file with the places of the slices. Then

    crnn reconstruct raw.h5 -o - | crnn segment - -o - | crnn function - --json

runs on the CPU. Memory is that of each process at its peak, and of the three together, looked at twenty times a second.
The folder of the file and that for temporary files are looked at as often: what lay there beside raw.h5 is counted. The
ejection fraction of the fully sampled images, labelled in the same way, stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import ismrmrd
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import crnn_cli as crnn
from crnn_cli.mri.coils import normalise_maps
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import coil_sensitivities
from crnn_cli.mri.sampling import variable_density
from tests.support.ismrmrd import Options, header_of, readout, write

CRNN = [sys.executable, "-m", "crnn_cli", "-q"]
NOISE = 0.01  # of the brightest pixel


def cine(data: Path, options: argparse.Namespace) -> crnn.Image:
    """The pig's heart, (x, y, z, t), its brightest pixel 1."""
    whole = crnn.load(data / "pig_cine_sax")
    first = (whole.shape[2] - options.slices) // 2
    array = np.asarray(whole.array[:, :, first : first + options.slices], np.float64)
    spectrum = np.fft.rfft(array, axis=-1)[..., : options.frames // 2 + 1]
    array = np.fft.irfft(spectrum, options.frames, axis=-1)
    kspace = np.fft.fftshift(np.fft.fft2(array, axes=(0, 1)), axes=(0, 1))
    x, y = (n // 2 - options.size // 2 for n in array.shape[:2])
    kspace = kspace[x : x + options.size, y : y + options.size]
    small = np.abs(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(0, 1)), axes=(0, 1)))
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, 2] * first
    affine[:3, :2] *= np.array(whole.shape[:2]) / options.size
    seconds = None if whole.frame_time is None else whole.frame_time * whole.frames / options.frames
    return crnn.Image((small / small.max()).astype(np.float32), affine, seconds, whole.codes)


def write_raw(file: Path, truth: crnn.Image, options: argparse.Namespace) -> None:
    """Write what the coils measure, slice by slice, with the places of the slices."""
    size, (x, y, z) = options.size, truth.spacing
    lps = np.diag([-1, -1, 1]) @ truth.affine[:3]
    axes = lps[:, :3] / np.linalg.norm(lps[:, :3], axis=0)
    maps = torch.stack([each.sampled(Grid(size, size, 1.0)) for each in coil_sensitivities(options.coils)])
    maps = (
        normalise_maps(maps.to(torch.complex64)) if options.coils > 1 else torch.ones_like(maps, dtype=torch.complex64)
    )
    turn = torch.linspace(-1, 1, size)
    phase = torch.exp(1j * (turn[:, None] + 0.5 * turn[None, :] ** 2))
    made = []
    for number in range(options.slices):
        generator = torch.Generator().manual_seed(number)
        images_TYX = torch.from_numpy(truth.array[:, :, number].transpose(2, 1, 0).copy()) * phase
        kspace = image_to_kspace(images_TYX[None] * maps[:, None])
        kspace = kspace + NOISE * 2**0.5 * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
        mask = variable_density(options.frames, size, options.acceleration, generator)
        centre = lps @ [size // 2, size // 2, number, 1]
        for t, line in mask.nonzero().tolist():
            stamp = round(1000 + t * (truth.frame_time or 0.04) / 2.5e-3)
            made.append(readout(kspace[:, t, line].numpy(), axes, centre, slice=number, phase=t,
                                kspace_encode_step_1=line, acquisition_time_stamp=stamp))  # fmt: skip
    shape = Options(samples=size, lines=size, oversampling=1, coils=options.coils)
    head = ismrmrd.xsd.CreateFromDocument(header_of(shape))
    for space in (head.encoding[0].encodedSpace, head.encoding[0].reconSpace):
        space.fieldOfView_mm = ismrmrd.xsd.fieldOfViewMm(x=size * x, y=size * y, z=z)
    write(file, made, head.toXML("utf-8"))


@dataclass
class Watch:
    """What processes and folders hold while a pipe runs: MiB at the peak, files that came beside those before."""

    processes: list[subprocess.Popen]
    folders: list[Path]
    before: set[Path]
    together: float = 0.0
    peaks: dict[int, float] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.wait(0.05):
            self.together = max(self.together, sum(memory(each.pid, "VmRSS") for each in self.processes))
            for each in self.processes:
                self.peaks[each.pid] = max(self.peaks.get(each.pid, 0.0), memory(each.pid, "VmHWM"))
            for path in (path for folder in self.folders for path in folder.rglob("*")):
                if path not in self.before and path.is_file():
                    self.files[path.name] = max(self.files.get(path.name, 0), path.stat().st_size)


def memory(process: int, what: str) -> float:
    """MiB of a process, now (VmRSS) or at its peak (VmHWM: not that of its parent); 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def pipe(folder: Path, commands: list[list[str]]) -> tuple[dict, list[tuple[str, float, float]], Watch]:
    """Run commands in a pipe: report of the last; name, seconds and MiB at the peak of each; what was watched."""
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "CUDA_VISIBLE_DEVICES": ""}
    began, before, stream = time.perf_counter(), set(folder.rglob("*")), None
    processes = []
    for words in commands:
        process = subprocess.Popen([*CRNN, *words], stdin=stream, stdout=subprocess.PIPE, cwd=folder, env=environment)
        if stream is not None:
            stream.close()
        stream = process.stdout
        processes.append(process)
    watch = Watch(processes, [folder, temporary], before)
    watching = threading.Thread(target=watch.run)
    watching.start()
    assert stream is not None
    with stream:
        report = json.loads(stream.read())
    spent = []
    for words, process in zip(commands, processes, strict=True):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"crnn {' '.join(words)} ended with {process.returncode}")
        spent.append((words[0], usage.ru_utime + usage.ru_stime, process.pid))
    watch.ended.set()
    watching.join()
    found = [(name, seconds, watch.peaks[process]) for name, seconds, process in spent]
    return report | {"seconds_of_pipe": time.perf_counter() - began}, found, watch


def fraction(report: dict) -> str:
    found = report["quantities"]["left"]["ejection_fraction"]
    return found["reason"] if found["value"] is None else f"{found['value']:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    for name, default in (("size", 256), ("frames", 25), ("slices", 8), ("coils", 1), ("acceleration", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", default="cine-crnn")
    options = parser.parse_args()
    truth = cine(options.data, options)
    whole = crnn.function(crnn.segment(truth, device="cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_raw(folder / "raw.h5", truth, options)
        size = (folder / "raw.h5").stat().st_size / 2**20
        commands = [
            ["reconstruct", "raw.h5", "-o", "-", "--model", options.model], ["segment", "-", "-o", "-"],
            ["function", "-", "--json"],
        ]  # fmt: skip
        report, spent, watch = pipe(folder, commands)
    shape = f"{options.size} x {options.size} x {options.frames} x {options.slices} slices, {options.coils} coils"
    print(f"{shape}, {options.acceleration}x, {size:.0f} MiB raw, {options.model}, {os.cpu_count()} cores\n")
    print("| what | figure |\n|---|---|")
    print(f"| whole pipe | {report['seconds_of_pipe']:.0f} s |")
    for command, seconds, peak in spent:
        print(f"| `crnn {command}`: processor time, peak memory | {seconds:.0f} s, {peak:.0f} MiB |")
    print(f"| peak memory of the three together | {watch.together:.0f} MiB |")
    print(f"| files between, their names and bytes | {watch.files or 'none'} |")
    original = whole.quantities()["left"]["ejection_fraction"]
    print(f"| LVEF of the pipe; of the fully sampled images | {fraction(report)}; {original.text(1)} |")


if __name__ == "__main__":
    main()

"""BART's own files, written and read by hand for the tests that ask BART."""

import subprocess

import numpy as np


def write_cfl(stem, array):
    """Write an array whose axes are BART's: x, y, z, coil, ..."""
    stem.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(stem.with_suffix(".cfl"))


def read_cfl(stem):
    """Return the array of a pair of files."""
    shape = [int(n) for n in stem.with_suffix(".hdr").read_text().split("\n")[1].split()]
    return np.fromfile(stem.with_suffix(".cfl"), np.complex64).reshape(shape, order="F")


def run_bart(*arguments, cwd):
    """Run a BART tool in a folder."""
    subprocess.run(["bart", *map(str, arguments)], check=True, capture_output=True, cwd=cwd)

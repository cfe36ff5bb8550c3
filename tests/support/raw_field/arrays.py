"""Arrays of NumPy, MATLAB, HDF5, BART, CMRxRecon and fastMRI, as they are found: orders, types, conventions, gaps."""

import h5py
import numpy as np

from tests.support.kspace import compound, write_bart, write_fastmri, write_v5, write_v73
from tests.support.raw_field.case import Case, pattern, phantom, transform

AXES = ("slice", "coil", "t", "ky", "kx")


def make_array(rng, folder):
    """Return a case of one of the formats of arrays."""
    maker = [_numpy, _numpy, _hdf5, _matlab, _cmrxrecon, _cmrxrecon, _bart, _fastmri, _volume]
    return maker[int(rng.integers(len(maker)))](rng, folder)


def _scan(rng, frames=None, coils=None):
    """Return k-space, mask (Z, T, Y, 1) and what is told of them."""
    frames = int(rng.integers(1, 6)) if frames is None else frames
    coils = int(rng.integers(1, 5)) if coils is None else coils
    shape = (int(rng.integers(1, 4)), coils, frames, int(rng.integers(24, 49)), int(rng.integers(32, 65)))
    kind = str(rng.choice(["full", "random", "regular"]))
    mask = np.broadcast_to(pattern(rng, shape[2], shape[3], kind), (shape[0], shape[2], shape[3]))[..., None].copy()
    return phantom(rng, shape), mask, [kind]


def _convention(rng, kspace, mask, case):
    """Put the array into one of the conventions of the Fourier transform; return what is stored."""
    stored = kspace * mask[:, None]
    kind = str(rng.choice(["usual"] * 5 + ["rolled", "plain", "images", "image", "hybrid", "hybrid named"]))
    case.told.append(kind)
    if kind == "rolled":
        images = transform(kspace, (-2, -1), inverse=True)
        rolled = np.fft.fftshift(np.fft.fft2(images, norm="ortho"), (-2, -1))  # no ifftshift of the images
        case.codes.append("rolled-by-half")
        return rolled * mask[:, None]
    if kind == "plain":
        case.refused = "order of a plain FFT|no peak in the middle|the same everywhere"
        return np.fft.ifftshift(stored, (-2, -1))
    if kind in ("images", "image"):
        if kind == "image":
            case.chosen["kind"] = "image"
        else:
            case.refused = "images, not of k-space|an image|the same everywhere|no peak|at index"
        return transform(stored, (-2, -1), inverse=True)
    if kind == "hybrid":
        case.refused = "an image along kx|an image|the same everywhere|no peak|at index"
        return transform(stored, (-1,), inverse=True)
    return stored if kind == "usual" else transform(stored, (-1,), inverse=True)


def _empty_frame(rng, case):
    """Leave out one frame of one slice; it must be refused, or be dropped from all."""
    frames = case.truth_ZCTYX.shape[2]
    if frames < 3 or rng.random() > 0.2 or case.refused:
        return
    t, z = int(rng.integers(frames)), int(rng.integers(len(case.truth_ZCTYX)))
    case.mask_ZTYX[z, t] = False
    case.told.append("empty frame")
    if rng.random() < 0.5:
        case.refused = "frames have no measured sample.*drop_empty"
        return
    case.chosen["drop_empty"] = True
    case.codes.append("empty-frames")


def _drop(case):
    """Drop the empty frame from the truth, after the file was written."""
    if case.chosen.get("drop_empty") and not case.refused:
        kept = case.mask_ZTYX.any((2, 3)).all(0)
        case.truth_ZCTYX, case.mask_ZTYX = case.truth_ZCTYX[:, :, kept], case.mask_ZTYX[:, kept]
    return case


def _typed(rng, array):
    """Return the array in one of the types and memory layouts that files have."""
    kind = str(rng.choice(["c8", "c16", ">c16", "fortran"]))
    return np.asfortranarray(array.astype("c8")) if kind == "fortran" else array.astype(kind), kind


def _numpy(rng, folder):
    kspace, mask, told = _scan(rng)
    archive = rng.random() < 0.2
    case = Case(folder / f"k.np{'z' if archive else 'y'}", ["npz" if archive else "npy", *told], truth_ZCTYX=kspace,
                mask_ZTYX=mask)  # fmt: skip
    if not archive and rng.random() < 0.15 and kspace.shape[1] > 1 and kspace.shape[2] > 1 and told != ["full"]:
        return _swapped(case, kspace, mask)
    _empty_frame(rng, case)
    stored = _convention(rng, kspace, mask, case) if not case.refused and not case.chosen else kspace * mask[:, None]
    order = rng.permutation(5)
    stored, kind = _typed(rng, stored.transpose(order))
    if archive:
        save = np.savez_compressed if rng.random() < 0.5 else np.savez
        save(case.path, k=stored, weights=np.ones(3), **({"maps": stored[0]} if rng.random() < 0.3 else {}))
        case.choices["variable"] = "k"
    else:
        np.save(case.path, stored)
    named = [AXES[axis] for axis in order]
    if "hybrid named" in case.told:
        named = ["x" if name == "kx" else name for name in named]
    case.told += [",".join(named), kind]
    case.choices["axes"] = ",".join(named)
    return _drop(case)


def _swapped(case, kspace, mask):
    """Coil and time named the wrong way round: the sampling shows it, where it changes over time."""
    np.save(case.path, kspace * mask[:, None])
    case.choices["axes"] = "slice,t,coil,ky,kx"
    case.told.append("coil and t exchanged")
    if (mask == mask[:, :1]).all():
        case.truth_ZCTYX = (kspace * mask[:, None]).swapaxes(1, 2)
        case.mask_ZTYX = np.repeat(mask[:, :1], kspace.shape[1], 1)
    else:
        case.refused = "along coil the sampling differs"
    return case


def _hdf5(rng, folder):
    kspace, mask, told = _scan(rng)
    case = Case(folder / "k.h5", ["hdf5", *told], {"axes": ",".join(AXES)}, truth_ZCTYX=kspace, mask_ZTYX=mask)
    stored = _convention(rng, kspace, mask, case)
    if "hybrid named" in case.told:
        case.choices["axes"] = "slice,coil,t,ky,x"
    whole = rng.random() < 0.3 and "usual" in case.told
    if whole:
        peak = np.abs(stored).max()
        rounded = np.round(stored / peak * 30000)
        values = np.empty(stored.shape, [("real", "<i2"), ("imag", "<i2")])
        values["real"], values["imag"] = rounded.real, rounded.imag
        case.truth_ZCTYX, case.told = rounded.astype(np.complex64), [*case.told, "whole numbers"]
    else:
        values = compound(stored.astype(np.complex64)) if rng.random() < 0.5 else stored.astype(np.complex64)
    with h5py.File(case.path, "w") as file:
        file["scan/k"], file["other"] = values, np.ones((3, 4), np.complex64)
    case.choices["variable"] = "scan/k"
    return case


def _matlab(rng, folder):
    kspace, mask, told = _scan(rng)
    case = Case(folder / "k.mat", ["matlab", *told], truth_ZCTYX=kspace, mask_ZTYX=mask)
    stored = (kspace * mask[:, None]).transpose(4, 3, 1, 0, 2)
    write = write_v5 if rng.random() < 0.5 else write_v73
    write(case.path, data=stored)
    case.told.append(write.__name__)
    named = ["kx", "ky", "coil", "slice", "t"]
    long_only = [name for name, n in zip(named, stored.shape, strict=True) if n > 1]
    case.choices["axes"] = ",".join(named if rng.random() < 0.7 else long_only)
    return case


def _cmrxrecon(rng, folder):
    kspace, mask, told = _scan(rng, frames=int(rng.integers(2, 6)), coils=int(rng.integers(2, 5)))
    case = Case(folder / "k.mat", ["cmrxrecon", *told], truth_ZCTYX=kspace, mask_ZTYX=mask)
    _empty_frame(rng, case)
    stored = (kspace * case.mask_ZTYX[:, None]).transpose(4, 3, 1, 0, 2)
    name = str(rng.choice(["kspace_full", "kspace_sub04", "kus", "kspace", "kspace_single_full"]))
    case.told.append(name)
    if name == "kspace_single_full":
        stored = stored[:, :, 0]
        case.truth_ZCTYX = kspace[:, :1]
    more = {}
    if rng.random() < 0.4 and not case.chosen and not case.refused:
        lines = np.repeat(mask[0, :, :, 0].T[None], stored.shape[0], 0).astype(np.uint8)  # (kx, ky, t)
        more["mask"] = lines
    if rng.random() < 0.3 and name not in ("kspace", "kspace_single_full"):
        write_v5(case.path, **{name: stored})
    else:
        write_v73(case.path, **{name: stored}, **more)
    return _drop(case)


def _bart(rng, folder):
    kspace, mask, told = _scan(rng)
    case = Case(folder / "k.cfl", ["bart", *told], truth_ZCTYX=kspace, mask_ZTYX=mask)
    _empty_frame(rng, case)
    stored = kspace * case.mask_ZTYX[:, None]
    if not case.refused and not case.chosen:
        stored = _convention(rng, kspace, mask, case)
        if "hybrid named" in case.told:
            case.told.append("not named")
            case.refused = "an image|the same everywhere|no peak|at index"
    write_bart(case.path, stored)
    case.path = folder / str(rng.choice(["k", "k.hdr", "k.cfl"]))
    return _drop(case)


def _fastmri(rng, folder):
    """One frame, readout oversampled twofold, mask in the file, lines padded with zeros."""
    kspace, mask, told = _scan(rng, frames=1)
    case = Case(folder / "f.h5", ["fastmri", *told], truth_ZCTYX=kspace, mask_ZTYX=mask)
    sizes = {"wx": 2.0 * (kspace.shape[4] // 2), "rx": kspace.shape[4] // 2, "fx": 2.0 * kspace.shape[4]}
    line = mask[0, 0, :, 0]
    given = line.astype(np.float32) if rng.random() < 0.6 else None
    stored = kspace * mask[:, None]
    if rng.random() < 0.2 and given is not None and not line.all():
        stored, case.refused = kspace, "the mask in the file disagrees"
    if rng.random() < 0.2 and given is not None:
        given, case.refused = given[:-3], "its mask has"
    write_fastmri(case.path, stored, given, **sizes)
    return case


def _volume(rng, folder):
    """3-D scan, undersampled along ky and kz; its slices are positions along kx."""
    planes, frames = int(rng.integers(10, 17)), int(rng.integers(1, 4))
    shape = (planes, int(rng.integers(1, 4)), frames, int(rng.integers(16, 25)), int(rng.integers(16, 33)))
    images = phantom(rng, shape, three_d=True)
    kspace = transform(images, (0,)).astype(np.complex64)  # (K, C, T, Y, X)
    mask = rng.random((frames, shape[3], planes)) < 0.4
    mask[:, shape[3] // 2 - 3 : shape[3] // 2 + 3, planes // 2 - 3 : planes // 2 + 3] = True
    stored = (kspace * mask.transpose(2, 0, 1)[:, None, :, :, None]).transpose(1, 2, 0, 3, 4)
    case = Case(folder / "v.npy", ["3-D"], {"axes": "coil,t,kz,ky,kx"})
    np.save(case.path, stored)
    hybrid = transform(stored.astype(np.complex128), (-1,), inverse=True)  # (C, T, K, Y, x)
    case.truth_ZCTYX = hybrid.transpose(4, 0, 1, 3, 2).astype(np.complex64)
    case.mask_ZTYX = np.broadcast_to(mask, (shape[4], *mask.shape))
    return case

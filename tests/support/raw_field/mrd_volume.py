"""3-D ISMRMRD files, undersampled along both phase encodings or along one, with lines that are left out or zero."""

import numpy as np

from tests.support.raw_field.case import Case, phantom, transform
from tests.support.raw_field.mrd import PIXEL, THICKNESS, Place, Plan, Written, write_readouts


def make_mrd_volume(rng, folder):
    """Return a case of 3-D ISMRMRD: slices are planes where all were measured, else positions along the readout."""
    odd = {name for name in ("zeros stored", "shuffled", "averages") if rng.random() < 0.3}
    plan = Plan(
        slices=1, coils=int(rng.integers(1, 4)), frames=int(rng.integers(1, 4)), lines=int(rng.integers(16, 23)),
        samples=2 * int(rng.integers(9, 13)), oversampling=int(rng.integers(1, 3)), planes=int(rng.integers(10, 14)),
        counter="repetition", odd=frozenset(odd),
    )  # fmt: skip
    shape = (plan.planes, plan.coils, plan.frames, plan.lines, plan.encoded)
    images = phantom(rng, shape, plan.oversampling, three_d=True)  # images along Z
    kspace = transform(images, (0,)).astype(np.complex64)
    full = rng.random() < 0.3
    mask = _mask(rng, plan, full)
    case = Case(folder / "scan.h5", ["ismrmrd 3-D", "all planes" if full else "ky and kz", *sorted(odd)])
    place = Place(rng, plan)
    readouts = _readouts(plan, kspace, mask, place)
    _truth(plan, case, images, kspace, mask, full)
    header = {"x": plan.encoded, "y": plan.lines, "z": plan.planes, "nx": plan.samples, "nz": plan.planes,
              "fx": plan.encoded * PIXEL, "fy": plan.lines * PIXEL, "fz": THICKNESS * plan.planes,
              "nfx": plan.samples * PIXEL}  # fmt: skip
    limits = {"kspace_encoding_step_1": (plan.lines - 1, plan.lines // 2),
              "kspace_encoding_step_2": (plan.planes - 1, plan.planes // 2)}  # fmt: skip
    case.affine = _affine(plan, place)
    write_readouts(rng, plan, Written(readouts, header, limits), case)
    return case


def _mask(rng, plan, full):
    """Return which readouts were measured, (T, Y, K)."""
    if full:
        lines = rng.random((plan.frames, plan.lines, 1)) < 0.5
        lines[:, plan.lines // 2 - 3 : plan.lines // 2 + 3] = True
        return np.repeat(lines, plan.planes, -1)
    mask = rng.random((plan.frames, plan.lines, plan.planes)) < 0.4
    mask[:, plan.lines // 2 - 3 : plan.lines // 2 + 3, plan.planes // 2 - 3 : plan.planes // 2 + 3] = True
    return mask


def _readouts(plan, kspace, mask, place):
    readouts = []
    for t, y, k in np.ndindex(mask.shape):
        if not mask[t, y, k] and "zeros stored" not in plan.odd:
            continue
        fields = place.of(0) | {"kspace_encode_step_1": y, "kspace_encode_step_2": k, "repetition": t,
                                "center_sample": plan.encoded // 2, "acquisition_time_stamp": 900 + 40 * t}  # fmt: skip
        averages = range(2 if "averages" in plan.odd else 1)
        readouts += [(kspace[k, :, t, y] * mask[t, y, k], fields | {"average": a}) for a in averages]
    return readouts


def _truth(plan, case, images, kspace, mask, full):
    if full:
        case.truth_ZCTYX = images
        case.mask_ZTYX = np.broadcast_to(mask[:, :, :1], (plan.planes, *mask[:, :, :1].shape))
        return
    stored = kspace.astype(np.complex128) * mask.transpose(2, 0, 1)[:, None, :, :, None]
    first = plan.encoded // 2 - plan.samples // 2
    hybrid = transform(stored, (-1,), inverse=True)[..., first : first + plan.samples]
    case.truth_ZCTYX = hybrid.transpose(4, 1, 2, 3, 0).astype(np.complex64)
    case.mask_ZTYX = np.broadcast_to(mask, (plan.samples, *mask.shape))


def _affine(plan, place):
    """Return voxel to RAS+ mm: the middle of the matrix lies at the position."""
    columns = place.axes * [PIXEL, PIXEL, THICKNESS]
    corner = place.origin - columns @ [plan.samples // 2, plan.lines // 2, plan.planes // 2]
    return np.vstack([np.diag([-1, -1, 1]) @ np.column_stack([columns, corner]), [0, 0, 0, 1]])

"""Files as the field has them: each generated one is read as its truth, or refused for a true reason."""

import pytest

from tests.support.raw_field.make import make_case, verdict


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_generated_files_are_read_as_their_truth_or_refused(first, tmp_path):
    """More of them: benchmarks/field_raw.py."""
    wrong = []
    for seed in range(first, first + 20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        case = make_case(seed, folder)
        found = verdict(case)
        if found not in ("read", "refused"):
            wrong.append(f"seed {seed}: {'; '.join(case.told)}: {found}")
    assert not wrong, "\n".join(wrong)

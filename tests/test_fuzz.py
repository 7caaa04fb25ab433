"""A few mutated inputs for every reader, always the same; `python tests/fuzz.py all` tries as many others as asked."""

import fuzz
import pytest


@pytest.mark.parametrize(
    ("target", "cases"), [("nifti", 400), ("registry", 60), ("chunk", 400), ("shard", 200), ("store", 60)]
)
def test_mutated_input_is_read_or_refused(target, cases):
    counts = fuzz.run(target, cases, seed=2026)
    assert counts["refused"] > 0
    assert counts.total() == cases

"""ctpack's twins: the same bytes and voxels by each, for blocks of any width; in bounds on mutated bytes."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_chunks import chunks

from fastct._ext import ctpack

HERE = Path(__file__).parent
ROOT = HERE.parent


def encode_as(chunk: np.ndarray, twin: int) -> bytes:
    out = np.full(ctpack.bound(chunk.shape, chunk.itemsize), 0xA5, np.uint8)
    return out[: ctpack.encode(np.ascontiguousarray(chunk), chunk.shape, out, twin)].tobytes()


TWINS = ctpack.twins()


@pytest.mark.parametrize("twin", ["avx2", "avx512"])
@given(chunk=chunks())
def test_every_twin_writes_and_reads_what_the_portable_one_does(twin: str, chunk: np.ndarray) -> None:
    if twin not in TWINS:
        pytest.skip(f"this processor has no {twin}")
    encoded = encode_as(chunk, TWINS.index(twin))
    assert encoded == encode_as(chunk, TWINS.index("portable"))
    for reader in range(len(TWINS)):
        out = np.empty(chunk.shape, chunk.dtype)
        assert ctpack.decode(encoded, out, reader) is None
        np.testing.assert_array_equal(out, chunk)


@pytest.mark.parametrize("twin", TWINS)
@given(st.lists(st.integers(0, 16), min_size=8, max_size=8), st.integers(1, 5), st.integers(0, 2**32))
def test_blocks_of_any_widths_side_by_side_are_read(twin: str, widths: list[int], pairs: int, seed: int) -> None:
    """Residuals of a row of 64 columns, drawn to need these widths; the next rows have others."""
    rng = np.random.default_rng(seed)
    blocks = [[rng.integers(-(2**w) // 2, 2**w // 2, (2, 8)) for w in rng.permutation(widths)] for _ in range(pairs)]
    chunk = np.stack([np.concatenate(rows, 1).astype(np.int16) for rows in blocks]).reshape(1, 2 * pairs, 64)
    chunk = chunk.cumsum(axis=1, dtype=np.int16).cumsum(axis=2, dtype=np.int16)
    encoded = encode_as(chunk, 0)
    assert encoded == encode_as(chunk, TWINS.index(twin))
    out = np.empty(chunk.shape, chunk.dtype)
    assert ctpack.decode(encoded, out, TWINS.index(twin)) is None
    np.testing.assert_array_equal(out, chunk)


def test_a_twin_that_the_processor_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="twins"):
        ctpack.decode(b"", np.zeros(1, np.int16), len(TWINS))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_decoder_stays_in_bounds_on_mutated_bytes(tmp_path: Path) -> None:
    """More with FASTCT_FUZZ_INPUTS=1000000."""
    program, n_inputs = tmp_path / "fuzz", os.environ.get("FASTCT_FUZZ_INPUTS", "6000")
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = ["-I", str(ROOT / "src_ext"), str(HERE / "fuzz_ctpack.cpp"), "-o", str(program)]
    built = subprocess.run(["g++", *flags, *sources], capture_output=True, text=True)
    if built.returncode and "asan" in built.stderr:
        pytest.skip("g++ has no AddressSanitizer here")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program), n_inputs, "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) == 2 * int(n_inputs)

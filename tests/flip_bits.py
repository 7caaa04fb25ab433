"""Flip single bits of every file of a store, and see each found: `python tests/flip_bits.py STORE --flips N --seed S`.

The store is copied; the bits are drawn evenly over the files, so that small ones have their share.
"""

import argparse
import random
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import fastct


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file round."""
    changed = bytearray(path.read_bytes())
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)


def not_found(store: Path, flips: int, seed: int) -> list[str]:
    """Flip bits, one at a time, and put each back; those that `verify` did not name, by file and bit.

    A fault counts where it names the file, or the study that the file belongs to.
    """
    drawn = random.Random(seed)
    files = sorted(path for path in store.rglob("*") if path.is_file())
    silent = []
    for number in range(flips):
        path = files[number % len(files)]
        key, sound = path.relative_to(store).as_posix(), path.read_bytes()
        bit = drawn.randrange(8 * len(sound))
        flip(path, bit)
        faults = fastct.verify(store)
        if not any(fault.key == key or (fault.study_id and fault.study_id in key) for fault in faults):
            silent.append(f"{key}, bit {bit}")
        path.write_bytes(sound)
    return silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(asked.store, Path(place) / asked.store.name)
        silent = not_found(copy, asked.flips, asked.seed)
    sys.stdout.write("".join(f"not found: {what}\n" for what in silent))
    sys.stdout.write(f"{asked.flips} bits flipped, {len(silent)} not found (seed {asked.seed})\n")


if __name__ == "__main__":
    main()

"""Mutated input for everything that reads bytes from outside: `python tests/fuzz.py TARGET --cases N --seed S`.

A case is a pure function of (target, seed, number). It passes when the reader answers, or refuses with one of
fastct's own errors, within `SLOWEST_S` and `MEMORY_BYTES`. What fails names its number: `--first N --cases 1`.
"""

import argparse
import gzip
import io
import json
import resource
import secrets
import shutil
import signal
import struct
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
from small_chests import small_chest, write_study

import fastct
from fastct.codecs import decode_chunk, encode_chunk
from fastct.errors import FastctError
from fastct.mosmed import find_studies
from fastct.nifti import read_nifti_bytes
from fastct.sealed import seal
from fastct.shards import array_metadata, read_shard, write_shard

SLOWEST_S = 5  # of processor time
MEMORY_BYTES = 4 << 30  # of addresses, libraries included
READ_LIMIT_BYTES = 64 << 20
WORKBOOKS = 100  # that are mutated: writing one takes longer than reading it
TELLING = (0, 1, -1, 2, 3, 7, 8, 127, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**40, 2**63 - 1)
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"), -float("inf"), 1e-7, 1e7)
ODD_JSON = (None, True, -1, 0, 2**70, 1e308, "", "..", "/", "\x00", "int16", [], [[]], {}, [1, 2, 3], "x" * 10_000)
Case = Callable[[np.random.Generator], None]


def mutate(random: np.random.Generator, payload: bytes, reach: int | None = None) -> bytes:
    """A few bytes changed, put in, taken out, repeated or cut off, within the first `reach`."""
    raw = bytearray(payload)
    for _ in range(random.integers(1, 6)):
        at = int(random.integers(0, max(min(reach or len(raw), len(raw)), 1)))
        kind = random.integers(0, 7)
        if kind == 0 and raw:
            raw[at % len(raw)] ^= 1 << int(random.integers(0, 8))
        elif kind == 1:
            code = "bhiq"[random.integers(0, 4)]
            number = TELLING[random.integers(0, len(TELLING))] & (1 << (8 * struct.calcsize(code))) - 1
            raw[at : at + struct.calcsize(code)] = number.to_bytes(struct.calcsize(code), "little")
        elif kind == 2:
            raw[at : at + 4] = struct.pack("<f", ODD_FLOATS[random.integers(0, len(ODD_FLOATS))])
        elif kind == 3:
            del raw[at : at + int(random.integers(1, 64))]
        elif kind == 4:
            raw[at:at] = random.bytes(int(random.integers(1, 64)))
        elif kind == 5:
            raw[at:at] = raw[at : at + int(random.integers(1, 512))]
        elif random.random() < 0.3:
            del raw[at:]
    return bytes(raw)


def nifti_cases(_: Path) -> Case:
    """Headers, extensions and voxels of small volumes, plain and as one or several members of gzip."""
    hu, _lesion, affine = small_chest(1, (4, 16, 16))
    plain = []
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        for dtype in (np.int16, ">i2", np.float32, np.uint8):
            image = kind(np.clip(hu.T, 0, 255).astype(dtype), affine)
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"chest" * 9))
            plain.append(image.to_bytes())

    def case(random: np.random.Generator) -> None:
        payload = plain[random.integers(0, len(plain))]
        if random.random() < 0.8:
            payload = mutate(random, payload, 700)
        if random.random() < 0.5:
            cut = int(random.integers(0, len(payload) + 1))
            payload = gzip.compress(payload[:cut], 1) + gzip.compress(payload[cut:], 1)
            payload = (
                mutate(random, payload) if random.random() < 0.5 else payload + random.bytes(random.integers(0, 20))
            )
        volume = read_nifti_bytes(np.frombuffer(payload, np.uint8), "v.nii.gz", limit_bytes=READ_LIMIT_BYTES)
        assert volume.hu.dtype == np.int16
        assert volume.hu.shape == volume.geometry.shape
        assert np.isfinite(volume.geometry.affine).all()

    return case


def registry_cases(place: Path) -> Case:
    """Registries as workbooks and as csv, their parts and rows mutated, beside one real volume."""
    write_study(place / "studies/CT-1/study_0001.nii.gz", small_chest(1, (4, 16, 16))[0], np.eye(4))
    rows = [["study_id", "category", "study_file", "mask_file"]]
    rows += [[n, "CT-1", f"/studies/CT-1/study_{n:04d}.nii.gz", f"/masks/m{n}.nii.gz"] for n in (1, 2, 3)]
    cells = (
        "..",
        "/etc/passwd",
        "../../x.nii.gz",
        "=1+1",
        "=HYPERLINK(1)",
        "",
        None,
        1,
        -5,
        1e300,
        "study_0001",
        "CT-9",
    )

    def table(random: np.random.Generator) -> list[list[object]]:
        changed: list[list[object]] = [list(row) for row in rows]
        for _ in range(random.integers(0, 3)):
            changed[random.integers(0, 4)][random.integers(0, 4)] = cells[random.integers(0, len(cells))]
        return changed

    books = [_parts_of_workbook(table(np.random.default_rng(number))) for number in range(WORKBOOKS)]

    def workbook(random: np.random.Generator) -> bytes:
        parts, changed = books[random.integers(0, WORKBOOKS)], io.BytesIO()
        unlucky = list(parts)[random.integers(0, len(parts))]
        with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
            for name, payload in parts.items():
                new.writestr(name, mutate(random, payload) if name == unlucky else payload)
        return changed.getvalue() if random.random() < 0.7 else mutate(random, changed.getvalue())

    def case(random: np.random.Generator) -> None:
        for name in ("dataset_registry.xlsx", "dataset_registry.csv"):
            (place / name).unlink(missing_ok=True)
        if random.random() < 0.5:
            (place / "dataset_registry.xlsx").write_bytes(workbook(random))
        else:
            text = "\r\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in table(random))
            (place / "dataset_registry.csv").write_bytes(mutate(random, b"\xef\xbb\xbf" + text.encode()))
        for study in find_studies(place).studies:
            assert study.path.resolve().is_relative_to(place.resolve())

    return case


def _parts_of_workbook(table: list[list[object]]) -> dict[str, bytes]:
    """The files within an .xlsx of these rows."""
    book = openpyxl.Workbook()
    for row in table:
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    with zipfile.ZipFile(file) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


def chunk_cases(_: Path) -> Case:
    """ctpack chunks of both types."""
    hu = small_chest(2, (8, 64, 64))[0]
    chunks = [encode_chunk(hu[:d, :h, :w]) for d, h, w in ((8, 64, 64), (3, 7, 33), (1, 1, 1))]
    chunks += [encode_chunk((hu[:4] > 0).astype(np.uint8)), encode_chunk(np.zeros((8, 64, 64), np.int16))]

    def case(random: np.random.Generator) -> None:
        decode_chunk(mutate(random, chunks[random.integers(0, len(chunks))], 200))

    return case


def shard_cases(_: Path) -> Case:
    """Shards of each codec: what is read is the volume, or nothing."""
    hu = small_chest(3, (10, 96, 96))[0]
    shards = []
    for codec in ("ctpack", "blosc", "zstd"):
        metadata = array_metadata(hu.shape, hu.dtype, codec, -1024, ("z", "y", "x"))
        shards.append((metadata, bytes(write_shard(hu, metadata))))

    def case(random: np.random.Generator) -> None:
        metadata, shard = shards[random.integers(0, len(shards))]
        np.testing.assert_array_equal(read_shard(mutate(random, shard), metadata), hu)

    return case


def store_cases(place: Path) -> Case:
    """Every JSON document of a store: the manifest, records (with checksums that fit), metadata."""
    store = place / "store"
    write_study(place / "ct" / "a.nii.gz", small_chest(4)[0], small_chest(4)[2])
    fastct.convert(place / "ct", store, workers=1)
    fastct.score(store, workers=1)
    documents = {path: path.read_bytes() for path in sorted(store.rglob("*.json"))}

    def case(random: np.random.Generator) -> None:
        path = list(documents)[random.integers(0, len(documents))]
        whole = documents[path]
        kind = random.random()
        changed = mutate(random, whole) if kind < 0.4 else _odd_value(random, json.loads(whole))
        path.write_bytes(changed if kind < 0.98 else b"[" * 100_000)
        try:
            with suppress(FastctError):
                fastct.verify(store)
            study = fastct.open(store)["a"]
            study.hu.shape, study.lungs.shape, study.geometry.spacing_mm, study.record  # noqa: B018
            study.source_header()
        finally:
            path.write_bytes(whole)

    return case


def _odd_value(random: np.random.Generator, document: object) -> bytes:
    """A JSON document with one value, anywhere in it, replaced by an odd one."""
    inner: object = document
    while isinstance(inner, dict | list) and inner:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = keys[random.integers(0, len(keys))]
        if not isinstance(inner[key], dict | list) or not inner[key] or random.random() < 0.2:  # type: ignore[index]
            inner[key] = ODD_JSON[random.integers(0, len(ODD_JSON))]  # type: ignore[index]
            break
        inner = inner[key]  # type: ignore[index]
    if isinstance(document, dict) and "crc32c" in document:
        del document["crc32c"]
        return seal(document)
    return json.dumps(document).encode()


TARGETS: dict[str, Callable[[Path], Case]] = {
    "nifti": nifti_cases,
    "registry": registry_cases,
    "chunk": chunk_cases,
    "shard": shard_cases,
    "store": store_cases,
}


def run(target: str, cases: int, seed: int, first: int = 0) -> Counter[str]:
    """Run cases, and count those that were read and those that were refused; anything else is raised."""
    counts: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp())
    before = signal.signal(signal.SIGPROF, _too_slow)
    try:
        case = TARGETS[target](place)
        for number in range(first, first + cases):
            signal.setitimer(signal.ITIMER_PROF, SLOWEST_S)
            try:
                case(np.random.default_rng([seed, number]))
                counts["read"] += 1
            except FastctError as error:
                counts["refused"] += 1
                if not str(error).isprintable():
                    raise ValueError(f"{target}: seed {seed}, case {number}: unprintable error {error!r}") from error
            except BaseException as error:
                error.add_note(f"{target}: seed {seed}, case {number}")
                raise
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
    finally:
        signal.signal(signal.SIGPROF, before)
        shutil.rmtree(place)
    return counts


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SLOWEST_S} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for target in TARGETS if asked.target == "all" else [asked.target]:
        counts = run(target, asked.cases, asked.seed, asked.first)
        sys.stdout.write(
            f"{target}: {asked.cases} cases, {counts['read']} read, {counts['refused']} refused (seed {asked.seed})\n"
        )


if __name__ == "__main__":
    main()

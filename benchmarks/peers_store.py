"""Reading .nii.gz, decoding chunks, reading a store and converting into one, beside those who do the same."""

import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastct
from benchmarks.common import PATCH, Subject, boxes_in, fresh_folder, store_of
from benchmarks.comparing import Case, Rival, Work, largest_difference
from benchmarks.zarr_arrays import ZARRS, tensorstore_of, zarr_python_of
from fastct import shards
from fastct.geometry import Shape

Voxels = NDArray[Any]
Box = tuple[slice, ...]

PATCHES = 32
STUDIES = 8  # of one data set to convert: hard links of one file
CHUNK = shards.CHUNK_SHAPE
LARGE_CHUNK = (16, 128, 128)  # a size that Zarr's users take


def cases(subject: Subject) -> Iterator[Case]:
    """What is compared, on one CT whose bytes are warm."""
    yield read_case(subject)
    yield decode_case(subject)
    yield whole_case(subject)
    yield patches_case(subject)
    yield convert_case(subject)


# Reading


def read_case(subject: Subject) -> Case:
    """A .nii.gz to int16 voxels."""
    rivals = [
        Rival("libdeflate alone", lambda: libdeflate(subject.path), "deflate", None, 0.8),
        Rival("nibabel", lambda: nibabel(subject.path), "nibabel", 0.0, 3.0, array=lambda image: image.T),
        Rival("SimpleITK", lambda: simple_itk(subject.path), "SimpleITK", 0.0, 1.5),
    ]
    return Case("read .nii.gz", lambda: fastct.read_nifti(subject.path).hu, rivals)


def libdeflate(path: Path) -> Work:
    """Inflating, and nothing else."""
    import deflate

    def work() -> Voxels:
        raw = path.read_bytes()
        return np.frombuffer(deflate.gzip_decompress(raw, int.from_bytes(raw[-4:], "little")), np.uint8)

    return work


def nibabel(path: Path) -> Work:
    """Voxels as stored."""
    import nibabel as nib

    return lambda: np.asarray(nib.load(path).dataobj)


def simple_itk(path: Path) -> Work:
    """Voxels as stored."""
    import SimpleITK as sitk

    return lambda: sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


# Decoding


def decode_case(subject: Subject) -> Case:
    """All chunks of a shard into memory that is used again."""
    metadata = shards.array_metadata(subject.hu.shape, "int16", "ctpack", -1024)
    shard = bytes(shards.write_shard(subject.hu, metadata))
    out = shards.read_shard(shard, metadata)  # it begins a cache line, which NumPy's own memory need not
    rivals = [
        Rival("memcpy", lambda: memcpy(subject.hu), None, 0.0, 0.7),
        Rival("numcodecs Blosc(lz4, bitshuffle)", lambda: blosc(subject.hu), "numcodecs", None, 2.5),
    ]
    return Case("decode all chunks", lambda: shards.read_shard(shard, metadata, out=out), rivals)


def memcpy(hu: Voxels) -> Work:
    """A copy into memory that is used again."""
    out = np.zeros_like(hu)

    def work() -> Voxels:
        np.copyto(out, hu)
        return out

    return work


def blosc(hu: Voxels) -> Work:
    """Chunks of the same shape, each into the same memory."""
    from numcodecs.blosc import Blosc

    codec = Blosc("lz4", 5, Blosc.BITSHUFFLE)
    encoded = [codec.encode(chunk) for chunk in chunks(hu)]
    room = np.empty(CHUNK, np.int16)

    def work() -> Voxels:
        for chunk in encoded:
            codec.decode(chunk, room)
        return room

    return work


def chunks(hu: Voxels) -> Iterator[Voxels]:
    """The volume in chunks, filled up at its edges."""
    room = np.pad(hu, [(0, -n % c) for n, c in zip(hu.shape, CHUNK, strict=True)], "edge")
    for begin in np.ndindex(*(n // c for n, c in zip(room.shape, CHUNK, strict=True))):
        box = tuple(slice(b * c, (b + 1) * c) for b, c in zip(begin, CHUNK, strict=True))
        yield np.ascontiguousarray(room[box])


# Reading a store


def whole_case(subject: Subject) -> Case:
    """All voxels of a study, from its name on, into fresh memory."""
    store = fastct.open(store_of(subject.path))
    (study_id,) = store
    rivals = [
        Rival("memcpy into fresh memory", lambda: subject.hu.copy, None, 0.0),
        *readers(subject.hu, [(slice(None),) * 3]),
    ]
    return Case("open(...)[...].hu", lambda: store[study_id].hu, rivals)


def patches_case(subject: Subject) -> Case:
    """Patches from random places of one study."""
    (study_id,) = store = fastct.open(store_of(subject.path))
    study, boxes = store[study_id], boxes_in(subject.hu.shape, PATCH, PATCHES)
    shape = "×".join(str(s.stop - s.start) for s in boxes[0])
    work = f"{PATCHES} patches {shape}"
    return Case(work, lambda: [study.read(*box) for box in boxes][-1], readers(subject.hu, boxes))


def readers(hu: Voxels, boxes: Sequence[Box]) -> list[Rival]:
    """Those who read boxes of Zarr arrays, in Blosc's lz4; each answers the last box."""

    def tensorstore(chunk_shape: Shape) -> Work:
        array = tensorstore_of(hu, chunk_shape)
        return lambda: [array[box].read().result() for box in boxes][-1]

    def zarr_python(**pipeline: str) -> Work:
        array = zarr_python_of(hu, CHUNK, **pipeline)
        return lambda: [array[box] for box in boxes][-1]

    return [
        Rival("tensorstore, same chunks", lambda: tensorstore(CHUNK), "tensorstore", 0.0, 3.0),
        Rival("tensorstore, 16×128×128", lambda: tensorstore(LARGE_CHUNK), "tensorstore", 0.0, 3.0),
        Rival("zarrs, same chunks", lambda: zarr_python(pipeline=ZARRS), "zarrs", 0.0, 3.0),
        Rival("zarr-python, same chunks", zarr_python, "zarr", 0.0, 3.0),
    ]


# Converting


def convert_case(subject: Subject) -> Case:
    """A folder of studies into a store, one worker; all is on the disk at the end."""
    source, made = fresh_folder(), fresh_folder()
    paths = [source / f"study_{n}.nii.gz" for n in range(STUDIES)]
    for path in paths:
        link_or_copy(subject.path, path)
    fresh = (made / str(n) for n in count())

    def convert() -> Path:
        store = next(fresh)
        fastct.convert(source, store, workers=1)
        return store

    def apart(store: Any, other: Voxels) -> float:
        """How far the last study lies from what a peer wrote of it."""
        *_, study_id = opened = fastct.open(store.item())
        return largest_difference(opened[study_id].hu, other)

    rivals = [
        Rival("libdeflate alone", lambda: one_by_one([libdeflate(path) for path in paths]), "deflate", None, 1 / 1.6),
        Rival("nifti-zarr", lambda: nifti_zarr(paths), "nifti-zarr", 0.0, 4.0, voxels_of),
        Rival("ngff-zarr", lambda: ngff_zarr(paths), "ngff-zarr", 0.0, 4.0, voxels_of),
    ]
    return Case(f"convert {STUDIES} studies", convert, rivals, apart)


def voxels_of(groups: Sequence[Path]) -> Voxels:
    """The finest level of the last OME-Zarr that a peer wrote, as (z, y, x)."""
    import zarr

    group = zarr.open_group(groups[-1], mode="r")
    level = group.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]
    return np.asarray(group[level]).squeeze()


def one_by_one(works: list[Work]) -> Work:
    """Each in turn; its answer is let go before the next one needs memory."""

    def work() -> None:
        for one in works:
            one()

    return work


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name."""
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())


def nifti_zarr(paths: list[Path]) -> Work:
    """Each file into a NIfTI-Zarr of one level."""
    import niizarr

    made = fresh_folder()
    fresh = (made / str(n) for n in count())

    def convert(path: Path) -> Path:
        store = next(fresh)
        niizarr.nii2zarr(str(path), str(store), nb_levels=1, zarr_version=3, ome_version="0.5")
        return store

    return lambda: [convert(path) for path in paths]


def ngff_zarr(paths: list[Path]) -> Work:
    """Each file, read by nibabel, into an OME-Zarr of one level."""
    import ngff_zarr as ngff
    import nibabel as nib

    made = fresh_folder()
    fresh = (made / str(n) for n in count())

    def convert(path: Path) -> Path:
        store = next(fresh)
        image = ngff.to_ngff_image(np.asarray(nib.load(path).dataobj).T, dims=["z", "y", "x"])
        ngff.to_ngff_zarr(str(store), ngff.to_multiscales(image, scale_factors=[]), version="0.5")
        return store

    return lambda: [convert(path) for path in paths]

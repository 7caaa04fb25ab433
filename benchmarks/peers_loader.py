"""Batches of windowed patches, beside loaders from RAM, from tensorstore and from .nii.gz; two threads each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastct
from benchmarks.common import PATCH, WINDOW_HU, WINDOW_WIDTH, Subject, store_of
from benchmarks.comparing import Case, Rival, Work
from benchmarks.zarr_arrays import tensorstore_of
from fastct.shards import CHUNK_SHAPE
from fastct.transforms import Rotate, Scale, Sometimes, Uniform

BATCH, THREADS = 4, 2
SAMPLES, SLOW_SAMPLES = 256, 8
CACHED = 16  # copies of the volume that MONAI keeps in RAM
TURNS = (Rotate((Uniform(-15, 15), 0, 0)), Sometimes(Scale(Uniform(0.9, 1.1))))


def cases(subject: Subject) -> Iterator[Case]:
    """What is compared: an epoch of patches of one CT, whose bytes are warm."""
    patch = tuple(min(n, m) for n, m in zip(PATCH, subject.hu.shape, strict=True))
    work = "×".join(map(str, patch))
    fast, slow = epoch(subject, patch, SAMPLES), epoch(subject, patch, SLOW_SAMPLES)
    rivals = [
        Rival("NumPy, int16 in RAM", lambda: from_ram(subject, patch), None, WINDOW_WIDTH, 1.5),
        Rival("MONAI threads, CacheDataset", lambda: from_monai_cache(subject, patch), "monai", None, 2.5),
        Rival("DataLoader, tensorstore", lambda: from_tensorstore(subject, patch), "tensorstore", WINDOW_WIDTH, 5.0),
    ]
    yield Case(f"{SAMPLES} patches {work}", fast, rivals)
    files = Rival("MONAI from .nii.gz", lambda: from_files(subject, patch), "monai", None, 30.0)
    yield Case(f"{SLOW_SAMPLES} patches {work}", slow, [files])
    plain = Rival("without turning", lambda: fast, None, None, 1 / 3)
    yield Case(f"{SAMPLES} turned patches {work}", epoch(subject, patch, SAMPLES, TURNS), [plain])


def epoch(subject: Subject, patch: tuple[int, ...], samples: int, augment: tuple[Any, ...] = ()) -> Work:
    """A Loader's epoch, from its first batch to its last one, which is the answer."""
    data = fastct.Dataset(store_of(subject.path), patch, samples_per_study=samples, label="", augment=augment)
    loader = fastct.Loader(data, BATCH, THREADS, shuffle=False)

    def work() -> NDArray[Any]:
        loader.set_epoch(0)
        return last(loader)

    return work


def last(loader: Any) -> NDArray[Any]:
    """The last batch's image."""
    for batch in loader:
        image = batch["image"] if isinstance(batch, dict) else batch
    return np.asarray(image)


def boxes(subject: Subject, patch: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Where the same patches lie."""
    data = fastct.Dataset(store_of(subject.path), patch, samples_per_study=SAMPLES, label="")
    origins = [data.place(0, index).origin for index in range(SAMPLES)]
    return [tuple(slice(a, a + n) for a, n in zip(origin, patch, strict=True)) for origin in origins]


def windowed(hu: NDArray[Any], out: NDArray[Any]) -> None:
    """The window as one would write it in NumPy, without memory of its own."""
    low, high = WINDOW_HU
    np.subtract(hu, np.float32(low), out=out)
    np.multiply(out, np.float32(1 / (high - low)), out=out)
    np.clip(out, 0, 1, out=out)


def from_ram(subject: Subject, patch: tuple[int, ...]) -> Work:
    """Patches of a volume that lies in RAM, windowed into one batch that is used again."""
    batch = np.empty((BATCH, 1, *patch), np.float32)
    where = boxes(subject, patch)

    def work() -> NDArray[Any]:
        for number, box in enumerate(where):
            windowed(subject.hu[box], batch[number % BATCH, 0])
        return batch

    return work


def from_monai_cache(subject: Subject, patch: tuple[int, ...]) -> Work:
    """MONAI's fastest: windowed volumes kept in RAM and not copied, cropped at random by threads."""
    from monai.data import CacheDataset, ThreadDataLoader

    cached = CacheDataset([{"image": str(subject.path)}] * CACHED, crops(patch), copy_cache=False, progress=False)

    class Again:
        def __len__(self) -> int:
            return SAMPLES

        def __getitem__(self, index: int) -> Any:
            return cached[index % CACHED]

    loader = ThreadDataLoader(Again(), batch_size=BATCH, num_workers=THREADS, use_thread_workers=True)  # type: ignore[arg-type]
    return lambda: last(loader)


def from_files(subject: Subject, patch: tuple[int, ...]) -> Work:
    """MONAI without a cache: each patch costs reading its volume."""
    from monai.data import DataLoader
    from monai.data import Dataset as MonaiDataset

    data = MonaiDataset([{"image": str(subject.path)}] * SLOW_SAMPLES, crops(patch))
    loader = DataLoader(data, batch_size=BATCH, num_workers=0)
    return lambda: last(loader)


def crops(patch: tuple[int, ...]) -> Any:
    """Load, window and crop at random, as a MONAI user would."""
    from monai.transforms import Compose, LoadImaged, RandSpatialCropd, ScaleIntensityRanged

    low, high = WINDOW_HU
    window = ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True)
    crop = RandSpatialCropd("image", patch[::-1], random_size=False)
    return Compose([LoadImaged("image", ensure_channel_first=True), window, crop])


def from_tensorstore(subject: Subject, patch: tuple[int, ...]) -> Work:
    """torch's DataLoader over a Zarr array (Blosc lz4) that tensorstore reads with two threads."""
    from torch.utils.data import DataLoader

    array = tensorstore_of(subject.hu, CHUNK_SHAPE, THREADS)
    where = boxes(subject, patch)

    class Patches:
        def __len__(self) -> int:
            return len(where)

        def __getitem__(self, index: int) -> NDArray[Any]:
            out = np.empty((1, *patch), np.float32)
            windowed(array[where[index]].read().result(), out[0])
            return out

    loader = DataLoader(Patches(), batch_size=BATCH, num_workers=0)  # type: ignore[arg-type]
    return lambda: last(loader)

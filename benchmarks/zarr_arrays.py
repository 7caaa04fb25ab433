"""A volume as a Zarr v3 array in Blosc's lz4, opened by those who read Zarr: tensorstore, zarr-python, zarrs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import fresh_folder

Voxels = NDArray[Any]

BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": 2, "blocksize": 0}
ZARRS = "zarrs.ZarrsCodecPipeline"
ZARR_PYTHON = "zarr.core.codec_pipeline.BatchedCodecPipeline"


def tensorstore_of(hu: Voxels, chunk_shape: Sequence[int], threads: int = 1) -> Any:
    """Opened by tensorstore, without a cache."""
    import tensorstore

    array = tensorstore.open(_spec(hu, chunk_shape, fresh_folder(), threads)).result()
    array.write(hu).result()
    return array


def zarr_python_of(hu: Voxels, chunk_shape: Sequence[int], pipeline: str = ZARR_PYTHON) -> Any:
    """Opened by zarr-python with one thread; `pipeline` may be that of zarrs."""
    import tensorstore
    import zarr

    if pipeline == ZARRS:
        import zarrs  # noqa: F401 (left out where it is not installed)

    place = fresh_folder()
    tensorstore.open(_spec(hu, chunk_shape, place, 1)).result().write(hu).result()
    one_thread = {"threading.max_workers": 1, "codec_pipeline.max_workers": 1, "async.concurrency": 1}
    with zarr.config.set({"codec_pipeline.path": pipeline, **one_thread}):
        return zarr.open_array(place, mode="r")


def _spec(hu: Voxels, chunk_shape: Sequence[int], place: Path, threads: int) -> dict[str, Any]:
    chunk = [min(n, c) for n, c in zip(hu.shape, chunk_shape, strict=True)]
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "blosc", "configuration": BLOSC}]
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(place)},
        "context": {"data_copy_concurrency": {"limit": threads}, "file_io_concurrency": {"limit": threads}},
        "metadata": {
            "shape": list(hu.shape),
            "data_type": np.dtype(hu.dtype).name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": codecs,
        },
        "create": True,
    }

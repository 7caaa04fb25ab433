"""How cost grows with studies, threads, chunks and patches: `python -m benchmarks.curves [CURVE ...]`.

Each curve is measured on its own, written to results/curves.json beside those that stand there already, and drawn by
`benchmarks.plots` as results/<curve>.svg. Run it in the root of the repository, with nothing beside it; `studies` takes
the longest by far (`--most 1110` leaves out the largest set).
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

import fastct
from benchmarks.common import PATCH, WINDOW_HU, Subject, boxes_in, processor, store_of, subject
from benchmarks.plots import Curve, Line, draw
from fastct import shards

RESULTS = Path(__file__).parent / "results"
TO_MM = (8.0, 1.5, 1.5)
THREADS = (1, 2, 4)
VOLUMES = 4  # of them each number of threads does
CHUNKS = ((8, 32, 32), (4, 64, 64), (8, 64, 64), (16, 64, 64), (8, 128, 128), (16, 128, 128))
PATCHES = ((8, 8, 8), (8, 16, 16), (16, 32, 32), (16, 64, 64), (32, 128, 128), (32, 256, 256))
STUDIES = (10, 100, 1110, 11_100)
SMALL = (12, 96, 96)  # voxels of a study that is there for what it costs beside them
PLACES = 16  # patches that are read in a round
GB = 1e9

Seconds = dict[str, list[list[float]]]  # by line: for each place along it, those of each round


def main_of(curves: Sequence[str], ct: Path | None, budget_s: float, most: int) -> None:
    """Measure curves, one after the other, and draw each."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "curves.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for name in curves or CURVES:
        click.echo(f"{name} …")
        chosen = None if name == "studies" else subject(ct)
        curve = studies_curve(most) if chosen is None else CURVES[name](chosen, budget_s)
        of = (
            f"studies of {_times(SMALL)}"
            if chosen is None
            else f"{'a CT' if ct else 'a phantom'} of {_times(chosen.hu.shape)}"
        )
        found[name] = curve.to_json() | {"caption": f"{date.today()}, {processor()}, {of}"}
        path.write_text(json.dumps(found, indent=1) + "\n")
    for name, stored in found.items():
        (RESULTS / f"{name}.svg").write_text(draw(Curve.from_json(stored)))


def threads_curve(chosen: Subject, budget_s: float) -> Curve:
    """Four volumes by one, two and four threads: how many times as fast as by one."""
    hu, spacing_mm = chosen.hu, chosen.geometry.spacing_mm
    metadata = shards.array_metadata(hu.shape, "int16", "ctpack", -1024)
    shard = bytes(shards.write_shard(hu, metadata))
    sources = [hu.copy() for _ in range(VOLUMES)]
    decoded = [np.zeros_like(hu) for _ in range(VOLUMES)]
    windowed = fastct.window(sources, *WINDOW_HU)
    resampled = fastct.resample(sources, spacing_mm, TO_MM, WINDOW_HU)
    work: dict[str, Callable[[int], Any]] = {
        "read .nii.gz": lambda _: fastct.read_nifti(chosen.path),
        "decode a study": lambda n: shards.read_shard(shard, metadata, out=decoded[n]),
        "window": lambda n: fastct.window(sources[n], *WINDOW_HU, out=windowed[n]),
        "resample": lambda n: fastct.resample(sources[n], spacing_mm, TO_MM, WINDOW_HU, out=resampled[n]),
        "fill memory": lambda n: windowed[n].fill(0),
    }
    with (
        ThreadPoolExecutor(THREADS[0]) as one,
        ThreadPoolExecutor(THREADS[1]) as two,
        ThreadPoolExecutor(THREADS[2]) as four,
    ):
        pools = (one, two, four)
        calls = {name: [partial(_all, pool, do) for pool in pools] for name, do in work.items()}
        seconds = timed(calls, budget_s)
    lines = [
        Line(name, *summary([[a / b for a, b in zip(at[0], s, strict=True)] for s in at]))
        for name, at in seconds.items()
    ]
    return Curve("Threads", "threads", "times as fast as one", list(map(str, THREADS)), lines)


def _all(pool: ThreadPoolExecutor, do: Callable[[int], Any]) -> None:
    list(pool.map(do, range(VOLUMES)))


def chunks_curve(chosen: Subject, budget_s: float) -> Curve:
    """Whole reads and patches, by the shape of the chunks; below each, how much smaller the shard is."""
    usual = shards.ShardLayout.from_metadata(shards.array_metadata(chosen.hu.shape, "int16", "ctpack", -1024))
    boxes = boxes_in(chosen.hu.shape, PATCH, PLACES)
    ticks, calls = [], {"the whole study": [], "patches of 32×128×128": []}
    for chunk in CHUNKS:
        inside = tuple(min(n, c) for n, c in zip(chosen.hu.shape, chunk, strict=True))
        layout = replace(usual, chunk_shape=inside)
        shard = bytes(shards.write_shard(chosen.hu, layout))
        out = np.zeros_like(chosen.hu)
        ticks.append(f"{_times(chunk)}\n{chosen.hu.nbytes / len(shard):.2f}")
        calls["the whole study"].append(partial(shards.read_shard, shard, layout, None, out))
        calls["patches of 32×128×128"].append(partial(_each, partial(shards.read_shard, shard, layout), boxes))
    sizes = {
        "the whole study": [chosen.hu.nbytes] * len(CHUNKS),
        "patches of 32×128×128": [_bytes(boxes)] * len(CHUNKS),
    }
    return Curve(
        "Chunk shape", "chunk, and how much smaller the study is", "GB/s", ticks, rates(calls, sizes, budget_s)
    )


def patches_curve(chosen: Subject, budget_s: float) -> Curve:
    """Patches of a study of a store, by their size; tensorstore and zarr-python on the same chunks."""
    from benchmarks.zarr_arrays import tensorstore_of, zarr_python_of

    (study_id,) = store = fastct.open(store_of(chosen.path))
    study, tensor, zarr = (
        store[study_id],
        tensorstore_of(chosen.hu, shards.CHUNK_SHAPE),
        zarr_python_of(chosen.hu, shards.CHUNK_SHAPE),
    )
    readers: dict[str, Callable[[Any], Any]] = {
        "fastct": lambda box: study.read(*box),
        "tensorstore (Blosc lz4)": lambda box: tensor[box].read().result(),
        "zarr-python (Blosc lz4)": lambda box: zarr[box],
    }
    sizes = [[min(n, m) for n, m in zip(patch, chosen.hu.shape, strict=True)] for patch in PATCHES]
    boxes = [boxes_in(chosen.hu.shape, size, PLACES) for size in sizes]
    calls = {name: [partial(_each, read, several) for several in boxes] for name, read in readers.items()}
    lines = rates(calls, {name: list(map(_bytes, boxes)) for name in readers}, budget_s)
    return Curve(
        "Patch size", "patch (z×y×x), anywhere in the study", "GB/s", list(map(_times, sizes)), lines, log=True
    )


def _each(read: Callable[[Any], Any], boxes: Sequence[Any]) -> None:
    for box in boxes:
        read(box)


def _bytes(boxes: Sequence[tuple[slice, ...]]) -> int:
    return sum(2 * int(np.prod([s.stop - s.start for s in box])) for box in boxes)


def studies_curve(most: int) -> Curve:
    """Processor time of client and workers a study, by stage, in sets of many small studies."""
    from benchmarks.scale import stages

    ticks, milliseconds = [], {"convert": [], "score": [], "report": []}
    with tempfile.TemporaryDirectory(prefix="fastct-bench-") as folder:
        for studies in (n for n in STUDIES if n <= most):
            ticks.append(f"{studies:,}")
            for stage, found in stages(Path(folder), studies, SMALL, workers=2):
                click.echo(f"{studies} {stage} {found}")
                if stage in milliseconds:
                    milliseconds[stage].append(1e3 * found["cpu_s"] / studies)
            shutil.rmtree(Path(folder) / f"store-{studies}")
    lines = [Line(stage, values) for stage, values in milliseconds.items()]
    return Curve("Studies in the set", "studies", "processor ms a study", ticks, lines, log=True)


def timed(calls: dict[str, list[Callable[[], Any]]], budget_s: float) -> Seconds:
    """Seconds of every call, in turn, for as long as the budget lasts; three rounds at least, and one before."""
    seconds: Seconds = {name: [[] for _ in several] for name, several in calls.items()}
    for several in calls.values():
        for call in several:
            call()
    started = perf_counter()
    while perf_counter() - started < budget_s or len(next(iter(seconds.values()))[0]) < 3:
        for name, several in calls.items():
            for taken, call in zip(seconds[name], several, strict=True):
                begun = perf_counter()
                call()
                taken.append(perf_counter() - begun)
    return seconds


def rates(calls: dict[str, list[Callable[[], Any]]], sizes: dict[str, list[int]], budget_s: float) -> list[Line]:
    """Gigabytes a second of each call, whose bytes are given."""
    return [
        Line(
            name, *summary([[n_bytes / GB / s for s in taken] for n_bytes, taken in zip(sizes[name], at, strict=True)])
        )
        for name, at in timed(calls, budget_s).items()
    ]


def summary(values: list[list[float]]) -> tuple[list[float], list[float], list[float]]:
    """Median and quartiles at each place."""
    low, median, high = np.quantile(np.array(values), (0.25, 0.5, 0.75), axis=1).tolist()
    return median, low, high


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


CURVES: dict[str, Callable[[Subject, float], Curve]] = {
    "threads": threads_curve,
    "chunks": chunks_curve,
    "patches": patches_curve,
}


@click.command(help=__doc__)
@click.argument("curves", nargs=-1, type=click.Choice([*CURVES, "studies"]))
@click.option("--ct", type=click.Path(exists=True, path_type=Path), help="A .nii.gz to work on, in place of a phantom.")
@click.option("--budget", "budget_s", default=10.0, help="Seconds for each curve.")
@click.option("--most", default=STUDIES[-1], help="The largest set of studies.")
def main(curves: Sequence[str], ct: Path | None, budget_s: float, most: int) -> None:
    """See the top of the file."""
    main_of(curves, ct, budget_s, most)


if __name__ == "__main__":
    main()

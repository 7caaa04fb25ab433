"""Studies examined on a GPU, those of several threads together: compressed bytes travel there, labels come back."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from fastct import device
from fastct.carrier import pack_chunks
from fastct.geometry import Geometry
from fastct.gpu.lungs import collect_facts, draw_labels, find_lungs, flags_by
from fastct.gpu.opacity import draw_opacities
from fastct.gpu.studies import gather_studies, in_batches
from fastct.kernels.chunks import ChunkBox, begin_decoding
from fastct.lungs import DEFAULT, segment_lungs
from fastct.opacity import opacity_mask
from fastct.shelf import OpenArray, Shelf
from fastct.storage import Storage
from fastct.store import IMAGE


@dataclass(frozen=True, eq=False)
class Examined:
    """Voxels of a study, its lungs and opacities, and the flags of its lungs; all on the host."""

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]
    opacity: NDArray[np.uint8]
    flags: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Job:
    """A study that waits to be examined: bytes that hold its chunks, and their places in them."""

    source: NDArray[np.uint8]
    box: ChunkBox
    geometry: Geometry


def examine_study(storage: Storage, study_id: str, gpu: int) -> Examined:
    """Lungs and opacities of a stored study, found on a GPU.

    Studies that other threads bring meanwhile are examined in one batch.

    Raises
    ------
    StoreError, CodecError
        If the study is not there, or damaged.
    DeviceError
        If CuPy is not installed, or there is no such GPU.
    OptionError
        If it is not coded by ctpack.
    """
    return _desk(gpu).ask(_job(storage, study_id))


def examine_together(storage: Storage, study_ids: Sequence[str], gpu: int) -> list[Examined]:
    """The same of several studies, in batches that fit the GPU's memory; errors as for one."""
    jobs = [_job(storage, study_id) for study_id in study_ids]
    parts = in_batches([job.geometry.shape for job in jobs])
    return [examined for part in parts for examined in _desk(gpu).examine(jobs[part])]


def _job(storage: Storage, study_id: str) -> _Job:
    card = Shelf(storage, 1).card(study_id)
    array = OpenArray(storage, card, IMAGE)
    begin, shape = (0, 0, 0), array.layout.shape
    source, index = array.chunks(begin, shape)
    return _Job(source, ChunkBox(array.layout, index, begin, shape, name=array.name), card.geometry)


@cache
def _desk(gpu: int) -> "_Desk":
    return _Desk(gpu)


class _Desk:
    """A GPU's desk: many threads bring studies, and whoever is there when it is free takes all that lie on it."""

    def __init__(self, gpu: int) -> None:
        self._gpu = gpu
        self._side: device.SideStream | None = None
        self._waiting: list[tuple[_Job, Future[Examined]]] = []
        self._lock, self._turn = Lock(), Lock()

    def ask(self, job: _Job) -> Examined:
        """What was found in a study; raises what went wrong with it."""
        answer: Future[Examined] = Future()
        with self._lock:
            self._waiting.append((job, answer))
        with self._turn:  # who waited for it may find its study examined
            if not answer.done():
                with self._lock:
                    taken, self._waiting = self._waiting, []
                for part in in_batches([one.geometry.shape for one, _ in taken]):
                    self._answer(taken[part])
        return answer.result()

    def _answer(self, taken: Sequence[tuple[_Job, Future[Examined]]]) -> None:
        """Examine some studies together; if that fails, each by itself, so that it fails for the one at fault."""
        try:
            found = self._examine([job for job, _ in taken])
        except Exception as error:  # noqa: BLE001  it goes to the thread whose study it is
            if len(taken) == 1:
                taken[0][1].set_exception(error)
                return
            for one in taken:
                self._answer([one])
        else:
            for (_, answer), examined in zip(taken, found, strict=True):
                answer.set_result(examined)

    def examine(self, jobs: Sequence[_Job]) -> list[Examined]:
        """What was found in some studies, in one batch."""
        with self._turn:
            return self._examine(jobs)

    def _examine(self, jobs: Sequence[_Job]) -> list[Examined]:
        """Decode, find lungs and opacities, fetch all of it; the GPU is waited for at the end."""
        self._side = side = self._side or device.SideStream(self._gpu)
        boxes, n_bytes = pack_chunks([(job.source, job.box) for job in jobs], side)
        volumes = [side.empty_on_current_stream(box.shape, np.int16) for box in boxes]
        geometries = [job.geometry for job in jobs]
        with side.entered():
            decoding = begin_decoding(side.send(n_bytes), boxes, volumes)
            studies = gather_studies(volumes, geometries)
            found = find_lungs(studies, DEFAULT)
            lungs = draw_labels(studies, found, geometries)
            opacities = draw_opacities(studies, found.right | found.left, geometries)
            facts = collect_facts(studies, found)
            fetched = device.to_host_together(*facts, *volumes, *lungs, *opacities)
        decoding.finish()
        flags = flags_by(studies, fetched[: len(facts)], geometries)
        arrays = fetched[len(facts) :]
        of_kinds = (arrays[kind * len(jobs) : (kind + 1) * len(jobs)] for kind in range(3))
        return [
            Examined(hu, one, opacity, words) if words is not None else _on_cpu(hu, geometry)
            for hu, one, opacity, words, geometry in zip(*of_kinds, flags, geometries, strict=True)
        ]


def _on_cpu(hu: NDArray[np.int16], geometry: Geometry) -> Examined:
    """The same of a study that needs larger tables than the GPU had."""
    found = segment_lungs(hu, geometry)
    return Examined(hu, found.labels, opacity_mask(hu, found.labels, geometry), found.flags)

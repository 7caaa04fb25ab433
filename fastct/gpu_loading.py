"""Batches for training that are made on a GPU: compressed bytes travel, and are decoded and gathered there."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from fastct.carrier import Carrier, Load, Wanted
from fastct.dataset import Dataset
from fastct.kernels.gather import gather
from fastct.kernels.maps import Reading
from fastct.readahead import Batch


class GpuReadAhead:
    """Does for a GPU what a ReadAhead does on the host, without threads: some batches are always under way there.

    Parameters
    ----------
    batches : numbers of the samples of each batch, in order.
    dataset, epoch : whose samples.
    carrier : brings the boxes of batches to the GPU: all but one of those that it allows are under way while that
        one is worked on.
    """

    def __init__(self, batches: Sequence[Sequence[int]], dataset: Dataset, epoch: int, carrier: Carrier) -> None:
        self._todo = deque(batches)
        self._dataset, self._epoch = dataset, epoch
        self._carrier = carrier
        self._under_way: deque[tuple[Batch, Load]] = deque()
        self._fault: Exception | None = None

    def take(self) -> Batch | None:
        """The next batch, once it is there and known to be sound; None after the last one.

        Raises
        ------
        StoreError
            That names the study and the chunk that is damaged; the same again on every further call.
        """
        if self._fault is not None:
            raise self._fault
        try:
            return self._next()
        except Exception as error:
            self._fault = error
            raise

    def close(self) -> None:
        """Begin no further batch, and let go of those that are under way."""
        self._todo.clear()
        while self._under_way:
            self._under_way.popleft()[1].settle()
        self._carrier.close()

    def join(self) -> None:
        """Nothing is under way any more."""
        self._carrier.close()

    def _next(self) -> Batch | None:
        while self._todo and self._carrier.idle:
            self._under_way.append(self._begin(self._todo.popleft()))
        if not self._under_way:
            return None
        batch, load = self._under_way.popleft()
        names = ("image", "label") if self._dataset.label else ("image",)
        batch.arrays = dict(zip(names, load.finish(), strict=True))
        return batch

    def _begin(self, samples: Sequence[int]) -> tuple[Batch, Load]:
        reader = self._dataset.reader
        places = [self._dataset.place(self._epoch, sample) for sample in samples]
        kinds = [self._dataset.options.dtype, "uint8"] if self._dataset.label else [self._dataset.options.dtype]
        wanted: list[Wanted] = []
        readings: list[Reading] = []
        for number in range(len(kinds)):
            for place in places:
                box, reading = reader.source(place, number)
                wanted.append(box)
                readings.append(reading)

        def gather_rows(volumes: list[Any], batches: list[Any]) -> None:
            for number, (kind, rows) in enumerate(zip(kinds, batches, strict=True)):
                own = slice(number * len(places), (number + 1) * len(places))
                gather(volumes[own], readings[own], kind, [rows[k, 0] for k in range(len(places))])

        shape = (len(samples), 1, *places[0].shape)
        load = self._carrier.begin(wanted, [(shape, kind) for kind in kinds], gather_rows)
        return Batch(samples, {}, list(places)), load

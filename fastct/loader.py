"""Batches for training: read ahead by threads that hold no lock while they decode, in an order that a seed decides."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastct.carrier import Carrier
from fastct.dataset import Dataset
from fastct.device import find_gpus
from fastct.errors import OptionError
from fastct.geometry import Shape
from fastct.gpu_loading import GpuReadAhead
from fastct.options import check_device, refuse_unknown, require
from fastct.patches import Place
from fastct.readahead import Arrays, Batch, ReadAhead, Ring
from fastct.sampling import epoch_order, is_count

Batches = dict[str, Any]


@dataclass(frozen=True)
class LoadOptions:
    """How samples become batches.

    Parameters
    ----------
    batch_size : samples of a batch; the last one of an epoch may hold fewer.
    threads : that read and decode; for a GPU, that read what travels there.
    device : "cpu"; or "cuda" or "cuda:N", to which compressed bytes travel, and where batches are made: then `image`
        and `label` are CuPy's arrays.
    rank, world_size : which share of each epoch is ours, and of how many; shares never overlap.
    shuffle : take the samples in an order drawn from the seed and the epoch; else in that of their numbers.
    drop_last : leave out a last batch that is not full; then all ranks have as many batches.
    ahead : batches that are read ahead of the one that the training loop works on.
    as_torch : arrays are torch tensors (on the same memory) instead of NumPy's.

    Raises
    ------
    OptionError
        If options are outside their range.
    """

    batch_size: int = 4
    threads: int = 2
    device: str = "cpu"
    rank: int = 0
    world_size: int = 1
    shuffle: bool = True
    drop_last: bool = False
    ahead: int = 2
    as_torch: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "world_size", "ahead"):
            value = getattr(self, name)
            if not is_count(value):
                raise OptionError(name, f"it is {value!r}", "Give a whole number of at least 1")
        if not 0 <= self.rank < self.world_size:
            raise OptionError("rank", f"it is {self.rank} of {self.world_size}", "Give 0 up to world_size - 1")
        check_device(self.device, ("cpu",))
        if self.as_torch:
            require("as_torch", "torch")


class Loader:
    """Batches of a data set, for training: dicts as the data set's samples are, with a first axis more.

    `image` (b, 1, z, y, x), `label` (b, 1, z, y, x) where there is one, `origin` (b, 3), `affine` (b, 4, 4), and
    `study_id`, a list.

    Iterating goes through one epoch, and then on to the next; after an early break the same epoch begins anew. The
    samples of an epoch and their order follow from the seed and the epoch alone, not from threads or batch size. A
    batch's memory is yours as long as you refer to it (or to views or tensors of it), and is used again after.

    Parameters
    ----------
    dataset : whose samples.
    batch_size, threads, options : see `LoadOptions`.

    Raises
    ------
    OptionError
        If options are outside their range, or samples of different shapes are to share a batch.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     _ = fastct.convert(f"{folder}/ct", f"{folder}/store", workers=1)
    ...     patches = fastct.Dataset(f"{folder}/store", (4, 32, 32), samples_per_study=3, label="")
    ...     [batch["image"].shape for batch in fastct.Loader(patches, batch_size=3, threads=2)]
    [(3, 1, 4, 32, 32), (3, 1, 4, 32, 32)]
    """

    def __init__(self, dataset: Dataset, batch_size: int = 4, threads: int = 2, **options: Any) -> None:
        refuse_unknown(options, LoadOptions)
        if not isinstance(dataset, Dataset):
            raise OptionError("dataset", f"it is {type(dataset).__name__}", "Give a fastct.Dataset of the store")
        self.options = LoadOptions(batch_size, threads, **options)
        self.dataset = dataset
        self.epoch = 0
        self._seen = 0  # samples of this rank that the training loop was given in this epoch
        self._resume = False
        self._current: weakref.ref[_Pass] | None = None
        if dataset.sample_shape is None and batch_size > 1:
            finding = "the samples of this data set differ in shape"
            raise OptionError("batch_size", finding, "Give a shape, or a patch with the spacing, or batch_size=1")
        kinds: dict[str, Any] = {"image": dataset.options.dtype}
        self._ring = Ring(batch_size, {**kinds, "label": "uint8"} if dataset.label else kinds)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self._share() // self.options.batch_size)

    def __iter__(self) -> Iterator[Batches]:
        if not self._resume:
            self._seen = 0
        self._resume = False
        current = _Pass(self)
        self._current = weakref.ref(current)
        return current

    def set_epoch(self, epoch: int) -> None:
        """Go on with the beginning of an epoch."""
        if epoch < 0:
            raise OptionError("epoch", f"it is {epoch}", "Give 0 or more")
        self.epoch, self._seen, self._resume, self._current = epoch, 0, False, None

    def state_dict(self) -> dict[str, int]:
        """Where training is: the epoch, and how many of its samples this rank was given."""
        return {"epoch": self.epoch, "seen": self._seen, **self._identity()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader was: with any number of threads, and any batch size.

        Raises
        ------
        OptionError
            If that one's data set, seed or ranks were others, so that its samples are not ours.
        """
        for name, own in self._identity().items():
            if state.get(name) != own:
                finding = f"{name} was {state.get(name)}, and here is {own}"
                raise OptionError("state", finding, "Make the data set and the loader as they were")
        self.epoch, self._seen, self._resume, self._current = int(state["epoch"]), int(state["seen"]), True, None

    def _identity(self) -> dict[str, int]:
        options = self.options
        ranks = {"rank": options.rank, "world_size": options.world_size, "shuffle": int(options.shuffle)}
        return {"samples": len(self.dataset), "seed": self.dataset.options.seed, **ranks}

    def _share(self) -> int:
        """Samples of an epoch that are ours."""
        n, options = len(self.dataset), self.options
        if options.drop_last:
            return n // options.world_size // options.batch_size * options.batch_size
        return len(range(options.rank, n, options.world_size))

    def _todo(self) -> list[list[int]]:
        """Numbers of the samples of each batch that is still to come in this epoch."""
        options = self.options
        order = epoch_order(self.dataset.options.seed, self.epoch, len(self.dataset), options.shuffle)
        own = order[options.rank :: options.world_size][: self._share()][self._seen :].tolist()
        batches = [own[first : first + options.batch_size] for first in range(0, len(own), options.batch_size)]
        return [batch for batch in batches if len(batch) == options.batch_size or not options.drop_last]

    def _gave(self, batch: Batch | None, by: "_Pass") -> None:
        """Note what the training loop was given by its latest pass: a batch, or all of an epoch."""
        if self._current is None or self._current() is not by:
            return
        if batch is None:
            self.epoch, self._seen = self.epoch + 1, 0
        else:
            self._seen += len(batch.samples)


class _Pass(Iterator[Batches]):
    """One pass over what is left of an epoch. Letting go of it ends its threads."""

    def __init__(self, loader: Loader) -> None:
        options = loader.options
        self._loader = loader
        self._as_torch = options.as_torch
        self._ahead: ReadAhead | GpuReadAhead
        gpu = next(iter(find_gpus(options.device)), None)
        if gpu is None:
            epoch = _Epoch(loader.dataset, loader.epoch)
            self._ahead = ReadAhead(loader._todo(), epoch, loader._ring, options.threads, options.ahead)
        else:
            carrier = Carrier(loader.dataset.reader.shelf, gpu, options.ahead + 1, options.threads)
            self._ahead = GpuReadAhead(loader._todo(), loader.dataset, loader.epoch, carrier)
        self._ended = False
        self._let_go = weakref.finalize(self, self._ahead.close)

    def __next__(self) -> Batches:
        if self._ended:
            raise StopIteration
        try:
            batch = self._ahead.take()
        except Exception:
            self._let_go()  # its error refers to this pass, and the finalizer to its error: neither would ever go
            raise
        self._loader._gave(batch, self)
        if batch is None:
            self._ended = True
            self._ahead.join()
            raise StopIteration
        return self._dict_of(batch.arrays, batch.known)

    def _dict_of(self, arrays: Arrays, places: list[Place]) -> Batches:
        arrays = {
            **arrays,
            "origin": np.array([place.origin for place in places], np.int64),
            "affine": np.array([place.affine for place in places]),
        }
        studies = {"study_id": [place.study_id for place in places]}
        if not self._as_torch:
            return {**arrays, **studies}
        import torch

        return {**{name: _tensor(array, torch) for name, array in arrays.items()}, **studies}


def _tensor(array: Any, torch: Any) -> Any:
    """A tensor on the memory of an array, where it lies."""
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.utils.dlpack.from_dlpack(array)


@dataclass(frozen=True)
class _Epoch:
    """The samples of one epoch, as a ReadAhead reads them."""

    dataset: Dataset
    number: int

    def shape_of(self, sample: int) -> Shape:
        return self.dataset.sample_shape or self.dataset.place(self.number, sample).shape

    def read(self, sample: int, arrays: Arrays, row: int) -> Place:
        place = self.dataset.place(self.number, sample)
        label = arrays["label"][row, 0] if "label" in arrays else None
        self.dataset.reader.read(place, arrays["image"][row, 0], label)
        return place

    def name(self, sample: int) -> str:
        return f"sample {sample} (study {self.dataset.plan.at(sample)[0]}) of epoch {self.number}"

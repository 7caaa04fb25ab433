"""A data set for training: samples by number, for any torch DataLoader and for `fastct.Loader`."""

import csv
import io
import operator
import os
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fastct.errors import OptionError, StoreError
from fastct.geometry import Shape
from fastct.options import refuse_unknown, require
from fastct.patches import Place, Reader
from fastct.sampling import AUTOMATIC, Plan, SampleOptions
from fastct.shelf import Shelf
from fastct.store import Store
from fastct.store import open as open_store
from fastct.tables import TABLE

if TYPE_CHECKING:
    from fastct.adapters import MonaiDataset, TorchioDataset

Sample = dict[str, Any]
LABEL = "lesion"  # what "auto" takes where every study has it


class Dataset:
    """Samples of a store by number: map-style, so that any torch DataLoader takes it; it can be pickled.

    A sample is a dict: `image` (1, z, y, x) of the dtype asked for; `label` (1, z, y, x) uint8, where there is one;
    `study_id`; `origin` (3,) int64, the first voxel along (z, y, x), before augmentation, on the study's grid or on
    that of the resampled volume; `affine` (4, 4) float64, which maps voxel (x, y, z) of the sample to RAS mm.

    Sample `index` of epoch `epoch` depends on the seed and on these two alone. `dataset[index]` is of the epoch that
    `set_epoch` set, `dataset[epoch, index]` of any: workers that outlive an epoch need pairs from their sampler.

    Parameters
    ----------
    store : what `fastct.open` gives, or its path.
    patch, window_hu, samples_per_study, seed, options : see `fastct.sampling.SampleOptions`.

    Raises
    ------
    OptionError
        If options are outside their range, or do not go together.
    StoreError
        If the store has no such studies or labels.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     _ = fastct.convert(f"{folder}/ct", f"{folder}/store", workers=1)
    ...     dataset = fastct.Dataset(f"{folder}/store", patch=(4, 32, 32), samples_per_study=3, label="")
    ...     len(dataset), dataset[0]["image"].shape, dataset[0]["image"].dtype
    (6, (1, 4, 32, 32), dtype('float32'))
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        patch: Shape | None = None,
        window_hu: tuple[float, float] | None = (-1000.0, 400.0),
        samples_per_study: int | None = None,
        seed: int = 7,
        **options: Any,
    ) -> None:
        refuse_unknown(options, SampleOptions)
        self.options = SampleOptions(patch, window_hu, samples_per_study, seed, **options)
        self.store = store if isinstance(store, Store) else open_store(store)
        self.epoch = 0
        self._reader: Reader | None = None
        rows = _rows(self.store)
        studies = self._studies()
        self.label = self._label(studies, rows)
        shapes = self._shapes(studies, rows) if self.options.kind == "slices" else []
        counts = [shape[0] for shape in shapes] or [self.options.count] * len(studies)
        self.plan = Plan(studies, np.cumsum(counts, dtype=np.int64))
        self.sample_shape = self._sample_shape(shapes)  # (z, y, x), or None where it differs

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        epoch, number = index if isinstance(index, tuple) else (self.epoch, index)
        return self.sample(operator.index(epoch), operator.index(number))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}  # maps and locks stay where they are

    def set_epoch(self, epoch: int) -> None:
        """Have `dataset[index]` give the samples of another epoch."""
        if epoch < 0:
            raise OptionError("epoch", f"it is {epoch}", "Give 0 or more")
        self.epoch = epoch

    def sample(self, epoch: int, index: int) -> Sample:
        """Sample `index` of an epoch, in memory of its own.

        Raises
        ------
        IndexError
            If the data set has no such sample.
        StoreError
            That names the study and the chunk that is damaged.
        """
        place = self.place(epoch, index)
        image = np.empty((1, *place.shape), self.options.dtype)
        label = np.empty((1, *place.shape), np.uint8) if self.label else None
        self.reader.read(place, image[0], None if label is None else label[0])
        labelled = {} if label is None else {"label": label}
        where = {"origin": np.array(place.origin, np.int64), "affine": place.affine.copy()}
        return {"image": image, **labelled, "study_id": place.study_id, **where}

    def place(self, epoch: int, index: int) -> Place:
        """Which part of which study a sample is: plain values that can be printed.

        Raises
        ------
        IndexError
            If the data set has no such sample.
        """
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"sample {index} of {n}")
        study_id, number = self.plan.at(index % n)
        return self.reader.place(study_id, number, (self.options.seed, epoch, index % n))

    @property
    def reader(self) -> Reader:
        """What reads the samples, in this process."""
        reader = self._reader
        if reader is None or reader.shelf.process != os.getpid():  # a fork could have taken a held lock along
            shelf = Shelf(self.store.storage, self.options.open_studies)
            reader = self._reader = Reader(shelf, self.options, self.label)
        return reader

    def as_monai(self) -> "MonaiDataset":
        """These samples as MONAI has them: see `fastct.adapters.MonaiDataset`."""
        require("as_monai", "torch", "monai")
        return import_module("fastct.adapters").MonaiDataset(self)  # type: ignore[no-any-return]

    def as_torchio(self) -> "TorchioDataset":
        """These samples as TorchIO has them: see `fastct.adapters.TorchioDataset`."""
        require("as_torchio", "torch", "torchio")
        return import_module("fastct.adapters").TorchioDataset(self)  # type: ignore[no-any-return]

    def _studies(self) -> tuple[str, ...]:
        wanted = self.options.studies
        studies = tuple(sorted(set(self.store if wanted is None else wanted)))
        missing = set(studies).difference(self.store)
        if missing:
            raise self.store.lacks(", ".join(sorted(missing)[:3]))
        if not studies:
            raise StoreError(self.store.storage, "it holds no studies", "Run `fastct convert`")
        return studies

    def _label(self, studies: tuple[str, ...], rows: dict[str, dict[str, str]]) -> str:
        if self.options.label != AUTOMATIC:
            return self.options.label or ""
        return LABEL if all(rows.get(study, {}).get("lesion_source") for study in studies) else ""

    def _shapes(self, studies: tuple[str, ...], rows: dict[str, dict[str, str]]) -> list[Shape]:
        """Shape of every volume, from the table where it knows them."""
        shapes = []
        for study in studies:
            found = [rows.get(study, {}).get(f"shape_{axis}", "") for axis in "zyx"]
            known = all(text.isdigit() for text in found)
            z, y, x = map(int, found) if known else self.reader.shelf.card(study).geometry.shape
            shapes.append((z, y, x))
        return shapes

    def _sample_shape(self, shapes: list[Shape]) -> Shape | None:
        options = self.options
        if options.patch is not None:
            return options.patch
        if not options.slices:
            return None if options.shape is None else (options.shape[0], options.shape[1], options.shape[2])
        if options.shape is not None:
            return (options.slices, *options.shape)  # type: ignore[return-value]
        planes = {shape[1:] for shape in shapes}
        return (options.slices, *planes.pop()) if len(planes) == 1 and options.spacing_mm is None else None


def _rows(store: Store) -> dict[str, dict[str, str]]:
    """The rows of the store's table, as text, by study; none where it has no table."""
    if not store.storage.exists(TABLE):
        return {}
    text = store.storage.read(TABLE).decode()
    return {row["study_id"]: row for row in csv.DictReader(io.StringIO(text))}

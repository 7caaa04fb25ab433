"""Stacks of slices on a GPU: the tables and sizes of launches over the words of their masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastct import device
from fastct.errors import ArrayError

THREADS = (256, 1)
WORD_BITS = 64
WORD_BYTES = WORD_BITS // 8
MOST_WORDS = 2**26  # of a mask, so that an int numbers them all, and their 32 slots each

# A volume of voxels at any strides: `Volume` in bitrows.h.
VOLUME = np.dtype(
    [
        ("voxels", np.uint64),
        ("strides", np.int64, 3),
        ("first_block", np.int64),
        ("first_slice", np.int32),
        ("shape", np.int32, 3),
    ]
)
# `Study` and `Stack` in stack.h.
STUDY = np.dtype([("first_slice", np.int32), ("slices", np.int32), ("rows", np.int32), ("columns", np.int32)])
STACK = np.dtype([("tables", np.uint64, 3), ("studies", np.int32), ("shape", np.int32, 3)])


class Stack:
    """The slices of several studies, one after another in one frame, and the part of it in which launches work.

    Parameters
    ----------
    shapes : (z, y, x) of each study.
    beside : an array on the GPU where the stack lies.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], beside: Any) -> None:
        slices, rows, columns = (np.array(sizes) for sizes in zip(*shapes, strict=True))
        words = -(-columns // WORD_BITS)
        self.shape = (int(slices.sum()), int(rows.max()), int(words.max()))
        self.beside = beside
        studies = np.zeros(len(shapes), STUDY)
        studies["first_slice"] = slices.cumsum() - slices
        studies["slices"], studies["rows"], studies["columns"] = slices, rows, columns
        study_of = np.repeat(np.arange(len(shapes), dtype=np.int32), slices)
        frames = np.stack([0 * rows, rows, 0 * rows, words], axis=1).astype(np.int32)
        check_size(self.shape)
        self.studies = studies
        self._tables = [device.copy_beside(beside, table) for table in (study_of, studies.view(np.int32))]
        self._set_frames(device.copy_beside(beside, frames))

    def _set_frames(self, frames: Any) -> None:
        self.frames = frames
        own = np.zeros(1, STACK)
        own["tables"] = [device.address(table) for table in (*self._tables, frames)]
        own["studies"], own["shape"] = len(self), self.shape
        self.table = device.copy_beside(self.beside, own.view(np.uint8))

    def __len__(self) -> int:
        return len(self.studies)

    def within(self, frames: Any) -> "Stack":
        """The same slices with other frames: int32 (studies, 4) on the GPU, rows and words from and to."""
        other = object.__new__(Stack)
        other.shape, other.beside, other.studies, other._tables = self.shape, self.beside, self.studies, self._tables
        other._set_frames(frames)
        return other

    @property
    def size(self) -> int:
        """Words of a mask."""
        slices, rows, words = self.shape
        return slices * rows * words

    def empty(self, dtype: Any = np.uint64) -> Any:
        """An array of a word each."""
        return device.empty_beside(self.beside, self.shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of zeros of any shape."""
        return device.zeros_beside(self.beside, shape, dtype)

    def over_words(self, module: str, kernel: str, *arguments: Any) -> None:
        """Launch a thread for every word of a mask."""
        self.launch(module, kernel, -(-self.size // THREADS[0]), *arguments)

    def over_studies(self, module: str, kernel: str, *arguments: Any) -> None:
        """Launch a block for every study."""
        self.launch(module, kernel, len(self), *arguments)

    def launch(self, module: str, kernel: str, blocks: int, *arguments: Any) -> None:
        """Launch blocks of THREADS threads.

        Whole numbers among the arguments pass as int32; a stack, its pieces and their pairs as their `table`, and all
        that it leads to stays until the kernel is queued.
        """
        tables = (getattr(item, "table", item) for item in arguments)
        passed = tuple(np.int32(item) if isinstance(item, int) else item for item in tables)
        device.launch(module, kernel, blocks, THREADS, passed, beside=self.beside)

    def volumes(self, volumes: Sequence[Any], units_of_a_row: int) -> tuple[tuple[Any, Any], int]:
        """The table of a launch over the studies' voxels (and its length), and its blocks, a thread a unit."""
        table = np.zeros(len(self), VOLUME)
        blocks = 0
        for row, voxels, study in zip(table, volumes, self.studies, strict=True):
            row["voxels"], row["shape"] = device.address(voxels), voxels.shape
            row["strides"] = [stride // voxels.itemsize for stride in voxels.strides]
            row["first_block"], row["first_slice"] = blocks, study["first_slice"]
            blocks += -(-voxels.shape[0] * self.shape[1] * units_of_a_row // THREADS[0])
        return (table.view(np.uint8), np.int32(len(table))), blocks


def stack_of(mask: Any) -> Stack:
    """The stack of a single study's mask, all of its frame of interest."""
    slices, rows, words = mask.shape
    return Stack([(slices, rows, words * WORD_BITS)], mask)


def check_size(shape: tuple[int, ...]) -> None:
    """Refuse masks whose words kernels cannot number."""
    words = int(np.prod(shape))
    if words > MOST_WORDS:
        finding = f"its masks take {words} words, more than {MOST_WORDS}"
        raise ArrayError("volume", finding, "Score it on the CPU, or cut it in parts")

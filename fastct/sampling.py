"""What a data set for training holds: its options, the samples of an epoch, and which part of a study each one is."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastct.draws import Draws
from fastct.errors import OptionError
from fastct.foreground import Foreground
from fastct.frame import UPRIGHT, Frame
from fastct.geometry import Shape
from fastct.kernels.maps import Grid
from fastct.ome import LABELS
from fastct.steps import Resample, Step, Window
from fastct.transforms import AIR_HU, Preprocess

PATCH: Shape = (32, 128, 128)
SAMPLES_PER_STUDY = 4  # patches of a study in an epoch
DTYPES = ("float32", "float16", "uint8")
PLACE = 2**32 - 1  # the draw of a patch's place, beyond those of the steps
ORDER = 2**32 - 1  # the draw of an epoch's order, beyond those of its samples
AUTOMATIC = "auto"

WantedSpacing = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class SampleOptions:
    """What each sample of a data set is.

    One of four shapes of work: patches (`patch`, the default), slices or stacks of slices (`slices`), whole volumes
    resampled to a `shape`, or to a `spacing_mm` (with a `patch`: patches of the resampled volume).

    Parameters
    ----------
    patch : (z, y, x) voxels of a patch; it is filled with air where a volume is smaller.
    window_hu : (low, high), mapped to [0, 1] ([0, 255] for uint8); None leaves HU, as float32 or float16.
    samples_per_study : of an epoch; 4 patches or 1 volume unless given. Slices are all taken, each once.
    seed : decides, with the epoch and the number of a sample, all that is drawn.
    slices : 1 for 2-D samples, 3, 5, ... for stacks around each slice (air beyond the first and the last).
    shape : (z, y, x) that a volume is resampled to; (y, x) for slices.
    spacing_mm : (z, y, x) that a volume is resampled to; None leaves an axis as it is.
    label : "lesion", "lung", None or "" for none, or "auto": "lesion" where every study has one, else none.
    balance : "lesion" or "lung": patches lie around a voxel of that label, or around one outside of it.
    pos, neg : how often the one and the other are drawn, as weights.
    augment : steps of `fastct.transforms`, done after windowing, in the same pass.
    dtype : of images: float32, float16 or uint8.
    studies : ids of those to take, in any order; all unless given.
    open_studies : how many are held open (mapped) at a time.

    Raises
    ------
    OptionError
        If options are outside their range, or do not go together.
    """

    patch: Shape | None = None
    window_hu: tuple[float, float] | None = (-1000.0, 400.0)
    samples_per_study: int | None = None
    seed: int = 7
    slices: int = 0
    shape: tuple[int, ...] | None = None
    spacing_mm: WantedSpacing | None = None
    label: str | None = AUTOMATIC
    balance: str = ""
    pos: float = 1.0
    neg: float = 1.0
    augment: tuple[Step, ...] = ()
    dtype: str = "float32"
    studies: tuple[str, ...] | None = None
    open_studies: int = 64

    def __post_init__(self) -> None:
        if self.patch is None and not (self.slices or self.shape or self.spacing_mm):
            object.__setattr__(self, "patch", PATCH)
        if self.label is None:
            object.__setattr__(self, "label", "")
        for name in ("patch", "shape", "spacing_mm", "window_hu", "augment", "studies"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else _tuple(name, value))
        object.__setattr__(self, "dtype", _dtype_name(self.dtype))
        _check_numbers(self)
        _check_shapes(self)

    @property
    def kind(self) -> Literal["patches", "slices", "volumes"]:
        """Which of the shapes of work it is."""
        if self.slices:
            return "slices"
        return "volumes" if self.patch is None else "patches"

    @property
    def count(self) -> int:
        """Samples of a study in an epoch; not for slices."""
        return self.samples_per_study or (SAMPLES_PER_STUDY if self.kind == "patches" else 1)

    def resampled(self, shape: Shape) -> tuple[Step, ...]:
        """The step that resamples a volume of that shape, if there is one."""
        if self.spacing_mm is not None:
            return (Resample(spacing_mm=self.spacing_mm),)
        if self.shape is not None:
            y, x = self.shape[-2:]
            return (Resample(shape=(shape[0] if self.kind == "slices" else self.shape[0], y, x)),)
        return ()

    def chain(self, shape: Shape, box: "Box | None") -> Preprocess:
        """All that is done to a volume of that shape for one sample: resample, window, cut out, augment."""
        window = () if self.window_hu is None else (Window(*self.window_hu),)
        cut = () if box is None else (box,)
        return Preprocess((*self.resampled(shape), *window, *cut, *self.augment), self.dtype, AIR_HU)


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    """A list, tuple or array as a tuple; a text is none, though Python can take it apart."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise OptionError(name, f"it is {value!r}", "Give a tuple or list")
    return tuple(value)


def _dtype_name(dtype: Any) -> str:
    """ "float32" for whatever NumPy knows by that name; what it does not know, in words."""
    try:
        return str(np.dtype(dtype)) if dtype is not None else "None"
    except TypeError:
        return str(dtype)


def _check_numbers(options: SampleOptions) -> None:
    refusals = {
        "patch": (options.patch is None or _is_shape(options.patch, (3,)), "Give (z, y, x), each at least 1"),
        "shape": (
            options.shape is None or _is_shape(options.shape, (2,) if options.slices else (3,)),
            "Give (z, y, x), or (y, x) for slices, each at least 1",
        ),
        "samples_per_study": (
            options.samples_per_study is None or is_count(options.samples_per_study),
            "Give 1 or more",
        ),
        "slices": (options.slices == 0 or (is_count(options.slices) and options.slices % 2 == 1), "Give 1, 3, 5, ..."),
        "label": (options.label in (*LABELS, "", AUTOMATIC), "Give lesion, lung, auto, or None"),
        "balance": (options.balance in (*LABELS, ""), "Give lesion or lung"),
        "pos": (0 <= options.pos < math.inf and options.pos + options.neg > 0, "Give weights of at least 0"),
        "neg": (0 <= options.neg < math.inf, "Give weights of at least 0"),
        "dtype": (options.dtype in DTYPES, f"Give one of {', '.join(DTYPES)}"),
        "open_studies": (is_count(options.open_studies), "Give 1 or more"),
        "augment": (all(isinstance(step, Step) for step in options.augment), "Give steps of fastct.transforms"),
        "window_hu": (options.window_hu is not None or options.dtype != "uint8", "Give one: uint8 holds no HU"),
    }
    for name, (holds, cure) in refusals.items():
        if not holds:
            raise OptionError(name, f"it is {getattr(options, name)!r}", cure)


def _is_shape(numbers: Sequence[int], lengths: tuple[int, ...]) -> bool:
    return len(numbers) in lengths and all(map(is_count, numbers))


def is_count(number: object) -> bool:
    """Whether this is a whole number of at least 1."""
    return isinstance(number, (int, np.integer)) and bool(number >= 1)


def _check_shapes(options: SampleOptions) -> None:
    if options.shape is not None and options.spacing_mm is not None:
        raise OptionError("shape", "there is a spacing_mm as well", "Give one of them")
    if options.shape is not None and options.patch is not None:
        raise OptionError("shape", "there is a patch as well", "Give the patch with a spacing_mm, or one of them")
    if options.slices and (options.patch is not None or options.samples_per_study is not None):
        cure = "Every slice is a sample: leave the patch and samples_per_study out, or take patches of one slice"
        raise OptionError("slices", "there is a patch or a samples_per_study as well", cure)
    if not options.balance and (options.pos, options.neg) != (1.0, 1.0):
        raise OptionError("pos, neg", f"they are {options.pos} and {options.neg}", "Give balance= as well")
    if options.balance and options.kind != "patches":
        raise OptionError("balance", f"it does not go with {options.kind}", "Take patches")


@dataclass(frozen=True)
class Box(Step):
    """Keep a box of that shape from voxel `start` on, along (z, y, x); outside of the volume it reads the fill."""

    start: Shape
    shape: Shape

    def on(self, frame: Frame) -> Frame:
        return frame.read_on(self.shape, UPRIGHT, self.start)


@dataclass(frozen=True)
class Plan:
    """The samples of an epoch, numbered: which study each is of. Those of a study stand together.

    Parameters
    ----------
    studies : ids, sorted.
    ends : (studies,) int64: one more than the number of each study's last sample.
    """

    studies: tuple[str, ...]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.studies else 0

    def at(self, index: int) -> tuple[str, int]:
        """The study of a sample, and the sample's number within it."""
        study = int(np.searchsorted(self.ends, index, side="right"))
        return self.studies[study], index - (int(self.ends[study - 1]) if study else 0)


def epoch_order(seed: int, epoch: int, n: int, shuffle: bool) -> NDArray[np.int64]:
    """Numbers of an epoch's samples, in the order in which all ranks together take them."""
    if not shuffle:
        return np.arange(n, dtype=np.int64)
    # Only the words of a SeedSequence are promised to stay the same in every version of NumPy.
    words = np.random.SeedSequence(seed, spawn_key=(epoch, ORDER)).generate_state(n, np.uint64)
    return np.argsort(words, kind="stable")


def draw_box(options: SampleOptions, draws: Draws, where: Shape | Grid, foreground: Foreground | None) -> Box:
    """Where a patch lies in a volume of that shape, or on the grid that it was resampled to: a value to print.

    Without a foreground it is any that fits; with one, it is centred on a voxel of it, or outside of it, as far as
    it fits.
    """
    patch = options.patch or PATCH
    shape = where.shape if isinstance(where, Grid) else where
    if foreground is None:
        starts = [_drawn_start(draws.share(), n, length) for n, length in zip(shape, patch, strict=True)]
    else:
        centre = np.array(_centre(options, draws, foreground), np.float64)
        if isinstance(where, Grid):
            centre = (centre - where.affine[:, 3]) / where.affine[:, :3].diagonal()
        starts = [
            _kept_start(round(c) - length // 2, n, length)
            for c, n, length in zip(centre.tolist(), shape, patch, strict=True)
        ]
    return Box((starts[0], starts[1], starts[2]), patch)


def _drawn_start(share: float, n: int, length: int) -> int:
    return int(share * (n - length + 1)) if n >= length else -((length - n) // 2)


def _kept_start(start: int, n: int, length: int) -> int:
    return min(max(start, 0), n - length) if n >= length else -((length - n) // 2)


def _centre(options: SampleOptions, draws: Draws, foreground: Foreground) -> Shape:
    """A voxel of the mask, or outside of it; where there is none of the one kind, of the other."""
    wants_inside = draws.share() * (options.pos + options.neg) < options.pos
    spots = foreground.inside if wants_inside else foreground.outside
    if spots.size == 0:
        spots = foreground.outside if wants_inside else foreground.inside
    return foreground.at(spots, draws.share())


def slice_box(options: SampleOptions, number: int, shape: Shape) -> Box:
    """The stack around a slice of a volume of that shape (after resampling)."""
    return Box((number - options.slices // 2, 0, 0), (options.slices, shape[1], shape[2]))

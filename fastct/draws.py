"""Numbers still to be drawn at random, and how a seed draws them: always the same, for any worker."""

import math
import operator
from dataclasses import dataclass

import numpy as np

from fastct.errors import OptionError

WORDS_AT_FIRST = 4  # most steps draw none, a patch's place three or four
LARGEST_NUMBER = float(np.finfo(np.float32).max)
LARGEST_COUNT = 2**32  # NumPy's seeds are made of words of 32 bits


@dataclass(frozen=True)
class Uniform:
    """A number still to be drawn between `low` and `high`; it may stand for any Number of a step.

    Raises
    ------
    OptionError
        If low is above high, or one of them is not finite.

    Examples
    --------
    >>> Uniform(-10, 10).at(0.75)
    5.0
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise OptionError("Uniform", f"it runs from {self.low} to {self.high}", "Give low <= high")

    def at(self, share: float) -> float:
        """The number a share of the way from low to high."""
        return self.low + share * (self.high - self.low)


Number = float | Uniform
Numbers = tuple[Number, Number, Number]


class Draws:
    """What a seed draws for one step of one sample: nothing but (seed, epoch, index, step) matters.

    Raises
    ------
    OptionError
        If one of the four is negative or not a whole number, or an epoch, index or step too large.

    Examples
    --------
    >>> draws = Draws(seed=7, epoch=0, index=3, step=1)
    >>> 0 <= draws.share() < 1
    True
    """

    def __init__(self, seed: int, epoch: int, index: int, step: int) -> None:
        whole = all(isinstance(number, (int, np.integer)) for number in (seed, epoch, index, step))
        if not whole or seed < 0 or not all(0 <= number < LARGEST_COUNT for number in (epoch, index, step)):
            raise OptionError(
                "draw",
                f"seed, epoch and index are {seed!r}, {epoch!r} and {index!r}",
                "Give whole numbers from 0, the epoch and the index below 2^32",
            )
        self._key = int(seed), (int(epoch), int(index), int(step))
        self._words: list[int] = []
        self._used = 0

    def word(self) -> int:
        """The next 64 random bits."""
        if self._used == len(self._words):
            self._words = self._first_words(2 * self._used or WORDS_AT_FIRST)
        self._used += 1
        return self._words[self._used - 1]

    def _first_words(self, count: int) -> list[int]:
        """NumPy promises that these words stay the same in every version, however many are asked for."""
        seed, place = self._key
        words: list[int] = np.random.SeedSequence(seed, spawn_key=place).generate_state(count, np.uint64).tolist()
        return words

    def share(self) -> float:
        """The next number from 0 up to 1."""
        return (self.word() >> 11) * 2.0**-53


def drawn(value: object, draws: Draws) -> object:
    """A field of a step with each Uniform in it replaced by a number."""
    if isinstance(value, Uniform):
        return value.at(draws.share())
    if isinstance(value, tuple):
        items = tuple(drawn(item, draws) for item in value)
        return value if all(map(operator.is_, items, value)) else items
    return value


def plain(value: Number) -> float:
    """A number that has been drawn, if it had to be."""
    if isinstance(value, Uniform):
        raise OptionError(str(value), "it is still to be drawn", "Call drawn(seed, epoch, index) first")
    return float(value)


def are_numbers(*values: object) -> bool:
    """Whether all are numbers that a float32 can hold, or still to be drawn."""
    return all(isinstance(value, Uniform) or _is_number(value) for value in values)


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return bool(-LARGEST_NUMBER <= value <= LARGEST_NUMBER)


def ends(value: Number) -> tuple[float, float]:
    """The least and the greatest that a number can be drawn as."""
    if isinstance(value, Uniform):
        return value.low, value.high
    return float(value), float(value)

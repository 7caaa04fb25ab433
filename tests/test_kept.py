"""Work memory: NumPy's arrays in pages that are used again, as safe as those of its own allocator."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy._core.multiarray import get_handler_name

import fastct
from fastct.geometry import Geometry
from fastct.kept import work_memory

LARGE = 1 << 16  # bytes; less than half of it comes from malloc


def made(n_bytes=LARGE):
    with work_memory():
        return np.empty(n_bytes, np.uint8)


def place(array):
    return array.__array_interface__["data"][0]


def test_pages_are_used_again():
    first = place(made())
    assert place(made()) == first
    held = made()
    assert place(held) == first
    assert place(made()) != first


def test_only_arrays_made_within_come_from_it():
    with work_memory():
        inside = np.empty(4)
    assert get_handler_name(inside) == "fastct"
    assert get_handler_name(np.empty(4)) == "default_allocator"


def test_an_error_ends_it():
    with pytest.raises(KeyError), work_memory():
        raise KeyError
    assert get_handler_name(np.empty(4)) == "default_allocator"


def test_it_nests():
    with work_memory():
        with work_memory():
            pass
        assert get_handler_name(np.empty(4)) == "fastct"


@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 30)), min_size=1, max_size=60), st.booleans())
def test_arrays_never_share_a_byte(steps, zeroed):
    """Arrays come and go in any order; each still holds what was written to it."""
    held = {}
    with work_memory():
        for number, (n_bytes, slot) in enumerate(steps):
            held.pop(slot, None)
            array = np.zeros(n_bytes, np.uint8) if zeroed else np.empty(n_bytes, np.uint8)
            assert not zeroed or not array.any()
            assert place(array) % 16 == 0
            array[:] = number
            held[slot] = (number, array)
    for number, array in held.values():
        assert (array == number).all()


def test_growing_keeps_what_is_there():
    with work_memory():
        array = np.arange(LARGE, dtype=np.int64)
        array.resize(3 * LARGE, refcheck=False)
    assert (array[:LARGE] == np.arange(LARGE)).all()
    assert not array[LARGE:].any()


def test_each_thread_has_its_own_and_any_thread_gives_back():
    with ThreadPoolExecutor(4) as threads:
        arrays = [array for part in threads.map(lambda _: [made() for _ in range(20)], range(8)) for array in part]
    for number, array in enumerate(arrays):
        array[:] = number
    assert all((array == number).all() for number, array in enumerate(arrays))
    assert len({place(array) for array in arrays}) == len(arrays)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: arrays.pop(), range(len(arrays))))
    assert not arrays


def test_more_than_there_is_room_for():
    with work_memory():
        giant = [np.empty(100 << 20, np.uint8) for _ in range(4)]
    for number, array in enumerate(giant):
        array[:: 1 << 25] = number
    assert all((array[:: 1 << 25] == number).all() for number, array in enumerate(giant))


def test_what_a_giant_took_goes_back():
    def resident_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

    def used():
        with work_memory():
            giant = np.ones(200 << 20, np.uint8)
            assert giant[-1]
            return resident_mb()

    assert used() - resident_mb() > 80


def test_results_do_not_lie_in_it():
    before = place(made())
    geometry = Geometry((3, 64, 64), np.diag([-5.0, 5.0, 8.0, 1.0]))
    hu = np.full(geometry.shape, -1000, np.int16)
    lungs = fastct.lung_mask(hu, geometry)
    opacity = fastct.opacity_mask(hu, lungs, geometry)
    assert get_handler_name(lungs) == get_handler_name(opacity) == "default_allocator"
    assert place(made()) == before

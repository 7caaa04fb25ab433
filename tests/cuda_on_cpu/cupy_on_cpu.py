"""A stand-in for CuPy: arrays that refuse what CuPy's refuse, so that code meant for both homes is seen to be so."""

import operator
from types import ModuleType, SimpleNamespace

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

# Functions of NumPy's that CuPy takes over for its arrays, of those that fastct uses.
TAKEN_OVER = {np.zeros_like, np.empty_like, np.broadcast_to}
ATTRIBUTES = {"shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides", "flags"}
METHODS = {
    "clip",
    "copy",
    "any",
    "all",
    "sum",
    "min",
    "max",
    "mean",
    "cumsum",
    "transpose",
    "reshape",
    "view",
    "astype",
}
waits = []  # for what the host has waited for the GPU, each time


class Device:
    """The only GPU there is."""

    id = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


class Stream:
    """A stream: what is queued is done at once. Notes which one is current."""

    current = None

    def __init__(self, non_blocking):
        assert non_blocking

    def __enter__(self):
        self.outer, Stream.current = Stream.current, self
        return self

    def __exit__(self, *error):
        Stream.current = self.outer

    def wait_event(self, event):
        assert event.is_recorded

    def synchronize(self):
        waits.append("stream")


class Event:
    """An event; one that was never recorded counts as done, as with CUDA."""

    def __init__(self, disable_timing):
        self.is_recorded = False

    def record(self, stream=None):
        self.is_recorded = True

    def synchronize(self):
        waits.append("event")


class Array(NDArrayOperatorsMixin):
    """An array "on a GPU": it mixes with its like and with single numbers only, and comes to the host when told to."""

    device = Device()
    __array_priority__ = 100

    def __init__(self, own):
        self.own = own

    def __repr__(self):
        return f"Array({self.own!r})"

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        if method != "__call__":
            raise TypeError(f"CuPy has no {ufunc.__name__}.{method}")
        taken = [_inside(item) for item in inputs]
        if out:
            options["out"] = tuple(_inside(item) for item in out)
        found = ufunc(*taken, **options)
        return out[0] if out else _wrapped(found)

    def __array_function__(self, function, _, arguments, options):
        if function not in TAKEN_OVER:
            raise TypeError(f"CuPy does not take over {function.__name__}")
        return _wrapped(function(*(_inside(item) for item in arguments), **options))

    def __getitem__(self, key):
        return _wrapped(self.own[_key(key)])

    def __setitem__(self, key, value):
        self.own[_key(key)] = _inside(value)

    def __len__(self):
        return len(self.own)

    def __iter__(self):
        return (self[number] for number in range(len(self)))

    def __getattr__(self, name):
        if name in ATTRIBUTES:
            return getattr(self.own, name)
        if name in METHODS:
            method = getattr(self.own, name)
            return lambda *arguments, **options: _wrapped(method(*arguments, **options))
        raise AttributeError(f"CuPy's arrays have no {name} that fastct could count on")

    @property
    def data(self):
        return SimpleNamespace(ptr=self.own.ctypes.data)

    def get(self, out=None, blocking=True):
        if blocking:
            waits.append("get")
        if out is None:
            return self.own.copy()
        out[...] = self.own
        return out

    def set(self, host, stream):
        assert isinstance(host, np.ndarray)
        assert host.shape == self.shape
        assert stream is not None
        self.own[...] = host

    def tolist(self):
        waits.append("tolist")
        return self.own.tolist()

    def _number(self, kind):
        waits.append(kind.__name__)
        return kind(self.own)

    def __bool__(self):
        return self._number(bool)

    def __int__(self):
        return self._number(int)

    def __float__(self):
        return self._number(float)

    def __index__(self):
        return self._number(operator.index)


def _inside(item):
    if isinstance(item, Array):
        return item.own
    if isinstance(item, np.ndarray) and item.ndim > 0:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return item


def _key(key):
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, Array) and part.dtype == bool for part in parts):
        waits.append("size")
    return tuple(_inside(part) for part in parts)


def _wrapped(own):
    return Array(np.asarray(own))


def module():
    """What stands for the module `cupy`."""
    cupy = ModuleType("cupy")
    cupy.ndarray = Array
    cupy.asarray = lambda array: array if isinstance(array, Array) else Array(np.array(array))
    cupy.empty = lambda shape, dtype: Array(np.full(shape, 0x5A, np.uint8 if dtype is bool else dtype))
    cupy.zeros = lambda shape, dtype: Array(np.zeros(shape, dtype))
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError)
    cupy.cuda = SimpleNamespace(Device=lambda number: Device(), Stream=Stream, Event=Event, runtime=runtime)
    return cupy


def extras():
    """What stands for the module `cupyx`."""
    cupyx = ModuleType("cupyx")
    cupyx.empty_pinned = lambda shape, dtype: np.full(shape, 0x5A, dtype)
    return cupyx

# Arrays of NumPy in work memory: arena.h as a memory handler (NEP 49).
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport PyObject

from numpy._core._multiarray_umath import _ARRAY_API

cdef extern from "arena.h" namespace "fastct" nogil:
    cdef struct Handler:
        pass
    Handler* new_handler() except +
    void delete_handler(Handler* handler)

cdef int SET_HANDLER = 304  # where PyDataMem_SetHandler stands in NumPy's table of functions, for ever
ctypedef object (*Setter)(PyObject* handler)
cdef Setter set_handler = <Setter>(<void**>PyCapsule_GetPointer(_ARRAY_API, NULL))[SET_HANDLER]
cdef const char* NAME = "mem_handler"  # as NumPy wants it


cdef void forget(object handler) noexcept:
    delete_handler(<Handler*>PyCapsule_GetPointer(handler, NAME))


def new():
    """A handler with an arena of its own, which lives as long as it and every array made with it."""
    return PyCapsule_New(new_handler(), NAME, forget)


def use(handler):
    """Have NumPy make arrays of this thread by that handler, and return the one before; None stands for NumPy's."""
    return set_handler(NULL) if handler is None else set_handler(<PyObject*>handler)

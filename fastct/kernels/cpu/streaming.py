"""Mapping large volumes past the caches: such stores need not read the memory that they overwrite."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"
# ruff: noqa: ARG001 -- an intrinsic is given its types by the names of what it takes.

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastct.kernels.cpu.pointwise import mapped
from fastct.kernels.cpu.rounding import rounded_for

LARGE_BYTES = 2**24  # an output of less may still lie in a cache when it is used
BLOCK_BYTES = 64  # of a store, which needs memory aligned to as many: a line of the caches
VOXELS_AT_A_TIME = 256  # are mapped in the nearest cache, and then stored


@intrinsic
def _store_block(_, target, to, source, origin):
    """Copy BLOCK_BYTES from byte `origin` of source to byte `to` of target, marked as not to be kept.

    Numba offers no such store, so that its LLVM is written out: one load and one store of a vector.
    """

    def generate(context, builder, signature, arguments):
        block = ir.VectorType(ir.IntType(8), BLOCK_BYTES).as_pointer()
        starts = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[::2], arguments[::2], strict=True)
        ]
        target_block, source_block = (
            builder.bitcast(builder.gep(start, [offset]), block)
            for start, offset in zip(starts, arguments[1::2], strict=True)
        )
        store = builder.store(builder.load(source_block, align=1), target_block, align=BLOCK_BYTES)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), generate


@intrinsic
def _finish_stores(_):
    """Make the stores seen by other threads before what follows."""

    def generate(context, builder, _signature, _arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@njit(nogil=True, cache=True)
def _map_plainly(hu, out, line):
    for voxel in range(out.size):
        out[voxel] = rounded_for(out, mapped(hu[voxel], line))


@njit(nogil=True, cache=True)
def map_large(hu, out, out_bytes, line):
    """Map every voxel of a volume into an output, both in one row; `out_bytes` is the output's memory."""
    lead = -out_bytes.ctypes.data % BLOCK_BYTES // out.itemsize
    _map_plainly(hu[:lead], out[:lead], line)
    buffer = np.empty(VOXELS_AT_A_TIME, out.dtype)
    buffer_bytes = buffer.view(np.uint8)
    voxel = lead
    while voxel + VOXELS_AT_A_TIME <= out.size:
        some = hu[voxel : voxel + VOXELS_AT_A_TIME]
        for k in range(VOXELS_AT_A_TIME):
            buffer[k] = rounded_for(out, mapped(some[k], line))
        for byte in range(0, VOXELS_AT_A_TIME * out.itemsize, BLOCK_BYTES):
            _store_block(out_bytes, voxel * out.itemsize + byte, buffer_bytes, byte)
        voxel += VOXELS_AT_A_TIME
    _map_plainly(hu[voxel:], out[voxel:], line)
    _finish_stores()

"""CPU twins of the kernels: Numba for voxels, Cython for bytes, runs and bit rows."""

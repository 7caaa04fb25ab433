"""CUDA twins of the voxel kernels: text in .cu and .h files, compiled where a GPU is."""

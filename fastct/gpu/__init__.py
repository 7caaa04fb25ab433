"""Lungs and opacities of batches of studies on a GPU: the recipes of the CPU's modules of the same names, all studies
at once, and no decision is left to the host."""

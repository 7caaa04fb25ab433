"""Benchmarks of fastct for asv; see README.md in this folder."""

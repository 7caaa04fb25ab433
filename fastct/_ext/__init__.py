"""Compiled byte work: built from src_ext/ by setup.py."""

"""Phantoms: synthetic chest CTs with known truth, in MosMedData's layout."""

from fastct.phantom.drawing import Phantom, draw_study, iter_phantoms, write_phantoms
from fastct.phantom.files import TruthRow

__all__ = ["Phantom", "TruthRow", "draw_study", "iter_phantoms", "write_phantoms"]

"""Data sets: which studies, masks and classes there are, from a registry or from the folders."""

from fastct.mosmed.listing import Listing, Study, find_studies

__all__ = ["Listing", "Study", "find_studies"]

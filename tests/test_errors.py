"""Errors stay readable whatever a file put into them."""

from copy import copy

from hypothesis import given
from hypothesis import strategies as st

from fastct.errors import FileError


@given(st.text(), st.text())
def test_an_error_is_one_printable_line(subject, finding):
    error = FileError(subject, finding, "Look at the file")
    assert str(error).isprintable()
    assert str(copy(error)) == str(error)


def test_what_is_printable_stays_as_it_is():
    assert str(FileError("a.nii", "größer als 3 \N{MULTIPLICATION SIGN}\0\n\udc80", "Cut it")) == (
        "a.nii: größer als 3 \N{MULTIPLICATION SIGN}\\x00\\n\\udc80. Cut it."
    )

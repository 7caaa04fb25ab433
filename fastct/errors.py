"""The exceptions of fastct: each names what it is about, what was found, and what to do."""


class FastctError(Exception):
    """Parent of all errors that fastct raises on purpose.

    Parameters are strings: `subject` (file, study, option or array), `finding` (what was found, and
    what was wanted) and `cure` (what to do about it). As text, what is not printable in them is escaped.

    Examples
    --------
    >>> try:
    ...     raise StoreError("covid.fastct", "it is empty", "Convert a data set into it")
    ... except FastctError as error:
    ...     print(error.subject, "|", error.finding)
    covid.fastct | it is empty
    """

    def __init__(self, subject: object, finding: str, cure: str) -> None:
        super().__init__(str(subject), finding, cure)
        self.subject, self.finding, self.cure = str(subject), finding, cure

    def __str__(self) -> str:
        text = f"{self.subject}: {self.finding}. {self.cure}."
        # What a file holds may stand in a finding: on a terminal and in a log it stays text on one line.
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class FileError(FastctError):
    """A file that cannot be read as a chest CT or as its mask.

    Examples
    --------
    >>> from fastct import read_nifti
    >>> read_nifti("missing.nii.gz")
    Traceback (most recent call last):
    fastct.errors.FileError: missing.nii.gz: ...
    """


class DataSetError(FastctError):
    """A folder or registry that does not describe a data set.

    Examples
    --------
    >>> from fastct import convert
    >>> convert("no/such/folder", "covid.fastct")
    Traceback (most recent call last):
    fastct.errors.DataSetError: ...
    """


class CodecError(FastctError, ValueError):
    """Bytes that a codec cannot decode, or an array that it cannot encode.

    Examples
    --------
    >>> from fastct.codecs import decode_chunk
    >>> decode_chunk(b"nonsense")
    Traceback (most recent call last):
    fastct.errors.CodecError: ctpack chunk: ...
    """


class StoreError(FastctError):
    """A store that is missing, damaged, or not a fastct store.

    Examples
    --------
    >>> import fastct
    >>> fastct.open("no/such/store")
    Traceback (most recent call last):
    fastct.errors.StoreError: ...no/such/store: there is no fastct.json here...
    """


class ArrayError(FastctError, ValueError):
    """An array of the wrong shape, dtype or place.

    Examples
    --------
    >>> import fastct, numpy
    >>> fastct.window(numpy.zeros((2, 2)), -1000, 400)
    Traceback (most recent call last):
    fastct.errors.ArrayError: ...
    """


class OptionError(FastctError, ValueError):
    """An option outside its range, or one that does not go with another.

    Examples
    --------
    >>> from fastct import severity
    >>> severity(-1.0)
    Traceback (most recent call last):
    fastct.errors.OptionError: ...
    """


class DeviceError(FastctError):
    """A GPU that is not there, or CuPy, which drives it; or work that is done on the CPU only.

    Examples
    --------
    >>> raise DeviceError("cuda:1", "there are 1 GPUs", "Give cuda:0")
    Traceback (most recent call last):
    fastct.errors.DeviceError: cuda:1: there are 1 GPUs. Give cuda:0.
    """


class WorkerError(FastctError):
    """A worker process or scheduler that died.

    Examples
    --------
    >>> raise WorkerError("scheduler", "it went away", "Start it, and run again")
    Traceback (most recent call last):
    fastct.errors.WorkerError: scheduler: it went away. Start it, and run again.
    """

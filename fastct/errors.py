"""The exceptions of fastct: each names what it is about, what was found, and what to do."""


class FastctError(Exception):
    """Parent of all errors that fastct raises on purpose.

    Parameters are strings: `subject` (file, study, option or array), `finding` (what was found, and
    what was wanted) and `cure` (what to do about it). As text, what is not printable in them is escaped.
    """

    def __init__(self, subject: object, finding: str, cure: str) -> None:
        super().__init__(str(subject), finding, cure)
        self.subject, self.finding, self.cure = str(subject), finding, cure

    def __str__(self) -> str:
        text = f"{self.subject}: {self.finding}. {self.cure}."
        # What a file holds may stand in a finding: on a terminal and in a log it stays text on one line.
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class FileError(FastctError):
    """A file that cannot be read as a chest CT or as its mask."""


class DataSetError(FastctError):
    """A folder or registry that does not describe a data set."""


class CodecError(FastctError, ValueError):
    """Bytes that a codec cannot decode, or an array that it cannot encode."""


class StoreError(FastctError):
    """A store that is missing, damaged, or not a fastct store."""


class ArrayError(FastctError, ValueError):
    """An array of the wrong shape, dtype or place."""


class OptionError(FastctError, ValueError):
    """An option outside its range, or one that does not go with another."""


class DeviceError(FastctError):
    """A GPU that is not there, or CuPy, which drives it; or work that is done on the CPU only."""


class WorkerError(FastctError):
    """A worker process or scheduler that died."""

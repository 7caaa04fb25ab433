"""The exceptions of fastct: each names what it is about, what was found, and what to do."""


class FastctError(Exception):
    """Parent of all errors that fastct raises on purpose.

    Parameters are strings: `subject` (file, study, option or array), `finding` (what was found, and
    what was wanted) and `cure` (what to do about it).
    """

    def __init__(self, subject: object, finding: str, cure: str) -> None:
        super().__init__(str(subject), finding, cure)
        self.subject, self.finding, self.cure = str(subject), finding, cure

    def __str__(self) -> str:
        return f"{self.subject}: {self.finding}. {self.cure}."


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

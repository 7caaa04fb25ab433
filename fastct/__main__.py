"""The command `fastct`, and `python -m fastct`."""

import os
import sys
from contextlib import suppress

from fastct import cli
from fastct.batches import is_left_behind


def main() -> None:
    """Run the command line, and leave; what a disk or server never answers is not waited for."""
    try:
        cli.main()
    except SystemExit as done:
        # After an interrupt in the midst of an import, Python would die of SIGINT whatever the code is.
        if done.code != cli.EXIT_INTERRUPTED and not is_left_behind():
            raise
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whoever read it has gone
                stream.flush()
        os._exit(int(done.code or 0))


if __name__ == "__main__":
    main()

"""`python -m fastct` is the command line."""

from fastct.cli import main

if __name__ == "__main__":
    main()

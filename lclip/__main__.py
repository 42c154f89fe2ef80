"""`python -m lclip COMMAND ...`: the library from a shell. `python -m lclip --help` lists the commands."""

import sys

from .commands import main

if __name__ == "__main__":  # worker processes import this file again
    sys.exit(main())

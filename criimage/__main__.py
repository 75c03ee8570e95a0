"""`python -m criimage` is the command `criimage`."""

from criimage.cli import main

main()

"""`python -m retrospan` is `retrospan`."""

from retrospan.cli import main

main()

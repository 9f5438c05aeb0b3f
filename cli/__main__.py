"""`python -m cli` is the same as `prunery`."""

from cli.main import main

main()

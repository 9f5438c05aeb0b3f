"""`python -m core.settings`: check or write the table of settings."""

import sys

from core.settings.table import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

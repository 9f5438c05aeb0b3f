"""`python -m core.settings`: check or write the table of settings."""

import sys

from core.settings.table import main

sys.exit(main(sys.argv[1:]))

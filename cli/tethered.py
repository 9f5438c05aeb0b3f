"""`python -m cli.tethered PARENT_PID`: a worker that ends when its parent does, however that ends."""

import sys

from worker.__main__ import main
from worker.tether import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    sys.exit(main())

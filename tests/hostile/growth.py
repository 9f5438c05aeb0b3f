"""Refuse a corpus in a process of its own, and print by how many bytes that has grown.

python -m tests.hostile.growth FOLDER, which has a folder of files for each case, named NUMBER-COLLECTION.
"""

import gc
import sys
from pathlib import Path

import psutil

from core.assets.inspect import model_complete
from pruning.data.rows import summarise
from pruning.errors import InvalidData, InvalidModel

_WARM = 20
"""Every so many-th case goes first, so that what the first file of a kind loads is no growth by files."""


def check(collection: str, folder: Path) -> None:
    """Give the files in `folder` to what completes an upload."""
    if collection == "models":
        model_complete({path.name: path for path in folder.iterdir()})
    else:
        summarise(folder)


def refuse(folders: list[Path]) -> None:
    """Check every case; leaves with a message when one is taken."""
    for folder in folders:
        try:
            check(folder.name.partition("-")[2], folder)
        except (InvalidModel, InvalidData):
            continue
        sys.exit(f"{folder.name} was taken")


def main() -> None:
    """Print the growth."""
    folders = sorted(Path(sys.argv[1]).iterdir())
    refuse(folders[::_WARM])
    gc.collect()
    before = psutil.Process().memory_info().rss
    refuse(folders)
    sys.stdout.write(str(psutil.Process().memory_info().rss - before))


if __name__ == "__main__":
    main()

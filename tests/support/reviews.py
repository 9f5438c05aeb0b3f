"""A dataset that a tiny model can learn: the class is whether a warm word or a cold one is in the text."""

import json
import random
from pathlib import Path

from tests.support.models import WORDS

WARM = ("good", "great", "fine", "warm", "bright")
COLD = ("bad", "dull", "cold", "weak", "poor")
_NEUTRAL = [word for word in WORDS if word not in WARM + COLD and word.isalpha()]


def write_reviews(path: Path, *, rows: int = 80, seed: int = 0) -> Path:
    """Write JSONL with columns text and label (0 cold, 1 warm), classes in turn."""
    generator = random.Random(seed)
    lines = []
    for row in range(rows):
        words = generator.choices(_NEUTRAL, k=6)
        words.insert(generator.randrange(6), generator.choice(WARM if row % 2 else COLD))
        lines.append(json.dumps({"text": " ".join(words), "label": row % 2}))
    path.write_text("\n".join([*lines, ""]))
    return path

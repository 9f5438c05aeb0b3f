"""Makes `pruning/planning/catalogue.json` from the method classes: `python -m pruning.publish_catalogue --write`."""

import argparse
import json
import sys
from dataclasses import asdict

from pruning.methods import METHODS
from pruning.planning.catalogue import PATH, MethodInfo


def generate() -> str:
    """The text of `catalogue.json` as the method classes say it."""
    entries = [
        MethodInfo(
            name=name,
            title=cls.title,
            summary=cls.summary,
            granularities=tuple(sorted(cls.granularities)),
            measures=tuple(sorted(cls.measures)),
            needs_training=cls.needs_training,
            empties_sublayers=cls.empties_sublayers,
            cuts_many=cls.cuts_many,
            schema=cls.Settings.model_json_schema(),
            schedule_steps=cls.schedule_steps,
            distill=cls.distill.model_dump(mode="json"),
        )
        for name, cls in sorted(METHODS.items())
    ]
    return json.dumps([asdict(entry) for entry in entries], indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Check `catalogue.json` against the classes, or write it; the exit status says whether they agree."""
    parser = argparse.ArgumentParser(
        prog="python -m pruning.publish_catalogue", description="Check catalogue.json."
    )
    parser.add_argument("--write", action="store_true", help="write the file instead of checking it")
    text = generate()
    if parser.parse_args(arguments).write:
        PATH.write_text(text, "utf-8")
        return 0
    if PATH.read_text("utf-8") == text:
        return 0
    sys.stderr.write("catalogue.json is stale: run python -m pruning.publish_catalogue --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

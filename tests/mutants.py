"""`python -m tests.mutants`: change the code of jobs and of checked files in small ways, and count what tests notice.

[tool.mutmut] says which files are changed and which tests look. Each change of the states is tried, and of all others
`SAMPLE`, drawn with a fixed seed: all of them would take hours.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
WHOLE = "core.jobs.states."
SAMPLE = 300
SEED = 1
NOTICED = ("killed", "timeout")
WANTED = 0.85


def mutmut(*arguments: str, **options: int) -> subprocess.CompletedProcess[str]:
    """One command of mutmut, which keeps what it has found in the folder `mutants`."""
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, text=True, **options)


def verdicts() -> dict[str, str]:
    """What became of each mutant so far, by its name."""
    lines = mutmut("results", "--all", "true", stdout=subprocess.PIPE).stdout.splitlines()
    return dict(line.strip().rsplit(": ", 1) for line in lines)


def main() -> int:
    """0 when the tests notice enough; names what they did not notice."""
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    mutmut("run", "--max-children", "1", f"{WHOLE}*")
    others = sorted(name for name in verdicts() if not name.startswith(WHOLE))
    drawn = Random(SEED).sample(others, SAMPLE)
    mutmut("run", "--max-children", "1", *drawn)
    tried = {name: verdict for name, verdict in verdicts().items() if verdict != "not checked"}
    missed = [f"{name}: {verdict}\n" for name, verdict in tried.items() if verdict not in NOTICED]
    share = 1 - len(missed) / len(tried)
    sys.stdout.writelines(missed)
    sys.stdout.write(f"noticed {len(tried) - len(missed)} of {len(tried)} mutants, {share:.1%}\n")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())

"""The door opens quickly: without torch, the engine's libraries, or the worker."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys, time
began = time.perf_counter()
import app.main
print(json.dumps({"seconds": time.perf_counter() - began, "modules": sorted(sys.modules)}))
"""
NEVER = {"torch", "transformers", "worker", "pruning.run", "scipy", "sklearn", "accelerate", "safetensors"}
LATER = {"celery", "kombu", "alembic", "huggingface_hub"}
"""Loaded where they are first needed, not at the start."""


def test_importing_the_application_loads_no_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True
    )
    result = json.loads(done.stdout)
    assert not (NEVER | LATER) & set(result["modules"])
    # Two seconds on a quiet machine; tests share theirs with others.
    assert result["seconds"] < 20

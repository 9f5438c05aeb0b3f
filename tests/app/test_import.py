"""The door opens quickly: without torch, the engine's libraries, or the worker."""

import json
import os
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


def test_tracing_loads_nothing_until_it_is_asked_for() -> None:
    script = "import json, sys, core.tracing; core.tracing.start_tracing('x'); print(json.dumps(sorted(sys.modules)))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert not [name for name in json.loads(done.stdout) if name.startswith("opentelemetry")]

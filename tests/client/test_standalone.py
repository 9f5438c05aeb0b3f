import subprocess
import sys


def test_the_client_loads_nothing_of_the_service() -> None:
    code = "import client, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert {"client", "httpx", "pydantic"} <= loaded
    assert not loaded & {
        "app",
        "cli",
        "core",
        "pruning",
        "worker",
        "torch",
        "sqlalchemy",
        "fastapi",
        "celery",
    }

"""Readers, a scorer and an exporter on one store for a few seconds; `python tests/load_store.py` takes ten minutes."""

import subprocess
import sys
from pathlib import Path


def test_readers_a_scorer_and_an_exporter_share_a_store():
    script = Path(__file__).with_name("load_store.py")
    command = [sys.executable, script, "--minutes", "0.1", "--readers", "2"]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'exported'" in done.stdout.splitlines()[-1]

"""A disk that fails at some calls of each job; `python tests/failing_disk.py` lets it fail at every one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_disk_that_fails_costs_an_error_and_no_more():
    script = Path(__file__).with_name("failing_disk.py")
    command = [sys.executable, script, "--every", "61", "--jobs", "convert,score again,report"]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stderr
    counts = done.stdout.splitlines()[-1]
    assert all(word in counts for word in ("done", "refused", "failed")), done.stdout

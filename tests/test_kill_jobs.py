"""A few kills of each job; `python tests/kill_jobs.py` does hundreds."""

import subprocess
import sys
from pathlib import Path


def test_a_killed_job_leaves_a_store_that_reads_right_and_is_gone_on_with():
    script = Path(__file__).with_name("kill_jobs.py")
    command = [sys.executable, script, "--kills", "9"]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("9 kills"), done.stdout

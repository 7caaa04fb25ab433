"""Every code block of the README runs: on two phantoms, in a folder of its own."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from s3_server import KEY, SECRET
from small_chests import tree

import fastct
from fastct.phantom import write_phantoms
from fastct.storage import open_storage

README = Path(__file__).parent.parent / "README.md"
SET_UP = ("main command", "test command")  # these install: run as they stand by CI and by users
BLOCK = re.compile(r"(?:<!-- (?P<name>[^>]*) -->\n)?```(?P<language>python|bash)\n(?P<code>.*?)```", re.DOTALL)


def blocks():
    found = [match for match in BLOCK.finditer(README.read_text()) if match["name"] not in SET_UP]
    return [
        pytest.param(block["language"], block["code"], id=f"{number}-{block['language']}")
        for number, block in enumerate(found)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as the README takes it for granted: a data set, one of its files, a scored store."""
    folder = tmp_path_factory.mktemp("readme")
    write_phantoms(folder / "COVID19_1110", studies=2, seed=5)
    first = next((folder / "COVID19_1110" / "studies").rglob("study_0001.nii.gz"))
    (folder / "study_0001.nii.gz").symlink_to(first)
    fastct.convert(folder / "COVID19_1110", folder / "covid.fastct", workers=1)
    fastct.score(folder / "covid.fastct", workers=1)
    return folder


def test_the_readme_has_both_commands():
    names = [match["name"] for match in BLOCK.finditer(README.read_text())]
    assert [name for name in names if name in SET_UP] == list(SET_UP)


@pytest.fixture(scope="module")
def bucket(place, s3):
    """The same data set and store in s3://bucket, and the variables that lead there."""
    pytest.importorskip("obstore")
    storage = open_storage(s3.make_bucket("bucket"), s3.options)
    for name in ("COVID19_1110", "covid.fastct"):
        for key, payload in tree(place / name).items():
            storage.write(f"{name}/{key}", payload)
    return {"AWS_ENDPOINT_URL": s3.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.mark.parametrize(("language", "code"), blocks())
def test_block_runs(place, language, code, request):
    if "import torch" in code and find_spec("torch") is None:
        pytest.skip("torch is not installed")
    server = request.getfixturevalue("bucket") if "s3://" in code else {}
    command = [sys.executable, "-W", "error", "-c", code] if language == "python" else ["bash", "-euc", code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where the command fastct lies
    surroundings = {**os.environ, "PATH": path, **server}
    done = subprocess.run(command, cwd=place, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "loss.backward" in code:
        first, last = map(float, re.findall(r"\d+\.\d+", done.stdout))
        assert last < 0.8 * first, done.stdout

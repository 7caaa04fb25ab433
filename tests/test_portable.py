"""The loops of src_ext/ compile without anything that x86 alone can do, as they must for other processors."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src_ext"
HEADERS = sorted(SOURCES.glob("*.h"))
ONLY_X86 = re.compile(r"\b_mm\w+\(|__attribute__\(\(target")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("portable", [False, True])
def test_no_instruction_of_x86_is_left_in_a_portable_build(tmp_path, portable):
    everything = tmp_path / "everything.cpp"
    inner = ("avx2", "avx512")  # parts of the twins that are left out
    whole = [header.name for header in HEADERS if not any(name in header.name for name in inner)]
    everything.write_text("".join(f'#include "{name}"\n' for name in whole))
    command = ["g++", "-std=c++17", *(["-DFASTCT_PORTABLE"] if portable else []), "-I", str(SOURCES)]
    done = subprocess.run([*command, "-fsyntax-only", "-Wall", "-Werror", everything], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = subprocess.run([*command, "-E", "-P", everything], capture_output=True, text=True, check=True).stdout
    assert bool(ONLY_X86.search(text)) != portable


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_one_header_alone_asks_for_the_processor(header):
    asks = re.search(r"defined\(__(x86_64|SSE\d?|AVX\w*)__\)", header.read_text())
    assert bool(asks) == (header.name == "processor.h")

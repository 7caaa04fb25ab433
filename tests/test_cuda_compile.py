"""Every CUDA kernel compiles for the GPUs in use, without spills, in registers and accesses as promised."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from fastct import device

FOLDER = Path(device.__file__).parent / "kernels" / "gpu"
MODULES = sorted(path.stem for path in FOLDER.glob("*.cu"))
GPUS = ("sm_80", "sm_90")  # A100; H100 and H200
# Registers for each thread by the (longest) start of a kernel's name. 64 of them let 1024 threads run on a
# multiprocessor, enough to hide its memory; the askew readers do more arithmetic for each voxel.
REGISTERS = {
    "map_volume": 40,
    "read_aligned": 64,
    "read_nearest": 80,
    "read_askew": 104,
    "count_lungs": 40,
    "histogram": 40,
    "project": 48,
    "pack_": 40,
    "unpack_label": 40,
    "dilate": 40,
    "erode": 40,
    "count": 40,
    "column_counts": 40,
    "occupied": 32,
    "accumulate": 40,
    "pieces_": 40,
    "holes_": 32,
    "pairs_": 64,
    "bounds": 40,
    "within_frames": 40,
    "hull_": 48,
    "outline_": 56,
    "cut_": 64,
    # Decisions: a block a study or a thread a piece; what matters is that they need not wait for the host.
    "airway_": 48,
    "centres_": 40,
    "clear_behind": 32,
    "choose_": 40,
    "darkest": 40,
    "draw_": 48,
    "find_midline": 64,
    "follow_lesions": 40,
    "judge_gaps": 40,
    "keep_": 40,
    "make_discs": 48,
    "move_up": 32,
    "opacity_levels": 64,
    "second_look": 48,
    "slice_ends": 40,
    "take_out_domes": 64,
    "tell_": 40,
    "usual_density": 56,
    "walk_sides": 64,
    "means_": 64,
    "share_above": 80,
    "decode": 72,
}
# Kernels that stream voxels, and the widest access that each must make.
WIDE = {
    "map_volume_int16_float32": ("ld.global.v4", "st.global.v4"),
    "map_volume_int16_float16": ("ld.global.v4", "st.global.v4"),
    "map_volume_int16_int16": ("ld.global.v4", "st.global.v4"),
    "map_volume_int16_uint8": ("ld.global.v4", "st.global.v2"),
    "map_volume_uint8_uint8": ("ld.global.v2", "st.global.v2"),
    "count_lungs": ("ld.global.v4",),
    "decode_int16_int16": ("st.global.v4",),
    "decode_int16_float32": ("st.global.v4",),
    "decode_int16_float16": ("st.global.v4",),
    "decode_uint8_uint8": ("st.global.v2",),
}
RESOURCES = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A function that compiles a module for a GPU and tells what the compiler said, and the PTX."""
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    folder = tmp_path_factory.mktemp("nvcc")

    @cache
    def compile_for(module, gpu):
        source = folder / f"{module}.cu"
        source.write_text(device.source(module), "utf-8")
        command = ["nvcc", f"-arch={gpu}", *device.COMPILER_OPTIONS, "-Werror", "all-warnings", str(source)]
        log = subprocess.run(
            [*command, "-Xptxas", "-v", "-cubin", "-o", str(folder / "out.cubin")],
            check=True,
            capture_output=True,
            text=True,
        ).stderr
        ptx = folder / f"{module}_{gpu}.ptx"
        subprocess.run([*command, "-ptx", "-o", str(ptx)], check=True)
        return log, ptx.read_text("utf-8")

    return compile_for


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("module", MODULES)
def test_kernels_keep_to_their_registers(compiled, module, gpu):
    log, ptx = compiled(module, gpu)
    found = [match.groupdict() for match in RESOURCES.finditer(log)]
    assert len(found) == ptx.count(".visible .entry") > 0
    for kernel in found:
        name = kernel["kernel"]
        assert kernel["stack"] == kernel["stores"] == kernel["loads"] == "0", kernel
        start = max((start for start in REGISTERS if name.startswith(start)), key=len)
        assert int(kernel["registers"]) <= REGISTERS[start], kernel
    assert ".local" not in ptx


@pytest.mark.parametrize("gpu", GPUS)
def test_streaming_kernels_use_wide_accesses(compiled, gpu):
    text = "".join(compiled(module, gpu)[1] for module in MODULES)
    for kernel, accesses in WIDE.items():
        body = text[text.index(f".entry {kernel}(") :]
        body = body[: body.index("\n}")]
        for access in accesses:
            assert access in body, (kernel, access)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_fused(compiled, module):
    _, ptx = compiled(module, GPUS[0])
    assert "fma.rn" not in ptx

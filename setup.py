"""Builds the Cython extensions of src_ext/ into fastct._ext; all else stands in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

LIMITED_API = "0x030B0000"  # Python 3.11: the first whose stable ABI holds the buffer protocol


def extension(source):
    return Extension(
        f"fastct._ext.{source.stem}",
        [str(source)],
        language="c++",
        include_dirs=["src_ext"],
        depends=[str(header) for header in sorted(Path("src_ext").glob("*.h"))],
        define_macros=[("Py_LIMITED_API", LIMITED_API), ("CYTHON_LIMITED_API", "1")],
        # No fused multiply-add: CPU and GPU must agree to the bit. No -march: dispatch is at run time.
        extra_compile_args=["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-g0"],
        py_limited_api=True,
    )


setup(
    ext_modules=cythonize(
        [extension(source) for source in sorted(Path("src_ext").glob("*.pyx"))],
        language_level=3,
        build_dir="build/cython",
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": True,
            "autotestdict": False,
        },
    ),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)

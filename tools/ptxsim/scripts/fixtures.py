#!/usr/bin/env python3
"""Compiles tests/kernels to tests/ptx, for each architecture of interest, and tests/bugs in place.

    fixtures.py [--into DIR]            writes the PTX anew
    fixtures.py --check [--into DIR]    fails if the committed PTX is not what the compiler makes

Always the pinned compiler of nvrtc.py, whatever toolkit is installed: other versions write other PTX.
Run it after a change of a kernel and commit what it writes.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import nvrtc

TESTS = Path(__file__).resolve().parents[1] / "tests"
# The text for 10.0 is that for 12.0 but for its target.
COMMON = ("80", "90", "120")
ARCHITECTURES = {
    "vector": COMMON,
    "gemm": (*COMMON, "100"),
    "attention": COMMON,
    "norm": COMMON,
    "sample": COMMON,
    "atomics": COMMON,
    "math": ("80", "120"),
    "formats": COMMON,
    "integer": COMMON,
    "control": COMMON,
    "branches": COMMON,
    "grid": COMMON,
    "calls": COMMON,
    "mbarrier": COMMON,
    "hopper": ("90", "100"),
    "wgmma": ("90a",),
}
# Kernels that are wrong on purpose: one architecture, the PTX beside them.
BUGS = ("races", "async", "memory", "barriers", "waits")


def outputs() -> Iterator[tuple[Path, str, Path]]:
    """Source, architecture and PTX of everything that is compiled."""
    for name, architectures in ARCHITECTURES.items():
        for architecture in architectures:
            yield TESTS / "kernels" / f"{name}.cu", architecture, TESTS / "ptx" / f"{name}.{architecture}.ptx"
    for name in BUGS:
        yield TESTS / "bugs" / f"{name}.cu", "80", TESTS / "bugs" / f"{name}.ptx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=nvrtc.DEFAULT, metavar="DIR", help="where the compiler is kept")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    try:
        compiler = nvrtc.Nvrtc(nvrtc.fetch_wheels(arguments.into))
        stale = []
        for source, architecture, path in outputs():
            ptx = compiler.compile(source, f"compute_{architecture}", [])
            if not arguments.check:
                path.write_text(ptx)
            elif not path.is_file() or path.read_text() != ptx:
                stale.append(path.name)
        if stale:
            raise nvrtc.Failed(f"not what their kernels compile to: {', '.join(stale)}; run {Path(__file__).name}")
    except (nvrtc.Failed, OSError) as error:
        sys.exit(f"fixtures.py: {error}")


if __name__ == "__main__":
    main()

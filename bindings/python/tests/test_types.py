"""The stub is that of the native module, the package keeps its own types, and so does a program that uses it."""

import subprocess
import sys

PROGRAM = """
from typing_extensions import assert_type
import numpy as np
from numpy.typing import NDArray
import muse

engine = muse.Engine("models/demo")
image = engine.generate("a cow", seed=7, temperature=(2, 0.5), callback=lambda step: step.preview())
assert_type(image, muse.Image)
assert_type(engine.inpaint(image, "a dog", boxes=[(0, 0, 8, 8)], count=2), list[muse.Image])
assert_type(image.base_tokens, NDArray[np.uint32])
assert_type(muse.AmusedPipeline.from_pretrained("amused-256"), muse.AmusedPipeline)
engine.generate("a cow", sed=7)  # an error
engine.vary(image, order="none")  # an error
engine.generate("a cow", callback=lambda: None)  # an error
"""


def mypy(module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_stub_is_true():
    code, said = mypy("mypy.stubtest", "muse._muse")
    assert code == 0, said


def test_a_program_is_checked(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    cache = ["--strict", "--cache-dir", tmp_path / "cache"]
    _, said = mypy("mypy", *cache, program)
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# an error" in line}
    found = {int(line.split(":")[1]) for line in said.splitlines() if "error:" in line}
    assert found == wrong, said

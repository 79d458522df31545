"""What the tests share: the program to compare with, and engines."""

import json
import pathlib
import subprocess

import pytest

import muse

ROOT = pathlib.Path(__file__).parents[3]
DEMO = ROOT / "models/demo"
PROMPT = "a frog above a banana"


@pytest.fixture(scope="session")
def engine():
    return muse.Engine(DEMO, device="cpu")


@pytest.fixture(scope="session")
def amused(tmp_path_factory):
    """The folder of a made-up aMUSEd model."""
    folder = tmp_path_factory.mktemp("amused")
    subprocess.run([ROOT / "target/release/fixtures", "flat", folder], check=True)
    return folder


@pytest.fixture
def program(tmp_path):
    """Runs `muse` for one image: its PNG bytes, and its line of JSON."""

    def run(*arguments, model=DEMO):
        path = tmp_path / "program.png"
        command = [ROOT / "target/release/muse", *arguments, "--device", "cpu", "--model", model]
        command += ["--json", "--force", "-o", path]
        done = subprocess.run([str(part) for part in command], check=True, capture_output=True)
        return path.read_bytes(), json.loads(done.stdout)

    return run

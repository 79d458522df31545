"""A worker of a local Ray cluster is killed in the middle: every image is there once, and none was made twice."""

import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from generate import key_of
from ray.cluster_utils import Cluster

import muse

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 240  # seconds
QUICK = {"steps": 6, "superres_steps": 2}
REQUESTS = [{"prompt": prompt, "seed": seed, **QUICK} for prompt in ("a frog", "two stars") for seed in range(20)]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each, so that each has a worker."""
    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
    yield cluster
    cluster.shutdown()


def start(cluster, prompts, folder):
    command = [sys.executable, ROOT / "examples/ray/generate.py", prompts, folder, "--model", ROOT / "models/demo"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    return subprocess.Popen([*command, "--device", "cpu"], env=environment, stdout=subprocess.PIPE, text=True)


def finished(run):
    """What a run says that it made, and that is missing."""
    said, _ = run.communicate(timeout=PATIENCE)
    print(said)
    assert run.returncode == 0
    return re.search(r"^(\d+) made, (\d+) missing$", said, re.MULTILINE).groups()


def done(folder):
    """Metadata of every image that is done."""
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def state(folder):
    """What changes when a file is written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.*")}


def test_a_killed_worker_loses_and_repeats_nothing(cluster, tmp_path):
    prompts, folder = tmp_path / "prompts.jsonl", tmp_path / "images"
    prompts.write_text("".join(json.dumps(request) + "\n" for request in REQUESTS))
    run = start(cluster, prompts, folder)

    # Once both workers have made two images, one of them dies in the middle of its next.
    deadline = time.monotonic() + PATIENCE
    counts = collections.Counter()
    while len(counts) < 2 or min(counts.values()) < 2:
        assert time.monotonic() < deadline and run.poll() is None, counts
        time.sleep(0.02)
        counts = collections.Counter(image["worker"] for image in done(folder)) if folder.exists() else counts
    victim = min(counts)
    os.kill(victim, signal.SIGKILL)
    before, counts = state(folder), collections.Counter(image["worker"] for image in done(folder))
    assert sum(counts.values()) < len(REQUESTS), "it was killed in the middle"
    assert finished(run)[1] == "0"

    after = state(folder)
    names = {f"{key_of(request)}.{kind}" for request in REQUESTS for kind in ("png", "json")}
    assert {path.name for path in folder.iterdir()} == names, "each once, and nothing half-written"
    assert before.items() <= after.items(), "what was done before is not made again"
    workers = collections.Counter(image["worker"] for image in done(folder))
    print("images of each worker:", dict(workers), "killed:", victim)
    assert workers[victim] == counts[victim], "others have made the rest"

    engine = muse.Engine(ROOT / "models/demo", device="cpu")
    for request in REQUESTS[::8]:
        assert (folder / f"{key_of(request)}.png").read_bytes() == engine.generate(**request).png()

    # The same again makes nothing, more prompts make what is new.
    more = {"prompt": "a cow", "seed": 1, **QUICK}
    with prompts.open("a") as file:
        file.write(json.dumps(more) + "\n")
    assert finished(start(cluster, prompts, folder)) == ("1", "0")
    assert after.items() <= state(folder).items()

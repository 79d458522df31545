"""Prompts in, images and metadata out, on the workers of a Ray cluster. It may be killed, whole or in part, and resumes.

    python examples/ray/generate.py prompts.jsonl images --workers 2

A line of the prompts is {"prompt": …, "seed": …}, and options of muse's besides. An image is done once images/KEY.json
is there, after images/KEY.png; KEY is a hash of the line.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import time

import ray

import muse


def key_of(request):
    """What an image's files are named by: two requests that differ in anything do not share one."""
    text = json.dumps(request, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def publish(folder, name, content):
    """Makes a file appear whole, and once: one that is there stays. Whether it was not there."""
    partial = folder / "partial" / f"{name}.{os.uname().nodename}.{os.getpid()}"
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(partial, folder / name)
        return True
    except FileExistsError:
        return False
    finally:
        partial.unlink()


class Worker:
    """A model, in a process of its own."""

    def __init__(self, model, device, threads, folder):
        self.engine = muse.Engine(model, device=device, threads=threads)
        self.folder = pathlib.Path(folder)

    def __call__(self, batch):
        made = [self.make(json.loads(line)) for line in batch["request"]]
        return {"key": list(batch["key"]), "made": made}

    def make(self, request):
        """Whether this call has made the image. Ray repeats what a killed worker had begun: all but what is done."""
        key = key_of(request)
        if (self.folder / f"{key}.json").exists():
            return False
        image = self.engine.generate(**request)
        publish(self.folder, f"{key}.png", image.png())
        metadata = {
            "request": request,
            "image": f"{key}.png",
            "model": self.engine.name,
            "width": image.width,
            "height": image.height,
            "notes": image.notes,
            "seconds": image.seconds,
            "worker": os.getpid(),
            "finished": time.time(),
        }
        return publish(self.folder, f"{key}.json", json.dumps(metadata).encode())


def main():
    parser = argparse.ArgumentParser(description="Makes the images of many prompts on a Ray cluster.")
    parser.add_argument("prompts", type=pathlib.Path, help="JSON lines: prompt, seed, and options of muse's")
    parser.add_argument("folder", type=pathlib.Path, help="that all workers see; what it has is not made again")
    parser.add_argument("--model", default="models/demo")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=1, help="cores of a worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker")
    options = parser.parse_args()

    requests = [json.loads(line) for line in options.prompts.read_text().splitlines() if line.strip()]
    folder = options.folder.resolve()
    shutil.rmtree(folder / "partial", ignore_errors=True)  # of a run that was killed
    (folder / "partial").mkdir(parents=True)
    keyed = {key_of(request): json.dumps(request) for request in requests}
    left = [{"key": key, "request": line} for key, line in keyed.items() if not (folder / f"{key}.json").exists()]
    print(f"{len(keyed)} images, {len(keyed) - len(left)} of them done before", flush=True)
    made = 0
    if left:
        ray.init(log_to_driver=False)
        # Ray Data starts a killed worker anew and repeats the block that it had begun: blocks of a few images each.
        blocks = ray.data.from_items(left, override_num_blocks=min(len(left), 8 * options.workers))
        rows = blocks.map_batches(
            Worker,
            fn_constructor_args=(os.path.abspath(options.model), options.device, options.cpus, str(folder)),
            compute=ray.data.ActorPoolStrategy(size=min(len(left), options.workers)),
            batch_size=1,
            num_cpus=options.cpus,
            num_gpus=options.gpus,
        )
        made = sum(row["made"] for row in rows.iter_rows())
    missing = [key for key in keyed if not (folder / f"{key}.json").exists()]
    shutil.rmtree(folder / "partial", ignore_errors=True)
    print(f"{made} made, {len(missing)} missing", flush=True)
    raise SystemExit(bool(missing))


if __name__ == "__main__":
    main()

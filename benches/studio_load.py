#!/usr/bin/env python3
"""`muse studio` under load: several clients ask for image after image, as the page does, some leave in the middle.

    python3 benches/studio_load.py --muse target/release/muse --clients 8 --seconds 300

Ends with 1 where an answer was wrong or late: a job that failed, two pictures of one seed, a health check that took
longer than a second, a client that was served less than half as often as another, memory that grew by more than 5 %
from a fifth of the time on.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEDS = 16  # each is asked for again and again, and always gives the same picture
LEAVES = 10  # every tenth job is left after its first step


class Client(threading.Thread):
    def __init__(self, number, load):
        super().__init__()
        self.number, self.load = number, load
        self.latencies, self.left = [], 0

    def run(self):
        turn = 0
        while not self.load.over.is_set():
            turn += 1
            try:
                self.job((self.number + turn) % SEEDS, leave=turn % LEAVES == 0)
            except Exception as error:  # whatever it is, it is a result
                self.load.wrong.append(f"client {self.number}: {type(error).__name__}: {error}")

    def job(self, seed, leave):
        body = json.dumps({"request": {"prompt": "a frog above two stars at night", "seed": seed}, "preview": True})
        start = time.monotonic()
        connection = http.client.HTTPConnection(self.load.address, timeout=120)
        try:
            connection.request("POST", "/jobs", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"{answer.status} {answer.read().decode()}")
            last = None
            for line in answer:
                if not line.startswith(b"data: "):
                    continue
                last = json.loads(line[6:])
                if leave and last["event"] == "step":
                    self.left += 1
                    return
            if last["event"] != "done":
                raise ValueError(f"the last event was {last}")
        finally:
            connection.close()
        self.latencies.append(time.monotonic() - start)
        if self.load.pictures.setdefault(seed, last["image"]) != last["image"]:
            raise ValueError(f"two pictures of seed {seed}")


class Load:
    def __init__(self, address, process):
        self.address, self.process = address, process
        self.over, self.wrong, self.pictures, self.health = threading.Event(), [], {}, []

    def resident(self):
        """MiB of memory, without files that are mapped."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    def ask(self):
        start = time.monotonic()
        try:
            connection = http.client.HTTPConnection(self.address, timeout=10)
            connection.request("GET", "/health")
            if json.load(connection.getresponse())["status"] != "ok":
                raise ValueError("it says that it is not")
            connection.close()
        except Exception as error:
            self.wrong.append(f"health: {error}")
        self.health.append(time.monotonic() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--muse", default="target/release/muse")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    command = [Path(arguments.muse).resolve(), "studio", "--device", "cpu", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip().removeprefix("http://")
        if not address:
            sys.exit("muse studio does not start: build it with `--features studio`")
        load = Load(address, process)
        clients = [Client(number, load) for number in range(arguments.clients)]
        start, early = time.monotonic(), None
        for client in clients:
            client.start()
        while (passed := time.monotonic() - start) < arguments.seconds:
            if early is None and passed >= arguments.seconds / 5:
                early = load.resident()
            load.ask()
            time.sleep(0.2)
        late = load.resident()
        load.over.set()
        for client in clients:
            client.join()
    finally:
        process.kill()
        process.wait()

    print("| client | images | left | median s | 95 % s | most s |\n|---|---|---|---|---|---|")
    for client in clients:
        times = sorted(client.latencies) or [float("nan")]
        tail = times[min(len(times) - 1, int(0.95 * len(times)))]
        row = f"{client.number} | {len(client.latencies)} | {client.left} | {statistics.median(times):.2f} | {tail:.2f}"
        print(f"| {row} | {times[-1]:.2f} |")
    counts = [len(client.latencies) for client in clients]
    print(f"\n{sum(counts)} images in {arguments.seconds:.0f} s; {len(load.wrong)} errors")
    print(f"memory {early:.0f} MiB after {arguments.seconds / 5:.0f} s, {late:.0f} MiB after {arguments.seconds:.0f} s")
    median, most = statistics.median(load.health), max(load.health)
    print(f"{len(load.health)} health checks: median {1e3 * median:.1f} ms, most {1e3 * most:.1f} ms")
    if most > 1:
        load.wrong.append("a health check took longer than a second")
    if min(counts) < max(counts) / 2:
        load.wrong.append("a client was served less than half as often as another")
    if late > 1.05 * early:
        load.wrong.append("memory has grown")
    for wrong in load.wrong[:20]:
        print(wrong, file=sys.stderr)
    sys.exit(bool(load.wrong))


if __name__ == "__main__":
    main()

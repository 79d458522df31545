"""How an engine answers `muse-bench peers`: a command a line on standard input, an answer a line on standard output.

    (start)                                        {"versions": "torch 2.15.0", "how": "eager"}
    {"image": {"seed": 3, "steps": 12}}            {"seconds": {"text": 0.1, "base step": 1.3, ...}}
    "first_step"                                   {}, once a first decode step is done
    {"probe": {"logits": PATH, "picture": PATH}}   {}, once both are written: f32 [2, masked, codes], u8 [H, W, 3]

`steps` may be null: the model's own. A probe is of fixed tokens: cell i holds code 31 i modulo the codebook, and every
second one, from the second on, is masked for the logits. What goes wrong is answered with {"error": "..."}.
"""

import json
import os
import sys


def serve(load) -> None:
    """Answers with the engine that `load()` gives, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(work) -> bool:
        try:
            value = work()
        except Exception as error:
            value = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(value), file=answers, flush=True)
        return "error" not in value

    engine = None

    def start() -> dict:
        nonlocal engine
        engine = load()
        return {"versions": engine.versions, "how": engine.how}

    def obey(command) -> dict:
        match command:
            case {"image": {"seed": seed, "steps": steps}}:
                return {"seconds": engine.image(seed, steps)}
            case "first_step":
                engine.first_step()
                return {}
            case {"probe": {"logits": logits, "picture": picture}}:
                values, pixels = engine.probe()
                values.astype("<f4").tofile(logits)
                pixels.tofile(picture)
                return {}
        raise ValueError(f"unknown command {command!r}")

    if answer(start):
        for line in sys.stdin:
            answer(lambda: obey(json.loads(line)))

"""The training tool's PyTorch models on the demonstration model's files: transformers in the dtype asked for, text
encoder and VQ decoder in f32."""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "train"))

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import vq  # noqa: E402
from amused import arguments, bytes_of  # noqa: E402
from decode import decode  # noqa: E402
from serve import serve  # noqa: E402
from text import TextEncoder, pad  # noqa: E402
from train_masked import make  # noqa: E402


class Demo:
    how = "eager, the training tool's models; the text encoder's weights in f32, which muse rounds to bf16"

    def __init__(self, given):
        self.prompt = given.prompt
        self.versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "diffusers", "transformers"))
        self.settings = {}
        self.stages = {}
        config = json.loads((given.model / "config.json").read_text())
        for stage in ("base", "superres"):
            transformer = make(stage, torch.bfloat16 if given.dtype == "bf16" else torch.float32)[0]
            transformer.load_state_dict({k: v.float() for k, v in load_file(given.model / f"{stage}.safetensors").items()})
            self.stages[stage] = transformer.eval().requires_grad_(False)
            self.settings[stage] = config[stage]["decode"]
        self.text = TextEncoder()
        self.vq = vq.build(128)
        self.vq.load_state_dict({k: v.float() for k, v in load_file(given.model / "vq_superres.safetensors").items()})
        self.vq.eval()

    def image(self, seed: int, steps: int | None) -> dict[str, float]:
        start = time.perf_counter()
        text, empty = self.text.encode([self.prompt, ""])
        seconds = {"text": time.perf_counter() - start}
        generator, tokens = torch.Generator().manual_seed(seed), None
        for stage, transformer in self.stages.items():
            settings = self.settings[stage] | ({"steps": steps} if steps else {})
            before = time.perf_counter()
            tokens = decode(transformer, [text], empty, settings, generator, tokens)
            seconds[f"{stage} stage"] = time.perf_counter() - before
            seconds[f"{stage} step"] = seconds[f"{stage} stage"] / settings["steps"]
        before = time.perf_counter()
        bytes_of(vq.detokenise(self.vq, tokens))
        end = time.perf_counter()
        return seconds | {"vq": end - before, "image": end - start}

    def first_step(self) -> None:
        text, empty = self.text.encode([self.prompt, ""])
        decode(self.stages["base"], [text], empty, self.settings["base"] | {"steps": 1}, torch.Generator())

    def probe(self):
        base, fine = (stage.config for stage in self.stages.values())
        codes = 31 * torch.arange(base.grid**2) % base.codebook_size
        codes[1::2] = base.codebook_size
        text, bias = pad(self.text.encode([self.prompt, ""]))
        rows = self.stages["base"](codes.expand(2, -1), text, bias)[:, 1::2]
        codes = 31 * torch.arange(fine.grid**2) % fine.codebook_size
        return rows.contiguous().numpy(), bytes_of(vq.detokenise(self.vq, codes[None]))


if __name__ == "__main__":
    given = arguments()
    serve(lambda: Demo(given))

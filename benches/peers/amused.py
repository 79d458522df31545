"""diffusers' AmusedPipeline as a loop over three functions, which an engine provides: every engine runs the same loop,
with diffusers' scheduler."""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import torch
from diffusers import AmusedScheduler
from diffusers.utils import logging
from transformers import CLIPTokenizer

logging.set_verbosity_error()
logging.disable_progress_bar()

STEPS, GUIDANCE, TEMPERATURE, AESTHETIC = 12, 10.0, (2, 0), 6
FACTOR = 16  # pixels of a token's side


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("--dtype", choices=["f32", "bf16", "int8"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--converted", type=Path, help="the model in the engine's own format")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    return given


class Amused:
    device = "cpu"

    def __init__(self, given, packages: list[str]):
        self.prompt = given.prompt
        self.tokenizer = CLIPTokenizer.from_pretrained(given.model / "tokenizer")
        self.scheduler = AmusedScheduler.from_pretrained(given.model / "scheduler")
        self.versions = ", ".join(f"{package} {version(package)}" for package in packages)
        transformer, text = (config(given.model / part) for part in ("transformer", "text_encoder"))
        self.side, self.codes = transformer["sample_size"], transformer["codebook_size"]
        self.length = text["max_position_embeddings"]
        self.mask = self.scheduler.config.mask_token_id

    def encode(self, ids):
        """ids [2, L] -> states [2, L, width] before the last layer, pooled [2, width]"""
        raise NotImplementedError

    def logits(self, tokens, states, pooled, micro):
        """tokens [2, h, w], micro [2, 5] -> [2, codes, h, w]"""
        raise NotImplementedError

    def decode(self, tokens):
        """tokens [1, h, w] -> pixels [1, 3, H, W] in 0…1, or a little beyond"""
        raise NotImplementedError

    def finish(self) -> None:
        """Waits for the device."""

    def clock(self) -> float:
        self.finish()
        return time.perf_counter()

    def text(self):
        """The unconditional text first, as in diffusers."""
        settings = {"padding": "max_length", "truncation": True, "max_length": self.length, "return_tensors": "pt"}
        return self.encode(self.tokenizer(["", self.prompt], **settings).input_ids.to(self.device))

    def rows(self, latents, states, pooled):
        """Logits of both texts."""
        size = FACTOR * self.side
        micro = torch.tensor([[size, size, 0, 0, AESTHETIC]] * 2, dtype=states.dtype, device=self.device)
        return self.logits(torch.cat([latents] * 2), states, pooled, micro)

    def step(self, latents, text, timestep, generator):
        unconditional, conditional = self.rows(latents, *text).chunk(2)
        guided = unconditional + GUIDANCE * (conditional - unconditional)
        return self.scheduler.step(guided, timestep, latents, generator=generator).prev_sample

    def begin(self, seed: int, steps: int):
        self.scheduler.set_timesteps(steps, TEMPERATURE, self.device)
        latents = torch.full((1, self.side, self.side), self.mask, device=self.device)
        return latents, torch.Generator(self.device).manual_seed(seed)

    def image(self, seed: int, steps: int | None) -> dict[str, float]:
        start = self.clock()
        text = self.text()
        encoded = self.clock()
        latents, generator = self.begin(seed, steps or STEPS)
        of_steps = 0.0
        for timestep in self.scheduler.timesteps:
            before = self.clock()
            latents = self.step(latents, text, timestep, generator)
            of_steps += self.clock() - before
        decoded = self.clock()
        bytes_of(self.decode(latents))
        end = self.clock()
        return {
            "text": encoded - start,
            "base step": of_steps / len(self.scheduler.timesteps),
            "base stage": decoded - encoded,
            "vq": end - decoded,
            "image": end - start,
        }

    def first_step(self) -> None:
        text = self.text()
        latents, generator = self.begin(0, STEPS)
        self.step(latents, text, self.scheduler.timesteps[0], generator)
        self.finish()

    def probe(self):
        cells = torch.arange(self.side**2, device=self.device)
        codes = 31 * cells % self.codes
        tokens = torch.where(cells % 2 == 1, self.mask, codes)
        grid = (1, self.side, self.side)
        rows = self.rows(tokens.reshape(grid), *self.text()).flatten(2).transpose(1, 2)[:, 1::2]
        picture = bytes_of(self.decode(codes.reshape(grid)))
        return rows.flip(0).float().contiguous().cpu().numpy(), picture


def bytes_of(pixels):
    """u8 [H, W, 3]"""
    return (pixels[0].float().clip(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def config(part: Path) -> dict:
    return json.loads((part / "config.json").read_text())

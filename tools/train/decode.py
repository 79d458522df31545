"""Parallel decoding with the semantics of the Rust engine's decode loop, in PyTorch."""

import math

import torch

from text import pad
from transformer import MaskedTransformer

# What config.json tells the engine to use when the caller gives nothing else.
SETTINGS = {
    "base": {
        "steps": 12,
        "guidance_start": 1.5,
        "guidance": 2.0,
        "guidance_schedule": {"interval": [0.0, 0.3]},
        "temperature": 1.5,
        "token_temperature": 0.3,
        "top_k": 0,
    },
    "superres": {
        "steps": 4,
        "guidance_start": 1.0,
        "guidance": 1.0,
        "temperature": 0.0,
        "token_temperature": 0.2,
        "top_k": 0,
    },
}


def gumbel(shape, generator: torch.Generator) -> torch.Tensor:
    uniform = torch.rand(shape, generator=generator).clamp(1e-7, 1 - 1e-7)
    return -(-uniform.log()).log()


def guidance(settings: dict, step: int) -> float:
    """The guidance scale of a step: the same in all, rising linearly, or there between two parts of the loop alone."""
    steps, schedule = settings["steps"], settings.get("guidance_schedule", "linear")
    if schedule != "linear":
        start, end = (0, 1) if schedule == "constant" else schedule["interval"]
        return settings["guidance"] if start <= step / steps < end else 1.0
    ratio = step / (steps - 1) if steps > 1 else 1.0
    return settings["guidance_start"] + (settings["guidance"] - settings["guidance_start"]) * ratio


@torch.inference_mode()
def decode(
    model: MaskedTransformer,
    texts: list,
    unconditional,
    settings: dict,
    generator: torch.Generator,
    coarse=None,
) -> torch.Tensor:
    """Text states per row -> ids [n, t]. `unconditional` is the text states of the empty caption."""
    rows, cells, steps = len(texts), model.config.grid**2, settings["steps"]
    text, bias = pad(texts + [unconditional] * rows)
    ids = torch.full((rows, cells), model.mask_id)
    for step in range(steps):
        masked = ids == model.mask_id
        scale = guidance(settings, step)
        halves = 2 if scale != 1.0 else 1
        logits = model(
            ids.repeat(halves, 1),
            text[: halves * rows],
            bias[: halves * rows],
            None if coarse is None else coarse.repeat(halves, 1),
        )
        if halves == 2:
            conditional, free = logits.chunk(2)
            logits = free + scale * (conditional - free)
        logits = logits / settings["token_temperature"]
        if settings["top_k"]:
            least = logits.topk(settings["top_k"]).values[..., -1:]
            logits = logits.masked_fill(logits < least, -math.inf)
        logarithm = logits.log_softmax(-1)
        sampled = (logarithm + gumbel(logits.shape, generator)).argmax(-1)
        confidence = logarithm.gather(-1, sampled[..., None])[..., 0]
        confidence += settings["temperature"] * (1 - (step + 1) / steps) * gumbel(confidence.shape, generator)
        confidence.masked_fill_(~masked, math.inf)
        ids = torch.where(masked, sampled, ids)
        if step + 1 < steps:
            unknown = int(masked[0].sum())
            left = math.floor(cells * math.cos(math.pi / 2 * (step + 1) / steps))
            left = max(1, min(left, unknown - 1))
            if left < unknown:
                lowest = confidence.argsort(dim=1, stable=True)[:, :left]
                ids.scatter_(1, lowest, model.mask_id)
    return ids

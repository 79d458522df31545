"""Stages `base` and `superres`: trains a masked-token transformer on cached pairs."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import vq
from data import load_vq, text_cache, token_cache
from decode import SETTINGS, decode
from optim import Optimiser
from runtime import Loop, World, learning_rate, sheet, to_bytes
from scenes import Renderer, Sampler
from text import TextEncoder, pad
from transformer import BASE, SUPERRES, MaskedTransformer

CAPTION_DROPOUT = 0.1
COARSE_CORRUPTION = 0.1  # super-res: up to this share of a sample's coarse tokens is replaced by random ones
LABEL_SMOOTHING = 0.1
EMA = 0.998
SHEET_SECONDS = 300
CONFIGS = {"base": BASE, "superres": SUPERRES}
BATCH = {"base": 64, "superres": 16}
RATES = {"base": (0.02, 3e-3), "superres": (0.015, 2e-3)}  # Muon, AdamW


def make(stage: str, dtype: torch.dtype = torch.float32) -> tuple[MaskedTransformer, Optimiser]:
    model = MaskedTransformer(CONFIGS[stage], dtype)
    return model, Optimiser(*model.split_parameters(), *RATES[stage], EMA, dtype)


def load_average(out: Path, stage: str) -> MaskedTransformer:
    """The model with its averaged weights, ready for sampling and export."""
    model, optimiser = make(stage)
    saved = torch.load(out / f"{stage}.pt", weights_only=True)["state"]["optimiser"]
    with torch.no_grad():
        torch._foreach_copy_(optimiser.parameters, saved["average"])
    return model.eval().requires_grad_(False)


class Pairs:
    """Shuffled (text states, tokens) by global sample number."""

    def __init__(self, texts, tokens: list[np.ndarray], seed: int):
        self.texts, self.tokens, self.seed = texts, tokens, seed
        self.epoch, self.order = -1, np.empty(0, np.int64)

    def batch(self, samples: range, generator: torch.Generator):
        count = len(self.texts)
        chosen = []
        for sample in samples:
            if sample // count != self.epoch:
                self.epoch = sample // count
                self.order = np.random.default_rng((self.seed, self.epoch)).permutation(count)
            chosen.append(self.order[sample % count])
        dropped = torch.rand(len(chosen), generator=generator) < CAPTION_DROPOUT
        text, bias = pad([self.texts.caption(-1 if d else i) for i, d in zip(chosen, dropped)])
        return text, bias, *(torch.from_numpy(t[chosen].astype(np.int64)) for t in self.tokens)


def random_mask(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Masks cos(pi u / 2) of each row's positions, at least one."""
    share = torch.cos(math.pi / 2 * torch.rand(shape[0], 1, generator=generator))
    count = (share * shape[1]).ceil().clamp(1, shape[1])
    return torch.rand(shape, generator=generator).argsort(1).argsort(1) < count


def corrupted(ids: torch.Tensor, codes: int, generator: torch.Generator) -> torch.Tensor:
    share = COARSE_CORRUPTION * torch.rand(len(ids), 1, generator=generator)
    noise = torch.randint(0, codes, ids.shape, generator=generator)
    return torch.where(torch.rand(ids.shape, generator=generator) < share, noise, ids)


def run(args) -> None:
    stage, world, out = args.stage, World(args.threads), Path(args.out)
    torch.manual_seed(args.seed)
    texts = text_cache(out, args, world)
    sizes = (64,) if stage == "base" else (128, 64)  # own tokens, then the coarse ones
    pairs = Pairs(texts, [token_cache(out, size, args, world) for size in sizes], args.seed)
    model, optimiser = make(stage, torch.bfloat16 if args.bf16 else torch.float32)
    loop = Loop(
        world,
        out,
        stage,
        {"optimiser": optimiser},
        args.batch or BATCH[stage],
        args.minutes,
        args.steps,
        args.seed,
    )
    loop.print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(texts)} pairs")
    examples = Examples(args, stage, sizes) if world.first else None
    sheet_at = loop.seconds + SHEET_SECONDS
    while (progress := loop.progress()) < 1:
        generator = torch.Generator().manual_seed(loop.seed_of_step())
        text, bias, tokens, *coarse = pairs.batch(loop.indices(), generator)
        if coarse:
            coarse = [corrupted(coarse[0], model.config.codebook_size, generator)]
        mask = random_mask(tokens.shape, generator)
        logits = model(torch.where(mask, model.mask_id, tokens), text, bias, *coarse, where=mask)
        loss = F.cross_entropy(logits, tokens[mask], label_smoothing=LABEL_SMOOTHING)
        loss.backward()
        world.mean_gradients_(optimiser.parameters)
        optimiser.step(learning_rate(loop.steps, progress, 0.6))
        with torch.no_grad():
            plain = F.cross_entropy(logits, tokens[mask]).item()
        loop.tick({"loss": loss.item(), "cross_entropy": plain})
        if examples and loop.seconds > sheet_at:
            examples.draw(optimiser, model, out / f"{stage}.png")
            sheet_at = loop.seconds + SHEET_SECONDS
    loop.save()
    if examples:
        examples.draw(optimiser, model, out / f"{stage}.png")
    world.close()


class Examples:
    """The sheet of the first held-out captions; super-res decodes them from true coarse tokens."""

    COUNT = 16

    def __init__(self, args, stage: str, sizes: tuple[int, ...]):
        self.stage, self.out = stage, Path(args.out)
        renderer = Renderer(args.font)
        sampler = Sampler(renderer, "test")
        self.captions = [sampler.scene(i).caption for i in range(self.COUNT)]
        *self.texts, self.empty = TextEncoder().encode(self.captions + [""])
        self.vq = load_vq(self.out, sizes[0])
        self.coarse = None
        if stage == "superres":
            self.coarse = vq.tokenise(
                load_vq(self.out, 64), vq.batch_of(sampler, renderer, range(self.COUNT))[0]
            )

    def draw(self, optimiser: Optimiser, model: MaskedTransformer, path: Path) -> None:
        with torch.no_grad():
            torch._foreach_copy_(optimiser.parameters, optimiser.average)
            ids = decode(
                model,
                self.texts,
                self.empty,
                SETTINGS[self.stage],
                torch.Generator().manual_seed(0),
                self.coarse,
            )
            torch._foreach_copy_(optimiser.parameters, optimiser.masters)
        pictures = to_bytes(vq.detokenise(self.vq, ids))
        sheet(
            path,
            [pictures[i : i + 4] for i in range(0, self.COUNT, 4)],
            self.captions,
            2 if self.stage == "base" else 1,
        )

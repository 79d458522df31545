"""The VQ tokenizer: diffusers' VQModel, and a codebook learned by exponential moving averages."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import VQModel
from torch import nn

from runtime import World
from scenes import Renderer, Sampler

CODES, WIDTH = 1024, 16
CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 64, 96],
    "layers_per_block": 1,
    "latent_channels": WIDTH,
    "num_vq_embeddings": CODES,
    "norm_num_groups": 8,
    "vq_embed_dim": WIDTH,
    "mid_block_add_attention": False,
    "act_fn": "silu",
    "norm_type": "group",
    "sample_size": 64,
    "scaling_factor": 1.0,
    "lookup_from_codebook": False,
    "force_upcast": False,
}


class GroupNorm(nn.GroupNorm):
    """In f32 under autocast: PyTorch's backward of a bf16 group norm is slow on a CPU."""

    def forward(self, x):
        return F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)


def build(size: int = 64) -> VQModel:
    model = VQModel(**CONFIG | {"sample_size": size}).to(memory_format=torch.channels_last)
    model.quantize.embedding.weight.requires_grad_(False)
    return model


def norms_in_f32(model: VQModel) -> None:
    """For training in bf16 alone: everybody else runs diffusers' model as it is."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.__class__ = GroupNorm


def load_checkpoint(model: VQModel, path: Path) -> None:
    model.load_state_dict(torch.load(path, weights_only=True)["state"]["model"])


def batch_of(sampler: Sampler, renderer: Renderer, indices) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [n, 3, h, w] in 0…1 (channels last) and foreground masks [n, h, w] in {0, 1}."""
    drawn = [renderer.draw(sampler.scene(i)) for i in indices]
    images = torch.from_numpy(np.stack([image for image, _ in drawn])).permute(0, 3, 1, 2).float().div(255)
    masks = torch.from_numpy(np.stack([mask for _, mask in drawn])).float()
    return images.contiguous(memory_format=torch.channels_last), masks


def latents(model: VQModel, images: torch.Tensor) -> torch.Tensor:
    """[n, 3, h, w] in 0…1 -> [n, 16, h/8, w/8]."""
    return model.quant_conv(model.encoder(images))


def decode_latents(model: VQModel, z: torch.Tensor) -> torch.Tensor:
    return model.decoder(model.post_quant_conv(z))


def nearest(z: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """[n, d] -> ids [n] of the nearest codes by squared distance."""
    return (codebook.square().sum(1) - 2 * z @ codebook.T).argmin(1)


@torch.no_grad()
def tokenise(model: VQModel, images: torch.Tensor) -> torch.Tensor:
    """[n, 3, h, w] -> ids [n, h/8 * w/8]."""
    z = latents(model, images).float().permute(0, 2, 3, 1)
    return nearest(z.reshape(-1, WIDTH), model.quantize.embedding.weight.float()).view(z.size(0), -1)


def detokenise(model: VQModel, ids: torch.Tensor) -> torch.Tensor:
    """ids [n, t] of a square grid -> images [n, 3, h, w]."""
    side = round(ids.size(1) ** 0.5)
    z = model.quantize.embedding.weight[ids].view(-1, side, side, WIDTH).permute(0, 3, 1, 2)
    return decode_latents(model, z.contiguous(memory_format=torch.channels_last))


class Codebook:
    """Moving averages of the latents assigned to each code; dead codes restart at badly coded latents."""

    DECAY, DEAD = 0.98, 0.02

    def __init__(self, weight: torch.Tensor, world: World):
        self.weight, self.world = weight, world  # [K, d], written in place
        self.counts = torch.zeros(CODES)
        self.sums = torch.zeros(CODES, WIDTH)
        self.started = False

    @torch.no_grad()
    def start(self, z: torch.Tensor, generator: torch.Generator) -> None:
        """k-means over [n, d] collected latents; duplicates (plain background) count once."""
        rounded = (z * 64).round()
        _, first = torch.unique(rounded, dim=0, return_inverse=True)
        keep = torch.zeros(int(first.max()) + 1, dtype=torch.long)
        keep[first] = torch.arange(len(z))
        points = z[keep]
        centres = points[torch.randperm(len(points), generator=generator)[:CODES]]
        if len(centres) < CODES:
            centres = torch.cat(
                [centres, centres[:1] + torch.randn(CODES - len(centres), WIDTH, generator=generator) * 0.01]
            )
        for _ in range(8):
            ids = nearest(points, centres)
            counts = torch.bincount(ids, minlength=CODES).float()
            sums = torch.zeros(CODES, WIDTH).index_add_(0, ids, points)
            centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        self.weight.copy_(self.world.from_first(centres.contiguous()))
        self.counts.fill_(1.0)
        self.sums.copy_(self.weight)
        self.started = True

    @torch.no_grad()
    def update(self, z: torch.Tensor, ids: torch.Tensor, restart: bool, generator: torch.Generator) -> float:
        """Moves the codes towards this batch's latents [n, d]; returns the share of live codes."""
        counts = torch.bincount(ids, minlength=CODES).float()
        sums = torch.zeros(CODES, WIDTH).index_add_(0, ids, z)
        self.world.sum_(counts, sums)
        self.counts.lerp_(counts, 1 - self.DECAY)
        self.sums.lerp_(sums, 1 - self.DECAY)
        self.weight.copy_(
            torch.where(
                self.counts[:, None] > 1e-3, self.sums / self.counts.clamp(min=1e-3)[:, None], self.weight
            )
        )
        dead = (self.counts < self.DEAD).nonzero().flatten()
        if restart and len(dead):
            error = (z - self.weight[ids]).square().sum(1)
            chosen = z[
                torch.multinomial(
                    error + 1e-12, len(dead), replacement=len(dead) > len(z), generator=generator
                )
            ]
            chosen = self.world.from_first(chosen.contiguous())
            self.weight[dead] = chosen
            self.sums[dead] = chosen
            self.counts[dead] = 1.0
        return 1 - len(dead) / CODES

    def state_dict(self) -> dict:
        return {"counts": self.counts, "sums": self.sums, "started": self.started}

    def load_state_dict(self, state: dict) -> None:
        self.counts.copy_(state["counts"])
        self.sums.copy_(state["sums"])
        self.started = state["started"]


def psnr(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor | None = None) -> float:
    error = (a.float().clamp(0, 1) - b.float()).square().mean(1)
    mean = error.mean() if weight is None else (error * weight).sum() / weight.sum()
    return float(-10 * torch.log10(mean + 1e-10))

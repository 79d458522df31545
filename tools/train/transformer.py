"""The masked-token transformers. Base and super-res are one class; super-res adds the coarse encoder.

Matrices are of `dtype` and multiply in it; embeddings, norms and the residual stream are f32. The
names of the parameters are the checkpoint format. Softmax attention is written out: PyTorch's fused
attention is slow backwards in bf16 on a CPU.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HEAD = 64


@dataclass(frozen=True)
class Config:
    num_layers: int
    grid: int  # tokens per side
    hidden_size: int = 256
    text_size: int = 384
    codebook_size: int = 1024
    coarse_layers: int = 0  # 0: no coarse encoder (base)
    coarse_grid: int = 8

    def to_json(self) -> dict:
        result = {
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "num_heads": self.hidden_size // HEAD,
            "mlp_size": 4 * self.hidden_size,
            "text_size": self.text_size,
            "codebook_size": self.codebook_size,
            "grid": [self.grid, self.grid],
            "layer_norm_eps": 1e-5,
        }
        if self.coarse_layers:
            result["coarse"] = {
                "codebook_size": self.codebook_size,
                "grid": [self.coarse_grid] * 2,
                "num_layers": self.coarse_layers,
                "in_place": True,
            }
        return result


BASE = Config(num_layers=6, grid=8)
SUPERRES = Config(num_layers=3, grid=16, coarse_layers=1)


def linear(inputs: int, outputs: int, zero: bool = False) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    if zero:
        nn.init.zeros_(layer.weight)
    return layer


class Attention(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.q, self.k, self.v = (linear(size, size) for _ in range(3))
        self.out = linear(size, size, zero=True)

    def forward(self, x, context, bias=None):
        """x [n, t, d], context [n, l, d], bias [n, 1, 1, l] -> [n, t, d]."""
        q, k, v = (
            y.unflatten(-1, (-1, HEAD)).transpose(1, 2) for y in (self.q(x), self.k(context), self.v(context))
        )
        scores = (q * HEAD**-0.5) @ k.mT
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.up = linear(size, 4 * size)
        self.down = linear(4 * size, size, zero=True)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Layer(nn.Module):
    def __init__(self, size: int, cross: bool):
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(size), Attention(size)
        if cross:
            self.cross_norm, self.cross_attention = nn.LayerNorm(size), Attention(size)
        self.mlp_norm, self.mlp = nn.LayerNorm(size), Mlp(size)

    def forward(self, x, context=None, bias=None):
        dtype = self.mlp.up.weight.dtype
        h = self.self_norm(x).to(dtype)
        x = x + self.self_attention(h, h)
        if context is not None:
            x = x + self.cross_attention(self.cross_norm(x).to(dtype), context, bias)
        return x + self.mlp(self.mlp_norm(x).to(dtype))


def embeddings(count: int, grid: int, size: int) -> tuple[nn.Embedding, nn.Embedding]:
    """Token embedding, and learned 2-D position embedding that starts as sines and cosines."""
    tokens, positions = nn.Embedding(count, size), nn.Embedding(grid * grid, size)
    nn.init.normal_(tokens.weight, std=0.5)
    frequency = 10000 ** -(np.arange(size // 4) / (size // 4))
    y, x = np.mgrid[:grid, :grid].reshape(2, -1, 1) * frequency
    waves = np.concatenate([np.sin(y), np.cos(y), np.sin(x), np.cos(x)], axis=1)
    positions.weight.data.copy_(torch.from_numpy(0.5 * waves))
    return tokens, positions


class CoarseEncoder(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        size = config.hidden_size
        self.grid = config.coarse_grid
        self.token_embedding, self.position_embedding = embeddings(config.codebook_size, self.grid, size)
        self.layers = nn.ModuleList(Layer(size, cross=False) for _ in range(config.coarse_layers))
        self.final_norm = nn.LayerNorm(size)
        self.in_place = linear(size, 4 * size)

    def forward(self, ids):
        """Coarse ids [n, g*g] -> states [n, g*g, d], the same projected to the fine grid [n, 2g*2g, d]."""
        x = self.token_embedding(ids) + self.position_embedding.weight
        for layer in self.layers:
            x = layer(x)
        states = self.final_norm(x).to(self.in_place.weight.dtype)
        cells = self.in_place(states).unflatten(-1, (2, 2, -1)).unflatten(1, (self.grid, self.grid))
        return states, cells.permute(0, 1, 3, 2, 4, 5).flatten(1, 4)


class MaskedTransformer(nn.Module):
    def __init__(self, config: Config, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.config, size = config, config.hidden_size
        self.mask_id = config.codebook_size
        self.token_embedding, self.position_embedding = embeddings(
            config.codebook_size + 1, config.grid, size
        )
        self.text_projection = linear(config.text_size, size)
        self.layers = nn.ModuleList(Layer(size, cross=True) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(size)
        self.head = linear(size, config.codebook_size)
        self.coarse = CoarseEncoder(config) if config.coarse_layers else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.to(dtype)

    def forward(self, ids, text, bias, coarse_ids=None, where=None):
        """ids [n, t], text [n, l, 384] and bias [n, 1, 1, l] of any float dtype -> f32 logits [n, t, V],
        or [m, V] of the positions where `where` [n, t] is true."""
        x = self.token_embedding(ids) + self.position_embedding.weight
        context = self.text_projection(text.to(self.head.weight.dtype))
        if self.coarse is not None:
            states, in_place = self.coarse(coarse_ids)
            x = x + in_place.view_as(x)
            context = torch.cat([states, context], 1)
            bias = F.pad(bias, (states.size(1), 0))
        for layer in self.layers:
            x = layer(x, context, bias)
        x = x if where is None else x[where]
        return self.head(self.final_norm(x).to(self.head.weight.dtype)).float()

    def split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Matrices for Muon; embeddings, head and norms for AdamW."""
        matrices = [m.weight for m in self.modules() if isinstance(m, nn.Linear) and m is not self.head]
        chosen = {id(p) for p in matrices}
        return matrices, [p for p in self.parameters() if id(p) not in chosen]

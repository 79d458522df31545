"""The made-up aMUSEd models of `tools/fixtures`, in PyTorch: weights, inputs and images as functions of a name
and an index. `tools/fixtures/src/lib.rs` computes the same bits.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AmusedScheduler, UVit2DModel, VQModel
from diffusers.utils import logging
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

logging.set_verbosity_error()  # diffusers warns of `.to(dtype)` and of its own deprecated pipelines
FOLDER = Path(__file__).resolve().parents[1] / "fixtures"
MODELS = json.loads((FOLDER / "models.json").read_text())
CHUNK = 1 << 20  # values made at a time


def fnv1a(data: bytes) -> int:
    """64-bit FNV-1a."""
    hash = 0xCBF29CE484222325
    for byte in data:
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return hash


def words(name: str, start: int, count: int) -> np.ndarray:
    """Words `start ..` of the SplitMix64 whose seed is the hash of `name`."""
    index = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z = np.uint64(fnv1a(name.encode())) + index * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name: str, shape, center: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    """f32 `shape`: center + scale * u, u of 24 bits in [-1, 1); each operation rounded to f32."""
    out = np.empty(math.prod(shape), dtype=np.float32)
    for start in range(0, out.size, CHUNK):
        part = out[start : start + CHUNK]
        bits = (words(name, start, part.size) >> np.uint64(40)).astype(np.int32) - (1 << 23)
        part[:] = np.float32(center) + np.float32(scale) * (bits.astype(np.float32) * np.float32(2.0**-23))
    return torch.from_numpy(out.reshape(shape))


def weight(part: str, name: str, shape) -> torch.Tensor:
    """Norms about 1, biases and GRN about 0, tables in [-1, 1), the rest with unit gain; nothing is neutral."""
    center, scale = 0.0, 1.0
    if len(shape) == 1:
        center, scale = (1.0, 0.3) if name.endswith(".weight") else (0.0, 0.3)
    elif shape[0] != 1 and "embedding" not in name:
        scale = math.sqrt(3 / math.prod(shape[1:]))
    return uniform(f"{part}.{name}", shape, center, scale)


def integers(name: str, count: int, below: int) -> torch.Tensor:
    return torch.from_numpy((words(name, 0, count) % np.uint64(below)).astype(np.int64))


def image(name: str, height: int, width: int) -> np.ndarray:
    """u8 `[height, width, 3]`: blocks of 8 by 8 pixels in one colour each, and a little noise."""
    y, x, c = np.ogrid[:height, :width, :3]
    blocks = -(-width // 8)
    block = ((y // 8) * blocks + x // 8) * 3 + c
    colours = words(f"{name}.colours", 0, (height // 8 + 1) * blocks * 3) >> np.uint64(56)
    noise = words(f"{name}.noise", 0, height * width * 3).reshape(height, width, 3) >> np.uint64(59)
    return ((colours[block] * np.uint64(7) + noise * np.uint64(8)) // np.uint64(8)).astype(np.uint8)


def config(model: str, part: str) -> dict:
    described = MODELS[model]
    base = config(described["like"], part) if "like" in described else {}
    return base | described.get(part, {})


def empty(model: str, part: str) -> torch.nn.Module:
    """One part of a model without its weights."""
    settings = config(model, part)
    if part == "text_encoder":
        return CLIPTextModelWithProjection(CLIPTextConfig(**settings))
    with torch.device("meta"):
        return {"transformer": UVit2DModel, "vqvae": VQModel}[part].from_config(settings)


def load(model: str, part: str) -> torch.nn.Module:
    """One part of a model, f32."""
    module = empty(model, part)
    state = {name: weight(part, name, tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def listing(model: str, part: str) -> list[str]:
    """How many tensors a part has, and a hash of their names and shapes."""
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in empty(model, part).state_dict().items())
    return [str(len(lines)), str(fnv1a("\n".join(lines).encode()))]


def checksum(model: str, part: str) -> str:
    """Over all tensors the sum of (2 i + 1) * bits_i modulo 2^64."""
    total = 0
    for tensor in load(model, part).state_dict().values():
        bits = tensor.reshape(-1).view(torch.int32).numpy().view(np.uint32).astype(np.uint64)
        total += int((bits * (np.arange(bits.size, dtype=np.uint64) * np.uint64(2) + np.uint64(1))).sum(dtype=np.uint64))
    return str(total % 2**64)


def tokenizer(model: str) -> CLIPTokenizer:
    length = config(model, "text_encoder")["max_position_embeddings"]
    return CLIPTokenizer.from_pretrained(FOLDER / "tokenizer", model_max_length=length)


def mask_token(model: str) -> int:
    return config(model, "transformer")["vocab_size"] - 1


def scheduler(model: str) -> AmusedScheduler:
    return AmusedScheduler(mask_token_id=mask_token(model), masking_schedule="cosine")


def pil(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels)

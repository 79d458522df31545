"""Golden tensors of the aMUSEd models, from transformers and diffusers on made-up weights (`tools/fixtures`).

    .venv/bin/python tools/reference/amused.py [stages] [runs] [full] [full-runs]

`stages` and `runs` write tests/golden/amused.safetensors and amused_runs.safetensors: every stage at tiny sizes, and
the tokens of whole pipelines (see `amused_runs.py`); `full` writes amused_256 and amused_512.safetensors: every stage
at the published sizes, in some ten minutes and 10 GB; `full-runs` amused_256_runs.safetensors, the tokens of nine
pipelines at the published size, in half an hour and 12 GB. Each stage runs in f64, whose values are the golden ones, in
f32 and in bf16, whose errors are recorded: an engine may err at most twice as much in the same dtype.

A golden tensor holds every `stride`-th element of what the stage gives, row-major, first the first; the metadata
has its stride and whole shape.
"""

import argparse
import contextlib
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models import normalization
from diffusers.models.unets import uvit_2d
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

import fixtures
from fixtures import image, integers, uniform

OUT = Path(__file__).resolve().parents[2] / "tests/golden"
DTYPES = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16}
SAMPLES = 768  # about as many elements of a tensor are kept


class NothingNarrower(TorchDispatchMode):
    """Refuses to compute in less than f64 within the f64 reference."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        if any(map(is_float, arguments)):
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                assert not is_float(tensor) or tensor.dtype == torch.float64, f"{function} in {tensor.dtype}"
        return out


def is_float(value) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def exact_rms_norm(self, x):
    return F.rms_norm(x, self.dim, self.weight, self.eps)


def exact_timestep_embedding(values, size, flip_sin_to_cos, downscale_freq_shift):
    assert flip_sin_to_cos and downscale_freq_shift == 0
    frequencies = torch.exp(-math.log(10000) * torch.arange(size // 2, dtype=torch.float64) / (size // 2))
    angles = values[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@contextlib.contextmanager
def computing(dtype: torch.dtype):
    """diffusers computes parts of the transformer in f32 whatever the model's dtype; the reference must not."""
    if dtype != torch.float64:
        yield
        return
    forward, embedding = normalization.RMSNorm.forward, uvit_2d.get_timestep_embedding
    normalization.RMSNorm.forward, uvit_2d.get_timestep_embedding = exact_rms_norm, exact_timestep_embedding
    try:
        with NothingNarrower():
            yield
    finally:
        normalization.RMSNorm.forward, uvit_2d.get_timestep_embedding = forward, embedding


def encode_text(encoder, ids):
    """The states before the last layer [B, L, width], and the pooled ones [B, projection]."""
    out = encoder(ids, output_hidden_states=True)
    return out.hidden_states[-2], out.text_embeds


class Goldens:
    def __init__(self, name: str):
        self.path, self.tensors, self.metadata = OUT / f"{name}.safetensors", {}, {}

    def add(self, name: str, values: dict[str, torch.Tensor]) -> None:
        """`values` in every dtype of `DTYPES`."""
        exact = values["f64"]
        stride = max(1, exact.numel() // SAMPLES) | 1  # odd, so that it does not walk one column
        kept = {dtype: v.reshape(-1)[::stride].double() for dtype, v in values.items()}
        self.metadata[name] = {"shape": list(exact.shape), "stride": stride}
        self.tensors[name] = kept["f64"].float()
        line = f"{self.path.stem} {name} {list(exact.shape)}: rms {kept['f64'].square().mean().sqrt():.3e}"
        for dtype in ("f32", "bf16"):
            error = (kept[dtype] - kept["f64"]).abs()
            error = torch.stack([error.max(), error.square().mean().sqrt()])
            self.tensors[f"{name}.{dtype}_error"] = error.float()
            line += f", {dtype} error max {error[0]:.2e} rms {error[1]:.2e}"
        print(line, flush=True)

    def save(self) -> None:
        metadata = {name: json.dumps(value, separators=(",", ":")) for name, value in self.metadata.items()}
        save_file(self.tensors, self.path, metadata)
        self.path.chmod(0o644)


def every_dtype(model: str, part: str, run) -> dict[str, dict[str, torch.Tensor]]:
    """What `run(module, dtype)` gives, by name, in every dtype."""
    values: dict[str, dict[str, torch.Tensor]] = {}
    for label, dtype in DTYPES.items():
        module = fixtures.load(model, part).to(dtype)
        with computing(dtype):
            for name, value in run(module, dtype).items():
                values.setdefault(name, {})[label] = value
    return values


def models(goldens: Goldens) -> None:
    """What the made-up models hold, and a picture."""
    parts = ("text_encoder", "transformer", "vqvae")
    goldens.metadata["listings"] = {m: {part: fixtures.listing(m, part) for part in parts} for m in fixtures.MODELS}
    goldens.metadata["checksums"] = {m: {part: fixtures.checksum(m, part) for part in parts} for m in ("flat", "halved")}
    goldens.metadata["picture"] = str(fixtures.fnv1a(image("input.image", 20, 36).tobytes()))


def text(goldens: Goldens, model: str) -> None:
    texts = ["a photo of a dog on the beach", "", "Portrait of an OLD man, with a long white beard & 2 cats \u2764 dark"]
    ids = fixtures.tokenizer(model)(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    goldens.tensors["text.ids"] = ids.int()
    goldens.metadata["text.prompts"] = texts

    def run(encoder, dtype):
        states, pooled = encode_text(encoder, ids)
        return {"states": states, "pooled": pooled}

    for name, values in every_dtype(model, "text_encoder", run).items():
        goldens.add(f"text.{name}", values)


def logits(goldens: Goldens, model: str, label: str, grid: list[int], micro: list[float]) -> None:
    """Two mask ratios, with both rows of guidance: conditional, unconditional."""
    settings = fixtures.config(model, "transformer")
    length = fixtures.config(model, "text_encoder")["max_position_embeddings"]
    count, codes = math.prod(grid), settings["codebook_size"]
    states = uniform("input.states", (2, length, settings["encoder_hidden_size"]))
    pooled = uniform("input.pooled", (2, settings["cond_embed_dim"]))

    def tokens(ratio: int) -> torch.Tensor:
        ids = integers(f"input.tokens.{ratio}", count, codes)
        masked = integers(f"input.mask.{ratio}", count, 100) < ratio
        return torch.where(masked, fixtures.mask_token(model), ids)

    def run(transformer, dtype):
        out = {}
        for ratio in (90, 30):
            ids = tokens(ratio)
            conditions = torch.tensor([micro, micro], dtype=dtype)
            rows = transformer(ids.reshape(1, *grid).expand(2, -1, -1), states.to(dtype), pooled.to(dtype), conditions)
            masked = (ids == fixtures.mask_token(model)).nonzero()[:, 0]
            rows = rows.flatten(2).transpose(1, 2)[:, masked]  # [2, masked, codes]
            out[f"{ratio}.conditional"], out[f"{ratio}.unconditional"] = rows
        return out

    goldens.metadata[f"{label}.logits"] = {"grid": grid, "micro": micro, "ratios": [90, 30]}
    for name, values in every_dtype(model, "transformer", run).items():
        goldens.add(f"{label}.logits.{name}", values)


def vq(goldens: Goldens, model: str, grid: list[int]) -> None:
    settings = fixtures.config(model, "vqvae")
    factor = 2 ** (len(settings["block_out_channels"]) - 1)
    pixels = torch.from_numpy(image("input.image", factor * grid[0], factor * grid[1]))
    tokens = integers("input.codes", math.prod(grid), settings["num_vq_embeddings"]).reshape(1, *grid)

    def run(model, dtype):
        shape = (1, *grid, settings["latent_channels"])
        decoded = model.decode(tokens, force_not_quantize=True, shape=shape).sample
        latents = model.encode((pixels.to(dtype) / 255).permute(2, 0, 1)[None]).latents
        z = latents.permute(0, 2, 3, 1).flatten(0, 2)
        distances = torch.cdist(z, model.quantize.embedding.weight)
        return {"pixels": decoded[0].permute(1, 2, 0), "latents": z, "distances": distances}

    goldens.metadata["vq.grid"] = grid
    values = every_dtype(model, "vqvae", run)
    nearest = values.pop("distances")["f64"].topk(2, largest=False)
    goldens.tensors["vq.codes"] = nearest.indices[:, 0].int()
    goldens.tensors["vq.margins"] = (nearest.values[:, 1] - nearest.values[:, 0]).float()
    print(f"{len(nearest.indices[:, 0].unique())} distinct of {math.prod(grid)} codes, smallest margin "
          f"{goldens.tensors['vq.margins'].min():.2e}")
    for name, value in values.items():
        goldens.add(f"vq.{name}", value)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], "stages", "runs", "full", "full-runs"], metavar="part")
    parts = parser.parse_args().parts or ["stages", "runs"]
    if not {"full", "full-runs"} & set(parts):
        torch.set_num_threads(1)  # the tiny models are no work for two
    if "stages" in parts:
        goldens = Goldens("amused")
        models(goldens)
        text(goldens, "flat")
        logits(goldens, "flat", "flat", [5, 7], [512, 384, 0, 0, 6])
        logits(goldens, "halved", "halved", [6, 10], [256, 256, 16, 3, 2])
        logits(goldens, "biased", "biased", [4, 6], [640, 320, 0, 8, 7])
        vq(goldens, "flat", [6, 9])
        goldens.save()
    if "runs" in parts:
        import amused_runs
        amused_runs.write(OUT / "amused_runs.safetensors")
    if "full" in parts:
        for size in (256, 512):
            model = f"amused-{size}"
            goldens = Goldens(model.replace("-", "_"))
            if size == 256:
                text(goldens, model)
            logits(goldens, model, "published", [size // 16] * 2, [size, size, 0, 0, 6])
            vq(goldens, model, [size // 16] * 2)
            goldens.save()
    if "full-runs" in parts:
        import amused_runs
        amused_runs.write_full(OUT / "amused_256_runs.safetensors")


if __name__ == "__main__":
    main()

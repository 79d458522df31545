"""Golden tensors for tests/models.rs, from references of other hands where they exist.

    python tools/reference/goldens.py [--model models/demo] [--out tests/golden]

The text encoder is run by transformers' `BertModel`, the tokenizers by diffusers' `VQModel`, the
transformers by the functional form below (nobody else has this architecture). Each stage is run in
f64, whose result is the golden tensor, and in bf16, whose error against f64 is recorded: the engine
may err at most twice as much. Needs requirements.txt; CI does not run it.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import VQModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

PROMPTS = ("two apples and a cat on a blue background", "", "a kitty, a hound & a bumblebee über 3 things?")


def bert(model: Path, config: dict, dtype: torch.dtype) -> BertModel:
    stored = load_file(model / "text_encoder.safetensors")
    state = {}
    for name, tensor in stored.items():
        if not name.endswith("_scale"):
            scale = stored.get(f"{name}_scale")
            # int8 rows are widened to bf16, the dtype the engine holds weights in.
            state[name] = tensor if scale is None else (tensor.float() * scale[:, None]).bfloat16()
    encoder = BertModel(BertConfig(**{k: v for k, v in config.items() if k not in ("class", "max_length")},
                                   attn_implementation="eager"), add_pooling_layer=False)
    encoder.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    missing = [k for k in encoder.state_dict() if k not in state and "position_ids" not in k]
    assert not missing, missing
    return encoder.to(dtype).eval()


def vq_model(model: Path, name: str, config: dict, dtype: torch.dtype) -> VQModel:
    vq = VQModel.from_config({k: v for k, v in config.items() if not k.startswith("_")})
    vq.load_state_dict({k: v.float() for k, v in load_file(model / f"{name}.safetensors").items()})
    return vq.to(dtype).eval()


class Muse:
    """The transformer as a function of its state dict, in any dtype."""

    def __init__(self, path: Path, config: dict, dtype: torch.dtype):
        self.state = {k: v.to(dtype) for k, v in load_file(path).items()}
        self.config, self.dtype = config, dtype

    def linear(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"],
                            self.config["layer_norm_eps"])

    def attention(self, x, context, name, apart=None):
        heads = self.config["num_heads"]
        q, k, v = (self.linear(t, f"{name}.{p}").unflatten(-1, (heads, -1)).transpose(0, 1)
                   for t, p in ((x, "q"), (context, "k"), (context, "v")))
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        if apart is not None:
            scores = scores.masked_fill(apart, -math.inf)
        return self.linear((scores.softmax(-1) @ v).transpose(0, 1).flatten(1), f"{name}.out")

    def multi_axis(self, x, name):
        """Self-attention of half the heads among the positions of a block, of the others among those at one
        place of all blocks: HiT (arXiv 2106.07631, section 3.2), as masks on attention of all to all."""
        (rows, columns), (height, width) = self.config["grid"], self.config["multi_axis"]
        y, x_ = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        block = (y // height * columns + x_ // width).flatten()
        place = (y % height * columns + x_ % width).flatten()
        half = self.config["num_heads"] // 2
        apart = torch.stack([block[:, None] != block] * half + [place[:, None] != place] * half)
        return self.attention(x, x, name, apart)

    def mlp(self, x, name):
        return self.linear(F.gelu(self.linear(x, f"{name}.up")), f"{name}.down")

    def coarse(self, tokens):
        x = self.state["coarse.token_embedding.weight"][tokens] + self.state["coarse.position_embedding.weight"]
        for i in range(self.config["coarse"]["num_layers"]):
            layer = f"coarse.layers.{i}"
            normed = self.norm(x, f"{layer}.self_norm")
            x = x + self.attention(normed, normed, f"{layer}.self_attention")
            x = x + self.mlp(self.norm(x, f"{layer}.mlp_norm"), f"{layer}.mlp")
        return self.norm(x, "coarse.final_norm")

    def logits(self, tokens, text, coarse_tokens=None):
        x = self.state["token_embedding.weight"][tokens] + self.state["position_embedding.weight"]
        context = self.linear(text.to(self.dtype), "text_projection")
        if coarse_tokens is not None:
            states = self.coarse(coarse_tokens)
            rows, columns = self.config["coarse"]["grid"]
            placed = self.linear(states, "coarse.in_place").view(rows, columns, 2, 2, -1)
            x = x + placed.permute(0, 2, 1, 3, 4).reshape(4 * rows * columns, -1)
            context = torch.cat([states, context])
        for i in range(self.config["num_layers"]):
            normed = self.norm(x, f"layers.{i}.self_norm")
            name = f"layers.{i}.self_attention"
            axes = self.config.get("multi_axis")
            x = x + (self.multi_axis(normed, name) if axes else self.attention(normed, normed, name))
            x = x + self.attention(self.norm(x, f"layers.{i}.cross_norm"), context, f"layers.{i}.cross_attention")
            x = x + self.mlp(self.norm(x, f"layers.{i}.mlp_norm"), f"layers.{i}.mlp")
        return self.linear(self.norm(x, "final_norm"), "head")


class Goldens:
    """Collects one stage's tensors; every `compare` pair adds the bf16 reference's error."""

    def __init__(self, out: Path, stage: str):
        self.path, self.tensors = out / f"{stage}.safetensors", {}

    def inputs(self, **tensors):
        self.tensors.update({k: v.contiguous() for k, v in tensors.items()})

    def compare(self, name, exact, naive):
        error = (naive.double() - exact.double()).abs()
        self.tensors[name] = exact.float().contiguous()
        self.tensors[f"{name}.bf16_error"] = torch.tensor([error.max(), error.square().mean().sqrt()]).float()
        print(f"{self.path.stem:10} {name:24} {list(exact.shape)}: bf16 error max {error.max():.3e}, "
              f"rms {error.square().mean().sqrt():.3e}, values rms {exact.double().square().mean().sqrt():.3e}")

    def save(self):
        save_file(self.tensors, self.path)


def demo_grid(codes: int, count: int, seed: int) -> torch.Tensor:
    return torch.randint(codes, (count,), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/demo"))
    parser.add_argument("--out", type=Path, default=Path("tests/golden"))
    arguments = parser.parse_args()
    model, out = arguments.model, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads((model / "config.json").read_text())
    dtypes = (torch.float64, torch.bfloat16)

    stage = Goldens(out, "bert")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    encoders = [bert(model, config["text_encoder"], dtype) for dtype in dtypes]
    texts = []
    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor(tokenizer.encode(prompt).ids)
        exact, naive = (e(input_ids=ids[None]).last_hidden_state[0] for e in encoders)
        stage.inputs(**{f"ids.{i}": ids.int()})
        stage.compare(f"states.{i}", exact, naive)
        texts.append(exact)
    stage.save()

    for name in ("vq_base", "vq_superres"):
        stage = Goldens(out, name)
        grid = config[name.removeprefix("vq_")]["grid"]
        models = [vq_model(model, name, config[name], dtype) for dtype in dtypes]
        # Random codes exercise the decoder; what they decode to, smoothed, the encoder.
        tokens = demo_grid(config[name]["num_vq_embeddings"], grid[0] * grid[1], 1)
        codes = [m.quantize.embedding.weight[tokens].view(1, *grid, -1).permute(0, 3, 1, 2) for m in models]
        exact, naive = (m.decoder(m.post_quant_conv(c))[0].permute(1, 2, 0) for m, c in zip(models, codes))
        stage.inputs(tokens=tokens.int())
        stage.compare("pixels", exact, naive)
        image = (exact.clamp(0, 1) * 255).round().to(torch.uint8)
        x = image.double().permute(2, 0, 1)[None] / 255
        exact, naive = (m.quant_conv(m.encoder(x.to(d)))[0].permute(1, 2, 0).flatten(0, 1) for m, d in zip(models, dtypes))
        distances = torch.cdist(exact, models[0].quantize.embedding.weight)
        nearest = distances.sort(dim=1)
        stage.inputs(image=image, ids=nearest.indices[:, 0].int(),
                     margin=(nearest.values[:, 1] - nearest.values[:, 0]).float())
        stage.compare("latents", exact, naive)
        stage.save()

    for name in ("base", "superres"):
        stage = Goldens(out, name)
        settings = config[name]
        count = settings["grid"][0] * settings["grid"][1]
        tokens = demo_grid(settings["codebook_size"], count, 2)
        masked = torch.rand(count, generator=torch.Generator().manual_seed(3)) < 0.6
        tokens[masked] = settings["codebook_size"]
        coarse = None
        if "coarse" in settings:
            cells = settings["coarse"]["grid"][0] * settings["coarse"]["grid"][1]
            coarse = demo_grid(settings["coarse"]["codebook_size"], cells, 4)
            stage.inputs(coarse=coarse.int())
        positions = masked.nonzero().flatten()[:24]  # enough rows to tell, few enough to commit
        stage.inputs(tokens=tokens.int(), positions=positions.int())
        for i in (0, 1):
            exact, naive = (Muse(model / f"{name}.safetensors", settings, d).logits(tokens, texts[i], coarse)[positions]
                            for d in dtypes)
            stage.inputs(**{f"text.{i}": texts[i].float()})
            stage.compare(f"logits.{i}", exact, naive)
        if coarse is not None:
            # The same weights with a pattern that they were not trained for.
            axes = {**settings, "multi_axis": [4, 8]}
            exact, naive = (Muse(model / f"{name}.safetensors", axes, d).logits(tokens, texts[0], coarse)[positions[:6]]
                            for d in dtypes)
            stage.compare("multi_axis", exact, naive)
        stage.save()


if __name__ == "__main__":
    main()

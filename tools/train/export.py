"""Stage `export`: the run's averaged weights as the directory that the engine loads."""

import json
from pathlib import Path

import torch

import text
import vq
from data import load_vq
from decode import SETTINGS
from runtime import save_atomically
from train_masked import CONFIGS, load_average, make

ALIGNMENT = 64
DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int8: "I8"}


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The format allows no gaps: tensors of whole 64 bytes come first, so that all of these are aligned."""
    size = {name: t.numel() * t.element_size() for name, t in tensors.items()}
    names = sorted(
        tensors, key=lambda name: (size[name] % ALIGNMENT != 0, -tensors[name].element_size(), name)
    )
    header, offset = {}, 0
    for name in names:
        t = tensors[name]
        header[name] = {
            "dtype": DTYPES[t.dtype],
            "shape": list(t.shape),
            "data_offsets": [offset, offset + size[name]],
        }
        offset += size[name]
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(8 + len(encoded)) % ALIGNMENT)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for name in names:
                file.write(tensors[name].flatten().view(torch.uint8).numpy().tobytes())

    save_atomically(path, write)


def bf16(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t.bfloat16().contiguous() for name, t in state.items()}


def text_encoder_tensors() -> dict[str, torch.Tensor]:
    tensors = {}
    for name, weight in text.bert().named_parameters():
        if weight.ndim == 2:
            tensors[name], tensors[name + "_scale"] = text.quantise_rows(weight)
        else:
            tensors[name] = weight.float()
    return tensors


def run(args) -> None:
    out, model_dir = Path(args.out), Path(args.model)
    model_dir.mkdir(parents=True, exist_ok=True)
    config = {"format": "muse", "version": 1, "name": args.name, "text_encoder": text.config()}
    for stage in CONFIGS:
        untrained = args.untrained and not (out / f"{stage}.pt").exists()
        model = make(stage)[0] if untrained else load_average(out, stage)
        write_safetensors(model_dir / f"{stage}.safetensors", bf16(model.state_dict()))
        config[stage] = CONFIGS[stage].to_json() | {"decode": SETTINGS[stage]}
    for name, size in (("vq_base", 64), ("vq_superres", 128)):
        untrained = args.untrained and not (out / f"vq{size}.pt").exists()
        model = vq.build(size) if untrained else load_vq(out, size)
        write_safetensors(model_dir / f"{name}.safetensors", bf16(model.state_dict()))
        config[name] = {"_class_name": "VQModel"} | vq.CONFIG | {"sample_size": size}
    write_safetensors(model_dir / "text_encoder.safetensors", text_encoder_tensors())
    text.tokenizer().save(str(model_dir / "tokenizer.json"))
    save_atomically(
        model_dir / "config.json", lambda path: path.write_text(json.dumps(config, indent=2) + "\n")
    )
    total = sum(f.stat().st_size for f in model_dir.iterdir())
    for f in sorted(model_dir.iterdir()):
        print(f"{f.stat().st_size / 1e6:8.2f} MB  {f.name}")
    print(f"{total / 1e6:8.2f} MB  {model_dir}")

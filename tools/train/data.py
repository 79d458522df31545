"""Stage `data`, and the caches of the masked stages: text states of the captions, tokens of the scenes.

Caption and scene number i of the cache are those of the training split. Number 0 of the text states
is the empty caption. Token caches remember the tokenizer they were made with and are remade when it changes.
"""

import hashlib
from pathlib import Path

import numpy as np

import vq
from runtime import World, save_atomically
from scenes import Renderer, Sampler
from text import TextEncoder


def load_vq(out: Path, size: int) -> vq.VQModel:
    """The trained tokenizer, with the later decoder where there is one."""
    decoder = out / f"vq{size}.decoder.pt"
    model = vq.build(size)
    vq.load_checkpoint(model, decoder if decoder.exists() else out / f"vq{size}.pt")
    return model.eval().requires_grad_(False)


def save_array(path: Path, array: np.ndarray) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array)

    save_atomically(path, write)


class TextCache:
    def __init__(self, states: np.ndarray, offsets: np.ndarray, pairs: int):
        self.states, self.offsets, self.pairs = states, offsets, pairs

    def __len__(self) -> int:
        """Captions, the empty one not counted."""
        return self.pairs

    def caption(self, index: int) -> np.ndarray:
        """[length, 384]; -1 is the empty caption."""
        return self.states[self.offsets[index + 1] : self.offsets[index + 2]]


def text_cache(out: Path, args, world: World) -> TextCache:
    states, offsets = out / "text.states.npy", out / "text.offsets.npy"
    if world.first and not (offsets.exists() and len(np.load(offsets)) >= args.pairs + 2):
        sampler = Sampler(Renderer(args.font), "train", args.seed)
        encoded = TextEncoder().encode([""] + [sampler.scene(i).caption for i in range(args.pairs)])
        save_array(states, np.concatenate(encoded))
        save_array(offsets, np.cumsum([0] + [len(e) for e in encoded]))
    world.barrier()
    return TextCache(np.load(states, mmap_mode="r"), np.load(offsets), args.pairs)


def token_cache(out: Path, size: int, args, world: World) -> np.ndarray:
    """int16 [pairs, tokens]; made again when the tokenizer, the seed or the number of pairs differs."""
    model = load_vq(out, size)
    digest = hashlib.sha256(f"{args.pairs} {args.seed}".encode())
    for part in (model.encoder, model.quant_conv, model.quantize):
        for weight in part.state_dict().values():
            digest.update(weight.numpy().tobytes())
    path = out / f"tokens{size}.{digest.hexdigest()[:12]}.npy"
    if world.first and not path.exists():
        for old in out.glob(f"tokens{size}.*.npy"):
            old.unlink()
        renderer = Renderer(args.font, size // 64)
        sampler = Sampler(renderer, "train", args.seed)
        tokens = np.empty((args.pairs, (size // 8) ** 2), np.int16)
        for start in range(0, args.pairs, 50):
            part = range(start, min(start + 50, args.pairs))
            tokens[start : part.stop] = vq.tokenise(model, vq.batch_of(sampler, renderer, part)[0]).numpy()
        save_array(path, tokens)
    world.barrier()
    return np.load(path)


def run(args) -> None:
    world = World(args.threads)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(text_cache(out, args, world))} captions")
    for size in (64, 128):
        if (out / f"vq{size}.pt").exists():
            print(f"tokens at {size} px: {token_cache(out, size, args, world).shape}")
    world.close()

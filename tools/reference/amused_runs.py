"""Whole pipelines of diffusers on made-up models, with `torch.Generator("cpu")`, in f32: all prompts on the tiny ones,
the first at the published size.

For every prompt of `prompts.py`, each mode and each seed: the tokens after every step, and how near each step was to
another choice. The golden file holds, for prompt P and mode M (`text2image`, `image2image`, `inpaint`):

- `P.M.tokens` u8 (u16 at the published size) [3, N], the final tokens; `P.M.settled` u8 [3, N], the step after which each was there: 0 at the start.
- `P.M.margins` f32 [3, steps, 3]. Of the draws, the least difference of ln(p / exponential) between the token drawn
  and the next one, over all masked positions; of the masking, the difference of the confidences on either side of the
  cut (0 after the last step); and the largest error of a guided logit against f64 (at the published size taken at
  the first step of a run, and noted for all its steps).
- in the metadata, for each prompt, its settings: those of `prompts.py` and the edits' below, in full.
"""

import json
import math

import torch
from diffusers import AmusedImg2ImgPipeline, AmusedInpaintPipeline, AmusedPipeline, AmusedScheduler
from PIL import Image, ImageDraw
from safetensors.torch import save_file

import fixtures
from amused import computing, encode_text
from prompts import PROMPTS, SEEDS

MODELS = ("flat", "halved")
STRENGTHS = (0.5, 0.5, 0.3, 0.75, 0.99)
STEPS = (12, 8, 5)  # of the edits


class Recorder(AmusedScheduler):
    """The scheduler, which also measures each step's margins on a copy of the generator."""

    def begin(self, exact_text, exact_transformer, guidance, every_error):
        self.exact_text, self.exact_transformer, self.guidance = exact_text, exact_transformer, guidance
        self.every_error = every_error
        self.inputs, self.steps = None, []

    def add_noise(self, sample, timesteps, generator=None):
        noised = super().add_noise(sample, timesteps, generator)
        self.start = noised.flatten()
        return noised

    def step(self, model_output, timestep, sample, starting_mask_ratio=1.0, generator=None, return_dict=True):
        state = generator.get_state()
        out = super().step(model_output, timestep, sample, starting_mask_ratio, generator, return_dict)
        if not self.steps:
            self.start = sample.flatten()
        copy = torch.Generator()
        copy.set_state(state)
        logits = model_output.flatten(2)[0].T  # [N, codes]
        probabilities = logits.softmax(-1)
        noise = torch.empty_like(probabilities).exponential_(1, generator=copy)
        unknown = sample.flatten() == self.config.mask_token_id
        race = probabilities.double().log() - noise.double().log()
        best = race.topk(2, dim=-1)
        drawn = torch.where(unknown, best.indices[:, 0], sample.flatten())
        assert torch.equal(drawn, out.pred_original_sample.flatten()), "the draws are not reproduced"
        draw = (best.values[:, 0] - best.values[:, 1])[unknown].min().item()
        cut = 0.0
        remaining = out.prev_sample.flatten() == self.config.mask_token_id
        if timestep > 0:
            uniform = torch.rand(len(drawn), generator=copy)
            gumbel = -torch.log((-torch.log(uniform.clamp(1e-20))).clamp(1e-20))
            chosen = probabilities.gather(1, drawn[:, None])[:, 0].clamp(1e-20).log()
            chosen = torch.where(unknown, chosen, math.log(torch.finfo(torch.float32).max))
            index = len(self.timesteps) - 1 - int(timestep)
            confidence = (chosen + self.temperatures[index] * gumbel).double()
            cut = (confidence[~remaining].min() - confidence[remaining].max()).item()
            assert cut >= 0, "the masking is not reproduced"
        assert torch.equal(copy.get_state(), generator.get_state()), "not every draw is accounted for"
        measure = self.every_error or not self.steps
        error = self.logit_error(logits) if measure else self.steps[-1][2][2]
        self.steps.append((drawn, remaining, (draw, cut, error)))
        return out

    def logit_error(self, logits) -> float:
        ids, micro = self.inputs
        states, pooled = self.exact_text
        with computing(torch.float64):
            exact = self.exact_transformer(ids, states, pooled, micro.double())
        if len(exact) == 2:
            exact = exact[:1] + self.guidance * (exact[1:] - exact[:1])
        return (logits.double() - exact.flatten(2)[0].T).abs().max().item()

    def tokens(self):
        """Final tokens, and after which step each was there."""
        mask = self.config.mask_token_id
        settled = torch.zeros(len(self.start), dtype=torch.uint8)
        tokens, current = self.start.clone(), self.start
        for i, (drawn, remaining, _) in enumerate(self.steps):
            now = torch.where(remaining, mask, drawn)
            new = (current == mask) & (now != mask)
            settled[new], tokens[new] = i + 1, now[new]
            assert torch.equal(now[current != mask], current[current != mask]), "a settled token changed"
            current = now
        assert (tokens != mask).all()
        return tokens.to(torch.uint8 if mask < 2**9 else torch.uint16), settled


class Models:
    def __init__(self, name: str, every_error: bool = True):
        self.name, self.every_error = name, every_error
        parts = {part: fixtures.load(name, part) for part in ("text_encoder", "transformer", "vqvae")}
        self.exact = {part: fixtures.load(name, part).double() for part in parts}
        self.parts = parts | {"tokenizer": fixtures.tokenizer(name)}
        parts["transformer"].register_forward_pre_hook(self.remember, with_kwargs=True)
        factor = 2 ** (len(fixtures.config(name, "vqvae")["block_out_channels"]) - 1)
        self.default = [fixtures.config(name, "transformer")["sample_size"] * factor] * 2

    def remember(self, module, arguments, keywords):
        self.recorder.inputs = arguments[0], keywords["micro_conds"]

    def run(self, pipeline_class, settings: dict, seed: int, **inputs):
        """Tokens u8 [N], settled u8 [N], margins f32 [steps, 3]."""
        self.recorder = Recorder(mask_token_id=fixtures.mask_token(self.name))
        pipeline = pipeline_class(scheduler=self.recorder, **self.parts)
        self.recorder = pipeline.scheduler
        pipeline.set_progress_bar_config(disable=True)
        texts = [settings["negative"], settings["prompt"]] if settings["guidance"] > 1 else [settings["prompt"]]
        ids = self.parts["tokenizer"](texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with computing(torch.float64):
            exact_text = encode_text(self.exact["text_encoder"], ids)
        self.recorder.begin(exact_text, self.exact["transformer"], settings["guidance"], self.every_error)
        temperature = settings["temperature"]
        output = pipeline(
            settings["prompt"], negative_prompt=settings["negative"], guidance_scale=settings["guidance"],
            micro_conditioning_crop_coord=tuple(settings["crop"]),
            micro_conditioning_aesthetic_score=settings["aesthetic"],
            temperature=tuple(temperature) if isinstance(temperature, list) else temperature,
            generator=torch.Generator().manual_seed(seed), output_type="latent", **inputs).images
        tokens, settled = self.recorder.tokens()
        assert torch.equal(output.flatten(), tokens.long())
        return tokens, settled, torch.tensor([margins for *_, margins in self.recorder.steps])

    def check_codes(self, pixels) -> None:
        """The codes of an image must not depend on rounding."""
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        single, exact = (m.quantize(m.encode(x.to(m.dtype)).latents)[2][2] for m in
                         (self.parts["vqvae"], self.exact["vqvae"]))
        assert torch.equal(single, exact)


def mask(index: int, height: int, width: int) -> Image.Image:
    """What is painted anew: rectangles of whole tokens, every fourth an ellipse."""
    picture = Image.new("L", (width, height))
    draw = ImageDraw.Draw(picture)
    side = 4 * (height // 32)
    top, left = side * (index % 3), side * (index % 5)
    bottom, right = top + side * (3 + index % 4), left + side * (2 + index % 3)
    if index % 4 == 3:
        draw.ellipse((left, top, right + 5, bottom + 3), fill=255)
    else:
        draw.rectangle((left, top, right - 1, bottom - 1), fill=255)
    return picture


def write(path) -> None:
    write_runs(path, {name: Models(name) for name in MODELS}, PROMPTS)


def write_full(path) -> None:
    write_runs(path, {"amused-256": Models("amused-256", every_error=False)}, PROMPTS[:1])


def write_runs(path, models: dict[str, Models], prompts) -> None:
    tensors, described = {}, []
    for index, prompt in enumerate(prompts):
        model = models[list(models)[index % len(models)]]
        settings = {"model": model.name, "negative": "", "steps": 12, "guidance": 10.0, "temperature": [2.0, 0.0],
                    "size": model.default, "crop": [0, 0], "aesthetic": 6} | prompt
        settings |= {"edit_steps": STEPS[index % len(STEPS)], "strength": STRENGTHS[index % len(STRENGTHS)],
                     "edit_size": [32, 48] if index % 7 == 6 else model.default}
        height, width = settings["edit_size"]
        pixels = fixtures.image(f"run.{index}", height, width)
        model.check_codes(pixels)
        picture = fixtures.pil(pixels)
        steps = {"num_inference_steps": settings["edit_steps"], "strength": settings["strength"]}
        modes = {
            "text2image": (AmusedPipeline, {"height": settings["size"][0], "width": settings["size"][1],
                                            "num_inference_steps": settings["steps"]}),
            "image2image": (AmusedImg2ImgPipeline, {"image": picture} | steps),
            "inpaint": (AmusedInpaintPipeline, {"image": picture, "mask_image": mask(index, height, width)} | steps
                        | {"strength": 1.0 if index % 2 == 0 else settings["strength"]}),
        }
        for mode, (pipeline, inputs) in modes.items():
            runs = [model.run(pipeline, settings, seed, **inputs) for seed in SEEDS]
            for name, values in zip(("tokens", "settled", "margins"), zip(*runs)):
                tensors[f"{index}.{mode}.{name}"] = torch.stack(values)
            worst = tensors[f"{index}.{mode}.margins"]
            cuts = worst[:, :-1, 1]
            print(f"{index} {mode}: {len(tensors[f'{index}.{mode}.tokens'].long().unique())} codes, margins of draws "
                  f"{worst[..., 0].min():.1e}, of cuts {min(cuts.flatten().tolist(), default=0):.1e}; logit error {worst[..., 2].max():.1e}",
                  flush=True)
        described.append(settings)
    metadata = {"seeds": json.dumps(SEEDS), "prompts": json.dumps(described, separators=(",", ":"))}
    save_file(tensors, path, metadata)
    path.chmod(0o644)

"""aMUSEd under the call of diffusers.AmusedPipeline."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._engine import Engine, Step
from ._errors import OptionError
from ._options import text, unusable, whole

# What diffusers has besides.
_ABSENT = {
    "latents",
    "prompt_embeds",
    "encoder_hidden_states",
    "negative_prompt_embeds",
    "negative_encoder_hidden_states",
    "cross_attention_kwargs",
}


@dataclass
class AmusedPipelineOutput:
    """What a call returns: a list of PIL images, or one array, float32 [images, height, width, 3] from 0 to 1."""

    images: Any


class AmusedPipeline:
    """diffusers' AmusedPipeline for text to image, run by muse: `from muse import AmusedPipeline` is what changes.

    With generator=torch.Generator("cpu").manual_seed(n), freshly seeded, the tokens are diffusers'. The generator
    itself is not advanced, and every further image of a call has the next seed. Options of diffusers that muse does
    not have are refused.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        torch_dtype: Any = None,
        variant: Literal["fp16"] | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> AmusedPipeline:
        """Loads a folder that diffusers loads, or a repository that the hub's cache has.

        It computes in f32 as diffusers does, unless torch_dtype is torch.bfloat16. Of variant="fp16" the weights are
        taken where there are no others.
        """
        names: dict[str, Literal["bf16", "f32"]] = {"None": "f32", "torch.float32": "f32", "torch.bfloat16": "bf16"}
        if str(torch_dtype) not in names:
            raise unusable("torch_dtype", torch_dtype, "None, torch.float32 or torch.bfloat16")
        if variant not in (None, "fp16"):
            raise unusable("variant", variant, "None or 'fp16'")
        return cls(Engine(_folder(path), device=device, dtype=names[str(torch_dtype)], threads=threads))

    def __call__(
        self,
        prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 12,
        guidance_scale: float = 10.0,
        negative_prompt: str | None = None,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        output_type: Literal["pil", "np"] = "pil",
        return_dict: bool = True,
        callback: Callable[[int, int, Any], object] | None = None,
        callback_steps: int = 1,
        micro_conditioning_aesthetic_score: float = 6,
        micro_conditioning_crop_coord: tuple[int, int] = (0, 0),
        temperature: float | tuple[float, float] = (2, 0),
        seed: int | None = None,
        **others: Any,
    ) -> Any:
        """As diffusers' call; seed is muse's own, in place of a generator.

        callback(step, timestep, latents) has the tokens as an array, uint32 [images, rows, columns].
        """
        for name, value in others.items():
            if name not in _ABSENT:
                raise TypeError(f"AmusedPipeline: unknown option {name!r}")
            if value is not None:
                raise OptionError(f"{name}: muse does not have it; leave it out")
        if not isinstance(prompt, str):
            raise unusable("prompt", prompt, "one text, in a call of its own")
        if output_type not in ("pil", "np"):
            raise unusable("output_type", output_type, "'pil' or 'np'")
        if whole("callback_steps", callback_steps) == 0:
            raise unusable("callback_steps", callback_steps, "1 or more")
        if (height is None) != (width is None):
            raise OptionError("height, width: one of them cannot be used alone; give both, or neither")
        if generator is not None and seed is not None:
            raise OptionError("seed: it cannot be used with a generator; give one of them")
        images = self.engine.generate(
            prompt,
            count=num_images_per_prompt,
            callback=None if callback is None else _diffusers(callback, callback_steps),
            seed=_seed(generator) if generator is not None else secrets.randbits(63) if seed is None else seed,
            rng="counter" if generator is None else "torch",
            steps=num_inference_steps,
            guidance=guidance_scale,
            negative="" if negative_prompt is None else text("negative_prompt", negative_prompt),
            size="full" if height is None or width is None else (width, height),
            aesthetic=micro_conditioning_aesthetic_score,
            crop=micro_conditioning_crop_coord,
            temperature=temperature,
        )
        pictures: Any = [image.pil() for image in images]
        if output_type == "np":
            pictures = np.stack([image.array for image in images]).astype(np.float32) / 255
        return AmusedPipelineOutput(pictures) if return_dict else (pictures,)


def _folder(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """A folder, or that of a repository OWNER/NAME in the hub's cache."""
    parts = os.fspath(path).split("/")
    if os.path.exists(path) or len(parts) != 2:
        return path
    home = os.environ.get("HF_HOME", os.path.expanduser("~/.cache/huggingface"))
    cached = os.path.join(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub")), "--".join(["models", *parts]))
    return cached if os.path.exists(cached) else path


def _diffusers(callback: Callable[[int, int, Any], object], every: int) -> Callable[[Step], None]:
    """A callback of muse's that calls one of diffusers', once all images have made the step."""
    grids = []

    def after(step: Step) -> None:
        grids.append(step.tokens)
        if step.image + 1 == step.images:
            if step.step % every == 0:
                callback(step.step, step.steps - 1 - step.step, np.stack(grids))
            grids.clear()

    return after


def _seed(generator: Any) -> int:
    """The seed of a torch.Generator that nothing was drawn from."""
    if not hasattr(generator, "initial_seed") or str(generator.device) != "cpu":
        raise unusable("generator", generator, "torch.Generator('cpu')")
    seed = int(generator.initial_seed())
    fresh = type(generator)("cpu").manual_seed(seed)
    if not bool((fresh.get_state() == generator.get_state()).all()):
        raise OptionError("generator: it has been drawn from and cannot be used; seed it by manual_seed before a call")
    return seed

"""The call of diffusers' AmusedPipeline gives the program's pictures."""

import io

import numpy as np
import pytest
from PIL import Image

import muse


class Generator:
    """A stand-in for torch.Generator: what the pipeline asks of one."""

    def __init__(self, device):
        self.device, self.state = device, np.zeros(2, np.uint64)

    def manual_seed(self, seed):
        self.state = np.array([seed, 0], np.uint64)
        return self

    def initial_seed(self):
        return int(self.state[0])

    def get_state(self):
        return self.state.copy()

    def draw(self):
        self.state[1] += 1


@pytest.fixture(scope="session")
def pipe(amused):
    return muse.AmusedPipeline.from_pretrained(amused)


def picture(png):
    return Image.open(io.BytesIO(png)).tobytes()


def test_the_call_of_diffusers_is_the_program_s(amused, pipe, program):
    typed = ["--negative", "rain", "--guidance", 8, "--steps", 3, "--seed", 7, "--dtype", "f32"]
    png, _ = program("generate", "a cow", *typed, model=amused)
    options = {"negative_prompt": "rain", "guidance_scale": 8, "num_inference_steps": 3, "seed": 7}
    image = pipe("a cow", **options).images[0]
    assert image.tobytes() == picture(png)
    (array,) = pipe("a cow", output_type="np", return_dict=False, **options)
    assert array.dtype == np.float32 and (array[0] == np.asarray(image, np.float32) / 255).all()


def test_a_generator_gives_pytorch_s_noise(amused, pipe, program):
    typed = ["--steps", 3, "--seed", 7, "--dtype", "f32", "--rng", "torch"]
    png, _ = program("generate", "a cow", *typed, model=amused)
    generator = Generator("cpu").manual_seed(7)
    assert pipe("a cow", num_inference_steps=3, generator=generator).images[0].tobytes() == picture(png)
    generator.draw()
    with pytest.raises(muse.OptionError, match="drawn from"):
        pipe("a cow", generator=generator)
    with pytest.raises(muse.OptionError, match="generator"):
        pipe("a cow", generator=Generator("cuda"))


def test_a_callback_is_called_as_by_diffusers(pipe):
    seen = []
    pipe(
        "a cow",
        num_inference_steps=4,
        num_images_per_prompt=2,
        callback=lambda *step: seen.append(step),
        callback_steps=2,
    )
    assert [(step, time) for step, time, _ in seen] == [(0, 3), (2, 1)]
    assert all(tokens.shape[0] == 2 and tokens.ndim == 3 for _, _, tokens in seen)


def test_a_repository_is_found_in_the_hub_s_cache(amused, tmp_path, monkeypatch):
    (tmp_path / "models--amused--tiny").symlink_to(amused)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    name = muse.AmusedPipeline.from_pretrained("amused/tiny").engine.name
    assert name == muse.AmusedPipeline.from_pretrained(amused).engine.name
    with pytest.raises(muse.ModelError, match="amused/none"):
        muse.AmusedPipeline.from_pretrained("amused/none")


def test_what_muse_lacks_is_refused(amused, pipe):
    for options, part in [
        ({"latents": np.zeros(1)}, "latents"),
        ({"prompt_embeds": np.zeros(1)}, "prompt_embeds"),
        ({"output_type": "latent"}, "output_type"),
        ({"width": 64}, "height, width"),
        ({"callback_steps": 0}, "callback_steps"),
        ({"seed": 1, "generator": Generator("cpu")}, "seed"),
    ]:
        with pytest.raises(muse.OptionError, match=part):
            pipe("a cow", **options)
    with pytest.raises(muse.OptionError, match="prompt"):
        pipe(["a cow", "a dog"])
    with pytest.raises(TypeError, match="sed"):
        pipe("a cow", sed=7)
    with pytest.raises(muse.OptionError, match="torch_dtype: 'torch.float16'"):
        muse.AmusedPipeline.from_pretrained(amused, torch_dtype="torch.float16")

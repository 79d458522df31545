"""The package makes what the program makes, and does as Python's users expect."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from conftest import DEMO, PROMPT
from PIL import Image

import muse

QUICK = {"size": "base", "steps": 2}
BLACK = np.zeros((128, 128, 3), np.uint8)
PATIENCE = 60  # seconds that nothing here takes, unless it is broken


def test_generates_the_program_s_file(engine, program, tmp_path):
    png, _ = program("generate", PROMPT, "--seed", 5, "--negative", "rain", "--temperature", "2,0.5")
    image = engine.generate(PROMPT, seed=5, negative="rain", temperature=(2, 0.5))
    assert image.png() == png
    image.save(tmp_path / "saved.png")
    assert (tmp_path / "saved.png").read_bytes() == png
    with pytest.raises(OSError):
        image.save(tmp_path / "saved.png")
    assert (image.width, image.height, image.seed) == (128, 128, 5)
    assert Image.open(tmp_path / "saved.png").tobytes() == image.pil().tobytes()


def test_every_option_is_the_program_s(engine, program):
    arguments = {
        "seed": 2**64 - 1,
        "steps": 3,
        "guidance": 2.5,
        "order": "halton",
        "token_temperature": 0.7,
        "top_k": 5,
        "superres_steps": 2,
    }
    typed = [part for name, value in arguments.items() for part in ("--" + name.replace("_", "-"), value)]
    png, _ = program("generate", PROMPT, *typed, "--guidance-schedule", "interval:0.2-0.8")
    assert engine.generate(PROMPT, guidance_schedule=(0.2, 0.8), **arguments).png() == png


@pytest.mark.parametrize("form", ["path", "array", "pil", "muse"])
def test_edits_are_the_program_s(engine, program, tmp_path, form):
    original = engine.generate(PROMPT, superres_steps=1, steps=2)
    path = tmp_path / "original.png"
    original.save(path)
    given = {"path": path, "array": np.asarray(original), "pil": original.pil(), "muse": original}[form]
    mask = np.zeros((128, 128), bool)
    mask[60:108, 40:88] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")

    png, _ = program("inpaint", path, "a dog", "--box", "40,60,48,48", "--steps", 2, "--superres-steps", 1)
    file = tmp_path / "mask.png"
    marked = {"path": file, "array": mask, "pil": Image.open(file), "muse": mask * np.uint8(255)}[form]
    assert engine.inpaint(given, "a dog", mask=marked, steps=2, superres_steps=1).png() == png
    assert engine.inpaint(given, "a dog", boxes=[(40, 60, 48, 48)], steps=2, superres_steps=1).png() == png

    png, _ = program("vary", path, *"--steps 2 --size base".split())
    assert engine.vary(given, **QUICK).png() == png
    png, _ = program("edit", path, "a dog", *"--iterations 2 --size base".split())
    assert engine.edit(given, "a dog", iterations=2, size="base").png() == png
    png, _ = program("outpaint", path, "a dog", *"--right 32 --steps 1 --superres-steps 1".split())
    assert engine.outpaint(given, "a dog", right=32, steps=1, superres_steps=1).png() == png


def test_an_image_is_an_array_without_copies(engine):
    image = engine.generate(PROMPT, **QUICK)
    array = np.asarray(image)
    assert array.shape == (image.height, image.width, 3) and array.dtype == np.uint8
    assert np.shares_memory(array, image.array)
    assert np.shares_memory(array, np.from_dlpack(image))
    assert not np.shares_memory(array, np.array(image))
    assert np.asarray(image, np.float32).dtype == np.float32
    assert (np.asarray(image.pil()) == array).all()
    with pytest.raises(ValueError, match="copy"):
        image.__array__(np.float32, copy=False)


class Exported:
    """An array as another library has it, which says nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_takes_tokens_out_and_pictures_in(engine):
    image = engine.generate(PROMPT)
    for tokens in [image.base_tokens, image.superres_tokens, engine.encode(image)]:
        taken = np.from_dlpack(Exported(tokens))
        assert taken.dtype == np.uint32 and np.shares_memory(taken, tokens)
    assert (engine.encode(Exported(image.array)) == engine.encode(image)).all()
    mask = np.zeros((128, 128), np.uint8)
    mask[32:64] = 255
    few = {"steps": 1, "superres_steps": 1}
    repainted = engine.inpaint(Exported(image.array), PROMPT, mask=Exported(mask), **few)
    assert repainted.png() == engine.inpaint(image, PROMPT, mask=mask, **few).png()


def test_text_states_and_tokens_go_out_and_in(engine):
    few = {"steps": 2, "superres_steps": 1}
    image = engine.generate(PROMPT, **few)
    embeddings = engine.embed(PROMPT)
    assert embeddings.states.ndim == 2 and embeddings.pooled.shape == (0,)
    assert np.shares_memory(np.from_dlpack(Exported(embeddings.states)), embeddings.states)
    for given in [embeddings, tuple(map(Exported, embeddings)), (embeddings.states.astype(np.float64), embeddings.pooled)]:
        assert (engine.generate("a name", embeddings=given, **few).array == image.array).all()
    assert (engine.generate("a name", embeddings=engine.embed("a dog"), **few).array != image.array).any()
    assert (engine.decode(Exported(image.superres_tokens)) == image.array).all()
    assert engine.decode(image.base_tokens, "base").shape == (64, 64, 3)
    for wrong in [embeddings.states, (embeddings.states[0], embeddings.pooled), (embeddings.states[:, :5], embeddings.pooled)]:
        with pytest.raises(muse.OptionError, match="embeddings: "):
            engine.generate(PROMPT, embeddings=wrong)
    for wrong in [image.base_tokens, image.superres_tokens.astype(float), image.superres_tokens - 1025]:
        with pytest.raises(muse.OptionError, match="tokens: "):
            engine.decode(wrong)


def test_images_of_one_call_are_those_of_their_seeds(engine):
    many = engine.generate(PROMPT, count=3, seed=2**64 - 2, **QUICK)
    assert [image.seed for image in many] == [2**64 - 2, 2**64 - 1, 0]
    for image in many:
        alone = engine.generate(PROMPT, seed=image.seed, **QUICK)
        assert (alone.base_tokens == image.base_tokens).all() and alone.png() == image.png()


@pytest.mark.parametrize(
    "call, kind, part",
    [
        (lambda engine, _: engine.generate(""), muse.OptionError, "prompt: an empty text"),
        (lambda engine, _: engine.generate(None), muse.OptionError, "prompt: None"),
        (lambda engine, _: engine.generate(PROMPT, steps=0), ValueError, "steps: 0"),
        (lambda engine, _: engine.generate(PROMPT, steps=1.5), ValueError, "steps: 1.5"),
        (lambda engine, _: engine.generate(PROMPT, order="none"), muse.OptionError, "order: 'none'"),
        (lambda engine, _: engine.generate(PROMPT, guidance=float("nan")), muse.OptionError, "guidance: nan"),
        (lambda engine, _: engine.generate(PROMPT, guidance=101), muse.OptionError, "guidance: 101"),
        (lambda engine, _: engine.generate(PROMPT, seed=-1), muse.OptionError, "seed: -1"),
        (lambda engine, _: engine.generate(PROMPT, seed=2**64), muse.OptionError, "seed: 18446744073709551616"),
        (lambda engine, _: engine.generate(PROMPT, count=0), muse.OptionError, "count: 0"),
        (lambda engine, _: engine.generate(PROMPT, size="huge"), muse.OptionError, "size: 'huge'"),
        (lambda engine, _: engine.generate(PROMPT, temperature=(1, 2, 3)), muse.OptionError, "temperature: (1, 2, 3)"),
        (lambda engine, _: engine.generate(PROMPT, unknown=1), TypeError, "unknown option 'unknown'"),
        (lambda engine, path: engine.vary(path / "none.png"), OSError, "none.png"),
        (lambda engine, _: engine.vary(np.zeros((4, 4, 4), np.uint8)), muse.OptionError, "array of uint8 [4, 4, 4]"),
        (lambda engine, _: engine.vary(np.zeros((4, 4, 3))), muse.OptionError, "float64"),
        (lambda engine, _: engine.inpaint(np.zeros((4, 4, 3), np.uint8), ""), muse.OptionError, "mask"),
        (lambda engine, _: engine.inpaint(BLACK, "", boxes=[(0, 0, 129, 1)]), muse.OptionError, "box"),
        (lambda engine, _: engine.inpaint(BLACK, "", boxes=[(0, 0, 8)]), muse.OptionError, "boxes"),
        (lambda engine, _: engine.inpaint(BLACK, "", mask=np.zeros((8, 8), bool)), muse.OptionError, "mask"),
        (lambda engine, _: engine.inpaint(BLACK, "", mask=np.zeros((8, 8))), muse.OptionError, "array of float64"),
        (lambda engine, _: engine.edit(BLACK, "", strength=0.5, preserve=1), muse.OptionError, "strength"),
        (lambda engine, _: engine.encode(np.zeros((8, 8, 3), np.uint8)), muse.OptionError, "8×8 pixels"),
        (lambda _, path: muse.Engine(path), muse.ModelError, "model"),
        (lambda _, path: muse.Engine(path / "none"), muse.ModelError, "none"),
        (lambda *_: muse.Engine(DEMO, device="tpu"), muse.OptionError, "device: tpu"),
        (lambda *_: muse.Engine(DEMO, device="cpu", dtype="fp4"), muse.OptionError, "dtype: fp4"),
        (lambda *_: muse.Engine(DEMO, device="cpu", threads=-1), muse.OptionError, "threads: -1"),
        (lambda *_: muse.Engine(DEMO, device="cuda:99"), muse.DeviceError, ""),
    ],
)
def test_errors_name_what_is_wrong(engine, tmp_path, call, kind, part):
    with pytest.raises(kind) as caught:
        call(engine, tmp_path)
    assert part in str(caught.value)
    assert isinstance(caught.value, (muse.Error, TypeError))


def test_a_callback_sees_the_grid_and_may_stop_it(engine):
    steps = []
    kept = []

    def see(step):
        steps.append((step.stage, step.step, int(step.masked.sum())))
        assert step.tokens.shape[0] * step.tokens.shape[1] == step.tokens.size
        assert step.preview().dtype == np.uint8
        assert step.confidence.shape == step.tokens.shape and not np.isnan(step.confidence[step.masked]).any()
        kept.append(step)

    image = engine.generate(PROMPT, callback=see, **QUICK)
    assert [step[:2] for step in steps] == [("base", 0), ("base", 1)]
    assert steps[0][2] > steps[1][2] == 0
    assert (kept[1].tokens.ravel() == image.base_tokens).all()
    with pytest.raises(muse.OptionError, match="returned"):
        kept[0].preview()

    with pytest.raises(muse.Cancelled, match="step 0 of the base stage"):
        engine.generate(PROMPT, callback=lambda step: False)
    with pytest.raises(ZeroDivisionError):
        engine.generate(PROMPT, callback=lambda step: 1 / 0)
    cancel = muse.Cancel()
    with pytest.raises(muse.Cancelled):
        engine.generate(PROMPT, cancel=cancel, callback=lambda step: cancel.cancel())
    assert cancel.cancelled


def test_ctrl_c_ends_a_decode(engine):
    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPT, callback=lambda step: signal.raise_signal(signal.SIGINT))
    assert engine.generate(PROMPT, **QUICK).width == 64


def interrupted(call, when):
    """Sends the process Ctrl-C once this thread is in a call of the engine, and something is so."""
    caller, ended = threading.get_ident(), threading.Event()

    def send():
        while not ended.wait(0.05):
            if sys._current_frames()[caller].f_code.co_name == "_make" and when():
                return os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        ended.set()
        sender.join()


def test_ctrl_c_ends_a_decode_without_a_callback(engine):
    """One of minutes: it learns of the interrupt between two steps."""
    start = time.monotonic()
    interrupted(lambda: engine.edit(BLACK, PROMPT, iterations=1000, count=16), lambda: True)
    assert time.monotonic() - start < PATIENCE
    assert engine.generate(PROMPT, **QUICK).width == 64


def test_ctrl_c_ends_the_waiting(engine):
    """While another thread has the engine for as long as it takes."""
    started, release = threading.Event(), threading.Event()

    def hold(step):
        started.set()
        assert release.wait(PATIENCE)

    holder = threading.Thread(target=lambda: engine.generate(PROMPT, callback=hold, **QUICK))
    holder.start()
    assert started.wait(PATIENCE)
    interrupted(lambda: engine.generate(PROMPT, **QUICK), lambda: engine.waiting == 1)
    assert holder.is_alive() and engine.waiting == 0
    release.set()
    holder.join(PATIENCE)
    assert not holder.is_alive()


def test_a_wait_can_be_cancelled_from_another_thread(engine):
    started, release, cancel = threading.Event(), threading.Event(), muse.Cancel()
    ended = []

    def hold(step):
        started.set()
        assert release.wait(PATIENCE)

    def wait():
        with pytest.raises(muse.Cancelled, match="before the first step"):
            engine.generate(PROMPT, cancel=cancel, **QUICK)
        ended.append(True)

    holder = threading.Thread(target=lambda: engine.generate(PROMPT, callback=hold, **QUICK))
    holder.start()
    assert started.wait(PATIENCE)
    waiter = threading.Thread(target=wait)
    waiter.start()
    cancel.cancel()
    waiter.join(PATIENCE)
    assert ended and holder.is_alive()
    release.set()
    holder.join(PATIENCE)
    assert not holder.is_alive()


def test_threads_go_on_and_get_their_own(engine):
    """Each of two engines' first step waits for the other's: with Python's lock held, neither would come."""
    met = threading.Barrier(2, timeout=PATIENCE)
    other = muse.Engine(DEMO, device="cpu", threads=1)
    found = {}

    def work(engine, seed):
        def meet(step):
            if step.step == 0:
                met.wait()

        found[seed] = engine.generate(PROMPT, seed=seed, callback=meet, **QUICK).png()

    pairs = [threading.Thread(target=work, args=pair, daemon=True) for pair in [(engine, 1), (other, 2)]]
    for thread in pairs:
        thread.start()
    for thread in pairs:
        thread.join(2 * PATIENCE)
    assert found == {seed: engine.generate(PROMPT, seed=seed, **QUICK).png() for seed in (1, 2)}

    # Many of one engine's.
    def make(seed):
        found[seed] = engine.generate(PROMPT, seed=seed, **QUICK).png()

    many = [threading.Thread(target=make, args=[seed], daemon=True) for seed in range(3, 7)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join(PATIENCE)
    assert {seed: found[seed] for seed in range(3, 7)} == {
        seed: engine.generate(PROMPT, seed=seed, **QUICK).png() for seed in range(3, 7)
    }


def test_tokens_of_a_picture(engine):
    image = engine.generate(PROMPT)
    tokens = engine.encode(image)
    assert tokens.dtype == np.uint32 and tokens.shape == image.superres_tokens.shape
    assert (tokens == engine.encode(image.pil())).all()

"""Trains the demonstration model: `python tools/train STAGE --out RUN`. See README.md."""

import argparse
import importlib

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
MODULES = {
    "restore": "restore",
    "data": "data",
    "vq": "train_vq",
    "base": "train_masked",
    "superres": "train_masked",
    "export": "export",
    "eval": "evaluate",
    "edits": "edits",
    "samplers": "samplers",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/train", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    for name in MODULES:
        stage = stages.add_parser(name)
        stage.add_argument("--out", required=True, help="run directory: checkpoints, logs, sheets, caches")
        stage.add_argument("--font", default=FONT, help="Noto Color Emoji with bitmaps of size 109")
        stage.add_argument("--seed", type=int, default=0)
        stage.add_argument("--threads", type=int, default=0, help="per process; 0 shares the cores out")
        if name in ("vq", "base", "superres"):
            stage.add_argument(
                "--minutes", type=float, default=15, help="budget of training time over all sessions"
            )
            stage.add_argument("--steps", type=int, default=0, help="budget in steps, in place of minutes")
            stage.add_argument("--batch", type=int, default=0, help="samples per step and process")
        if name == "vq":
            stage.add_argument("--size", type=int, choices=(64, 128), required=True)
            stage.add_argument(
                "--warm-start", metavar="FILE", help="checkpoint of another size to start from"
            )
            stage.add_argument(
                "--decoder-only", action="store_true", help="train on the decoder of a finished tokenizer"
            )
        if name in ("data", "base", "superres"):
            stage.add_argument("--pairs", type=int, default=60_000, help="cached pairs of caption and scene")
        if name in ("vq", "base", "superres"):
            stage.add_argument(
                "--bf16", action="store_true", help="multiply in bf16: where the CPU or GPU is faster at it"
            )
        if name == "export":
            stage.add_argument("--model", default="models/demo", help="directory to write")
            stage.add_argument("--name", default="demo")
            stage.add_argument(
                "--untrained", action="store_true", help="random weights for stages that have no checkpoint"
            )
        if name == "eval":
            how = stage.add_mutually_exclusive_group()
            how.add_argument("--ceiling", action="store_true", help="the true scenes, through the tokenizers")
            how.add_argument("--torch", action="store_true", help="sample here, from the run's checkpoints")
            how.add_argument(
                "--images", metavar="DIR", help="read DIR/base and DIR/full instead of making images"
            )
            stage.add_argument("--count", type=int, default=256, help="held-out prompts")
            stage.add_argument("--dtype", default="bf16", help="what the engine computes in")
            stage.add_argument(
                "--against", metavar="DIR", help="pictures of the same prompts to compare with, one by one"
            )
            stage.add_argument(
                "--unseen", action="store_true", help="prompts of synonyms that training never used"
            )
            stage.add_argument("--sizes", nargs="+", choices=("base", "full"), default=["base", "full"])
            stage.add_argument(
                "--set",
                nargs="*",
                default=[],
                metavar="STAGE.KEY=VALUE",
                help="decode settings, with --torch",
            )
        if name in ("eval", "edits", "samplers"):
            stage.add_argument("--muse", default="target/release/muse", help="the engine's program")
        if name in ("restore", "eval", "edits"):
            stage.add_argument("--model", default="models/demo", help="the exported directory that is read")
        if name == "edits":
            stage.add_argument("--count", type=int, default=128, help="edits; other ones with another --seed")
            stage.add_argument(
                "--kinds",
                nargs="+",
                metavar="COMMAND",
                default=["generate", "inpaint", "edit", "outpaint"],
                help="the engine's commands, each with its options: inpaint, edit, outpaint, generate",
            )
        if name == "samplers":
            stage.add_argument("--count", type=int, default=128, help="prompts; other ones with another --seed")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    importlib.import_module(MODULES[args.stage]).run(args)


if __name__ == "__main__":
    main()

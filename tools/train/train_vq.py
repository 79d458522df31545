"""Stage `vq`: trains the tokenizer of one resolution, or, later, only its decoder (tokens stay the same)."""

from pathlib import Path

import torch

import vq
from optim import Optimiser
from runtime import Loop, World, learning_rate, sheet, to_bytes
from scenes import Renderer, Sampler

WARM_STEPS = 30  # a plain autoencoder before the codebook starts
RESTARTS_UNTIL = 0.8  # of the budget: afterwards the codebook settles
COMMITMENT = 0.25
FOREGROUND = 4.0


def reconstruction_loss(output: torch.Tensor, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """L1 + 2 L2 + L1 of the horizontal and vertical differences, the foreground weighted."""
    weight = (1 + (FOREGROUND - 1) * masks)[:, None]
    weight = weight / weight.mean()
    error = output - images
    loss = (weight * (error.abs() + 2 * error.square())).mean()
    loss += (weight[..., 1:] * error.diff(dim=3).abs()).mean()
    return loss + (weight[..., 1:, :] * error.diff(dim=2).abs()).mean()


def quantise(grid: torch.Tensor, codebook: vq.Codebook, restart: bool, generator: torch.Generator):
    """Latents [n, h, w, 16] -> codes of that shape (gradients pass), commitment loss, share of live codes.

    The codebook learns, too."""
    flat = grid.detach().reshape(-1, vq.WIDTH)
    ids = vq.nearest(flat, codebook.weight)
    quantised = codebook.weight[ids].view_as(grid)
    commitment = (grid - quantised).square().mean()
    live = codebook.update(flat, ids, restart, generator)
    return grid + (quantised - grid).detach(), commitment, live


def run(args) -> None:
    world = World(args.threads)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    renderer = Renderer(args.font, args.size // 64)
    sampler = Sampler(renderer, "train", args.seed)
    model = vq.build(args.size)
    if args.bf16:
        vq.norms_in_f32(model)
    name = f"vq{args.size}"
    if args.decoder_only:
        vq.load_checkpoint(model, out / f"{name}.pt")
        name += ".decoder"
        for part in (model.encoder, model.quant_conv):
            part.requires_grad_(False)
    elif args.warm_start:
        vq.load_checkpoint(model, Path(args.warm_start))
    if not args.decoder_only and world.first:
        (out / f"{name}.decoder.pt").unlink(missing_ok=True)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = Optimiser([p for p in weights if p.ndim == 4], [p for p in weights if p.ndim < 4], 0.02, 2e-3)
    codebook = vq.Codebook(model.quantize.embedding.weight, world)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=args.bf16)
    batch = args.batch or (16 if args.size == 64 else 8)
    state = {"model": model, "optimiser": optimiser, "codebook": codebook}
    loop = Loop(world, out, name, state, batch, args.minutes, args.steps, args.seed)
    test_images, test_masks = vq.batch_of(Sampler(renderer, "test"), renderer, range(32))
    reservoir: list[torch.Tensor] = []
    while (progress := loop.progress()) < 1:
        generator = torch.Generator().manual_seed(loop.seed_of_step())
        images, masks = vq.batch_of(sampler, renderer, loop.indices())
        commitment, live = torch.zeros(()), 1.0
        if args.decoder_only:
            ids = vq.tokenise(model, images)
            with autocast:
                output = vq.detokenise(model, ids)
        else:
            with autocast:
                grid = vq.latents(model, images).float().permute(0, 2, 3, 1)
            if not codebook.started:
                reservoir = [*reservoir[-20:], grid.detach().reshape(-1, vq.WIDTH)]
                if loop.steps >= WARM_STEPS or args.warm_start:
                    codebook.start(torch.cat(reservoir), generator)
            if codebook.started:
                quantised, commitment, live = quantise(grid, codebook, progress < RESTARTS_UNTIL, generator)
            else:
                quantised = grid
            with autocast:
                output = vq.decode_latents(model, quantised.permute(0, 3, 1, 2))
        loss = reconstruction_loss(output.float(), images, masks)
        (loss + COMMITMENT * commitment).backward()
        world.mean_gradients_(weights)
        optimiser.step(learning_rate(loop.steps, progress, 0.4))
        metrics = {
            "loss": loss.item(),
            "commitment": commitment.item(),
            "live": live,
            "psnr": vq.psnr(output.detach(), images),
        }
        if loop.tick(metrics) and world.first:
            report(model, test_images, test_masks, out / f"{name}.png", loop)
    loop.save()
    report(model, test_images, test_masks, out / f"{name}.png", loop)
    world.close()


def report(model, images, masks, path: Path, loop: Loop) -> None:
    with torch.no_grad():
        output = vq.detokenise(model, vq.tokenise(model, images))
    loop.print(
        f"held-out: {vq.psnr(output, images):.2f} dB, foreground {vq.psnr(output, images, masks):.2f} dB"
    )
    if loop.world.first:
        sheet(
            path,
            [to_bytes(images[:12]), to_bytes(output[:12]), to_bytes(images[12:24]), to_bytes(output[12:24])],
            zoom=2,
        )

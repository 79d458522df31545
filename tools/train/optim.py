"""Muon for matrices and flattened convolution kernels, AdamW for the rest, one object.

The model's parameters may be bf16: the optimiser keeps f32 masters and rounds them back after each
step. Matrices of one shape are orthogonalised in one batch.
"""

import torch

WEIGHT_DECAY = 0.02  # of the matrices, in units of the learning rate: without, they grow for as long as they are trained


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Newton-Schulz: [n, rows, columns] to the nearest (roughly) orthogonal matrices."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices
    flip = x.size(1) > x.size(2)
    if flip:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if flip else x


class Optimiser:
    def __init__(
        self,
        matrices: list,
        others: list,
        muon_rate: float,
        adam_rate: float,
        ema: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ):
        """Orthogonalises in `dtype`.

        `ema` > 0 also keeps that moving average of the masters (`average`, in the order of `parameters`).
        """
        self.parameters = matrices + others
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.muon_rate, self.adam_rate, self.ema, self.dtype = muon_rate, adam_rate, ema, dtype
        self.average = [m.clone() for m in self.masters] if ema else []
        count = len(matrices)
        shapes: dict[tuple[int, int], list[int]] = {}
        for i, p in enumerate(self.parameters[:count]):
            shapes.setdefault((p.shape[0], p[0].numel()), []).append(i)
        self.groups = [
            (shape, indices, torch.zeros(len(indices), *shape)) for shape, indices in shapes.items()
        ]
        self.rest = range(count, len(self.parameters))
        self.adam = torch.optim.AdamW(
            [self.masters[i] for i in self.rest],
            lr=adam_rate,
            betas=(0.9, 0.98),
            eps=1e-10,
            weight_decay=0.0,
            fused=True,
        )
        self.steps = 0

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update at `factor` times the learning rates; gradients are cleared."""
        for (rows, columns), indices, momentum in self.groups:
            gradient = torch.stack([self.parameters[i].grad.reshape(rows, columns) for i in indices]).float()
            momentum.lerp_(gradient, 0.05)
            update = orthogonalise(gradient.lerp_(momentum, 0.95).to(self.dtype)).float()
            rate = self.muon_rate * factor * max(1.0, rows / columns) ** 0.5
            for i, u in zip(indices, update):
                self.masters[i].mul_(1 - rate * WEIGHT_DECAY).sub_(u.view_as(self.masters[i]), alpha=rate)
        for i in self.rest:
            self.masters[i].grad = self.parameters[i].grad.float()
        self.adam.param_groups[0]["lr"] = self.adam_rate * factor
        self.adam.step()
        torch._foreach_copy_(self.parameters, self.masters)
        for p in self.parameters:
            p.grad = None
        if self.ema:
            self.steps += 1
            decay = min(self.ema, self.steps / (self.steps + 10))
            torch._foreach_lerp_(self.average, self.masters, 1 - decay)

    def state_dict(self) -> dict:
        return {
            "masters": self.masters,
            "average": self.average,
            "steps": self.steps,
            "momentum": [m for _, _, m in self.groups],
            "adam": self.adam.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        self.adam.load_state_dict(state["adam"])
        for mine, saved in (
            (self.masters, state["masters"]),
            (self.average, state["average"]),
            ([m for _, _, m in self.groups], state["momentum"]),
        ):
            if mine:
                torch._foreach_copy_(mine, saved)
        torch._foreach_copy_(self.parameters, self.masters)

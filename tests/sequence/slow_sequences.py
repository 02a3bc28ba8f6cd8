"""Sequences that change slowly, and carryovers that have learned from them."""

import torch

from itervae.inference import FISTAUnrolled
from itervae.sequence import filter_sequence

SIZE, LATENTS = 24, 32


def clips(model, count, frames, share=0.95, seed=0):
    """Slow sequences (B, T, D): counts of which each is drawn anew from one frame to the next with
    chance 1 − share."""
    generator = torch.Generator().manual_seed(seed)
    counts, found = None, []
    for _ in range(frames):
        new = torch.poisson(torch.full((count, LATENTS), 0.15, dtype=torch.float64), generator=generator)
        kept = torch.rand(count, LATENTS, generator=generator, dtype=torch.float64) < share
        counts = new if counts is None else torch.where(kept, counts, new)
        found.append(counts @ model.dictionary.mT)
    return 2 * torch.stack(found, 1)


def trained(model, carryover, frames, updates=25, lr=0.1):
    """The carryover, trained on the free energy of every frame but the first at its optimum."""
    optimizer = torch.optim.Adam(carryover.parameters(), lr=lr)
    for _ in range(updates):
        found = filter_sequence(model, FISTAUnrolled(), frames, carryover, steps=8)
        optimizer.zero_grad()
        found.free_energy[:, 1:].mean().backward()
        optimizer.step()
    return carryover

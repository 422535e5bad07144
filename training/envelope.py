"""Step 3: what is usual for what is said: the envelope that follows from the semantic tokens.

A small network that sees both sides learns, by least squares, the teacher's envelope from phones and their times.
Codes are made of what it says, not of the frames themselves: so they follow from the semantic tokens, and the coarse
model can learn to draw them. What is lost is what differs from one utterance to the next in the envelope; pitch keeps
it.

    python training/envelope.py STATE_DIR STEPS        writes STATE_DIR/envelope.pt
"""

import pathlib
import sys
import time

import numpy as np
import torch
from codebooks import CLASSES, ENVELOPE, WEIGHT, Speech, speech
from torch import Tensor, nn
from vocoder import HARMONIC

WIDTH, KERNEL, SHARDS = 112, 9, 5
CROPS, FRAMES, PEAK_RATE = 12, 400, 3e-3
SHARPER = 1.2  # of 143 words of held-out sentences 9 % wrong instead of 13 %


def given(said: Speech) -> tuple[np.ndarray, np.ndarray]:
    """Class of each frame (T,), and where in its run of frames of one class it is: place and length (T, 3)."""
    n = len(said.classes)
    starts = np.flatnonzero(np.diff(said.classes, prepend=-1))
    lengths = np.diff(np.append(starts, n))
    place = np.arange(n) - np.repeat(starts, lengths)
    length = np.repeat(lengths, lengths)
    return said.classes, np.stack([place / length, np.log(length), np.log1p(place)], 1).astype(np.float32)


class Usual(nn.Module):
    """(B, T) classes, (B, T, 3) places -> (B, T, ENVELOPE), in units of spread."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(CLASSES, 61)
        layers: list[nn.Module] = [nn.Conv1d(64, WIDTH, KERNEL, padding=KERNEL // 2)]
        for _ in range(2):
            layers += [nn.GELU(), nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)]
        self.layers = nn.Sequential(*layers, nn.GELU(), nn.Conv1d(WIDTH, ENVELOPE, 1))
        self.register_buffer("mean", torch.zeros(ENVELOPE))
        self.register_buffer("spread", torch.ones(ENVELOPE))

    def forward(self, classes: Tensor, places: Tensor) -> Tensor:
        x = torch.cat([self.embed(classes), places], -1).transpose(1, 2)
        return self.layers(x).transpose(1, 2)

    @torch.no_grad()
    def envelope(self, said: Speech) -> np.ndarray:
        """(T, ENVELOPE)"""
        classes, places = given(said)
        made = self(torch.from_numpy(classes)[None], torch.from_numpy(places)[None])[0]
        return (made * self.spread + self.mean).numpy()

    def sharpened(self, said: Speech) -> np.ndarray:
        """A mean is duller than what it is the mean of."""
        made, mean = self.envelope(said), self.mean.numpy()
        return (mean + (made - mean) * SHARPER).astype(np.float32)


def load(path: pathlib.Path) -> Usual:
    model = Usual()
    model.load_state_dict(torch.load(path))
    return model.eval()


def main(state: pathlib.Path, steps: int) -> None:
    torch.manual_seed(3), torch.set_num_threads(1)
    said = [s for path in sorted((state / "speech").glob("???.npz"))[:SHARDS] for s in speech(path)]
    classes, places = (np.concatenate(parts) for parts in zip(*map(given, said), strict=True))
    envelope = torch.from_numpy(np.concatenate([s.envelope for s in said]))
    weight = torch.ones(envelope.shape) * torch.from_numpy(WEIGHT) ** 2
    weight[:, :HARMONIC] *= torch.from_numpy(np.concatenate([s.voiced for s in said]))[:, None]
    classes, places = torch.from_numpy(classes), torch.from_numpy(places)
    model = Usual()
    model.mean = (envelope * weight).sum(0) / weight.sum(0)
    model.spread = ((envelope - model.mean).square() * weight).sum(0).div(weight.sum(0)).sqrt()
    if (state / "envelope.pt").exists():
        model = load(state / "envelope.pt").train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-3)
    began, losses = time.time(), []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 50) * (0.02 + 0.98 * (1 - step / steps))
        rows = torch.randint(len(classes) - FRAMES, (CROPS, 1)) + torch.arange(FRAMES)
        made = model(classes[rows], places[rows]) * model.spread + model.mean
        loss = ((made - envelope[rows]).square() * weight[rows])[:, 20:-20].sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(step + 1, f"{time.time() - began:.0f}s", f"left {np.mean(losses[-50:]):.2f}", flush=True)
            torch.save(model.state_dict(), state / "envelope.pt")
    torch.save(model.state_dict(), state / "envelope.pt")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))

"""Step 5: EnCodec's decoder learns to turn latents into the samples that follow from them.

Samples are made for clips as they are needed, in all voices, from the speech's own latents and from quantised ones.
Resumes from STATE_DIR/decoder.pt.

    python training/train_decoder.py STATE_DIR MINUTES
"""

import math
import pathlib
import sys
import time
import types

import cycle
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # encodec imports it for file helpers only
import vocoder  # noqa: E402
from codebooks import RESIDUAL_BOOKS, VOICES, Codebooks, speech  # noqa: E402
from encodec.modules import SEANetDecoder  # noqa: E402

SHAPE = {
    "dimension": vocoder.LATENT,
    "n_filters": 16,
    "ratios": [8, 5, 4, 2],
    "lstm": 0,
    "norm": "none",
    "causal": True,
    "true_skip": False,
}
CLIPS, CLIP_FRAMES, SETTLE_FRAMES = 8, 56, 8
POOL, POOL_AT_FIRST, FRESH_EVERY = 1200, 64, 4  # clips held; steps between new ones
LOUDNESS = 12.0  # samples have a spread of about 0.08: losses work on about 1
WARM_STEPS, AVERAGE = 50, 0.998
COARSE_SHARE = 0.75  # of a run's time computes in half precision


@torch.no_grad()
def level(decoder: nn.Module, latents: Tensor, spread: float) -> None:
    """First weights that follow from data: each convolution's output gets mean 0 and spread 1 in each channel. With
    torch's own, ten layers drive all inputs to one output, and the decoder learns to do without them."""
    convs = [m for m in decoder.modules() if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d))]

    def hook(conv, _given, out):
        mean, std = out.mean((0, 2)), out.std((0, 2)) + 1e-5
        conv.weight /= std.view((-1, 1, 1) if isinstance(conv, nn.Conv1d) else (1, -1, 1))
        conv.bias.copy_((conv.bias - mean) / std)
        return (out - mean[:, None]) / std[:, None]

    handles = [conv.register_forward_hook(hook) for conv in convs]
    decoder(latents)
    for handle in handles:
        handle.remove()
    convs[-1].weight *= spread
    convs[-1].bias *= spread


class Pool:
    """Clips (latents, samples), renewed one by one."""

    def __init__(self, state: pathlib.Path, rng: np.random.Generator):
        self.rng, self.books = rng, Codebooks(state)
        said = (s for path in sorted((state / "speech").glob("???.npz"))[1:9] for s in speech(path))
        self.said = [s for s in said if len(s.f0) > CLIP_FRAMES + SETTLE_FRAMES + 4]
        self.clips = [self.clip() for _ in range(POOL_AT_FIRST)]

    def clip(self) -> tuple[np.ndarray, np.ndarray]:
        rng, said = self.rng, self.said[self.rng.integers(len(self.said))]
        voice = rng.choice(list(VOICES), p=[0.5, 0.25, 0.25])
        envelope, steps = self.books.spoken(said, voice), said.steps(voice)
        signs = rng.choice([-1.0, 1.0], (len(steps), vocoder.SIGNS)).astype(np.float32)
        if rng.random() < 0.75:  # as codes tell it, with some or all of the residual codebooks
            codes, used = self.books.of(said, voice, rng), (0, *RESIDUAL_BOOKS[: rng.choice([1, 2, 3, 5])])
            envelope = self.books.envelope(sum(self.books.books[q][codes[q]] for q in used))
        given = vocoder.latents(envelope / self.books.scale, steps, vocoder.phases_of(steps), signs)
        samples = vocoder.synthesise(self.books.basis, envelope, steps, signs)
        return given.astype(np.float16), samples.astype(np.float16)

    def renew(self) -> None:
        if len(self.clips) < POOL:
            self.clips.append(self.clip())
        else:
            self.clips[self.rng.integers(POOL)] = self.clip()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Latents (CLIPS, LATENT, T) and samples (CLIPS, T * FRAME)."""
        length, given, wanted = CLIP_FRAMES + SETTLE_FRAMES, [], []
        for _ in range(CLIPS):
            latents, samples = self.clips[self.rng.integers(len(self.clips))]
            start = self.rng.integers(len(latents) - length + 1)
            given.append(latents[start : start + length].T)
            wanted.append(samples[start * vocoder.FRAME : (start + length) * vocoder.FRAME])
        return torch.from_numpy(np.stack(given)).float(), torch.from_numpy(np.stack(wanted)).float() * LOUDNESS


def mel_bands(size: int, count: int) -> Tensor:
    """(count, size/2+1) triangles."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * math.log10(1 + 12_000 / 700), count + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(size, 1 / vocoder.RATE_HZ)
    low, mid, high = (edges[i : i + count, None] for i in range(3))
    return torch.from_numpy(np.maximum(0, np.minimum((hz - low) / (mid - low), (high - hz) / (high - mid)))).float()


WINDOWS = {
    size: (torch.hann_window(size), mel_bands(size, count)) for size, count in ((128, 10), (512, 40), (1536, 72))
}


def losses(made: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Samples, and samples with high frequencies raised, both relative; spectra in bands of three lengths."""

    def relative(a, b):
        return (a - b).abs().mean() / (b.abs().mean() + 1e-3)

    terms = {"wave": relative(made, wanted)}
    terms["crisp"] = relative(made[:, 1:] - 0.9 * made[:, :-1], wanted[:, 1:] - 0.9 * wanted[:, :-1])
    mel = 0
    for size, (window, bands) in WINDOWS.items():
        a, b = (
            torch.log(
                bands @ torch.stft(x, size, size // 4, window=window, return_complex=True).abs() + 0.01 * size**0.5
            )
            for x in (made, wanted)
        )
        mel = mel + F.l1_loss(a, b) / len(WINDOWS)
    return terms | {"mel": mel}


LOSS = {"wave": 2.0, "crisp": 2.0, "mel": 2.0}


def main(state: pathlib.Path, minutes: float) -> None:
    torch.manual_seed(1), torch.set_num_threads(1)
    pool = Pool(state, np.random.default_rng(time.time_ns()))
    decoder, path, step = SEANetDecoder(**SHAPE), state / "decoder.pt", 0
    optimiser = torch.optim.AdamW(decoder.parameters(), betas=(0.8, 0.98), weight_decay=0.0)
    if path.exists():
        held = torch.load(path)
        decoder.load_state_dict(held["last"])
        optimiser.load_state_dict(held["optimiser"])
        step, average = held["step"], held["model"]
    else:
        given, wanted = pool.batch()
        level(decoder, given, wanted.std().item())
        average = {name: weight.clone() for name, weight in decoder.state_dict().items()}

    def save() -> None:
        state_dicts = {"last": decoder.state_dict(), "optimiser": optimiser.state_dict()}
        cycle.save(path, {"model": average, "step": step} | state_dicts)

    began, sums, first = time.time(), {}, step
    while (part := (time.time() - began) / (minutes * 60)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = cycle.learning_rate(part, step - first, WARM_STEPS, first > 0)
        given, wanted = pool.batch()
        cut = SETTLE_FRAMES * vocoder.FRAME
        with torch.autocast("cpu", torch.bfloat16, enabled=part < COARSE_SHARE):  # a quarter faster
            made = decoder(given)[:, 0]
        terms = losses(made.float()[:, cut:], wanted[:, cut:])
        optimiser.zero_grad()
        sum(LOSS[name] * term for name, term in terms.items()).backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        step += 1
        kept = min(AVERAGE, step / (step + 10))
        for name, weight in decoder.state_dict().items():
            average[name].lerp_(weight, 1 - kept)
        if step % FRESH_EVERY == 0:
            pool.renew()
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item()
        if step % 50 == 0 or step in (1, 5, 20):
            n = step % 50 or 50
            print(step, f"{time.time() - began:.0f}s", {k: round(v / n, 3) for k, v in sums.items()}, flush=True)
            if step % 50 == 0:
                sums = {}
        if step % 200 == 0:
            save()
    save()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))

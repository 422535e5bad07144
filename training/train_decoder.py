"""Step 4: EnCodec's decoder learns to turn quantised latents into the teacher's samples, in all three voices.

The teacher's samples of each clip are made when it is drawn. Resumes from STATE_DIR/decoder.pt.

    python training/train_decoder.py STATE_DIR MINUTES
"""

import pathlib
import random
import sys
import time
import types

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # encodec imports it for file helpers only
import vocoder  # noqa: E402
from codebooks import MONO, Codebooks  # noqa: E402
from encodec.modules import SEANetDecoder  # noqa: E402

SHAPE = {
    "dimension": vocoder.LATENT,
    "n_filters": 16,
    "ratios": [8, 5, 4, 2],
    "lstm": 1,
    "norm": "weight_norm",
    "causal": True,
    "true_skip": False,
}
CLIPS, CLIP_FRAMES, SETTLE_FRAMES = 8, 48, 8
LOUDNESS = 10.0  # samples have a spread of about 0.1: losses work on about 1
PEAK_RATE, WARM_STEPS = 1.5e-3, 100


def build() -> SEANetDecoder:
    """The decoder with variance-preserving weights and no biases: with torch's defaults its output starts constant."""
    decoder = SEANetDecoder(**SHAPE)
    for module in decoder.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            fan_in = (
                module.weight_v[:, 0].numel() if isinstance(module, nn.ConvTranspose1d) else module.weight_v[0].numel()
            )
            reads = fan_in / module.stride[0] if isinstance(module, nn.ConvTranspose1d) else fan_in
            nn.init.normal_(module.weight_v, std=(1.5 / reads) ** 0.5)
            dims = (1, 2)
            module.weight_g.data = module.weight_v.data.norm(dim=dims, keepdim=True)
            nn.init.zeros_(module.bias)
    return decoder


@torch.no_grad()
def level(decoder: nn.Module, latents: Tensor) -> None:
    """Scale each convolution, in order, so that what it gives for real latents has a spread of one (the last: 0.1)."""
    convs = [m for m in decoder.modules() if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d))]
    for conv in convs:
        spreads: list[float] = []
        handle = conv.register_forward_hook(lambda _m, _i, out, into=spreads: into.append(float(out.std())))
        decoder(latents)
        handle.remove()
        conv.weight_g /= (
            spreads[0] * (LOUDNESS if conv is convs[-1] else 1.0) * (2**0.5 if conv.kernel_size == (1,) else 1)
        )


def spectra(samples: Tensor, size: int) -> Tensor:
    """(B, N) → magnitudes (B, size/2+1, frames)."""
    return torch.stft(samples, size, size // 4, window=torch.hann_window(size), return_complex=True).abs() / size**0.5


def mel_bands(count: int = 64, size: int = 1024) -> Tensor:
    """(count, size/2+1) triangles up to 8 kHz, each summing to one."""
    bins_hz = torch.arange(size // 2 + 1) * vocoder.RATE_HZ / size
    edges = 700 * torch.expm1(
        torch.linspace(torch.tensor(40 / 700).log1p(), torch.tensor(8000 / 700).log1p(), count + 2)
    )
    low, mid, high = (edges[i : i + count, None] for i in range(3))
    triangle = torch.minimum((bins_hz - low) / (mid - low), (high - bins_hz) / (high - mid)).clamp(min=0) + 1e-6
    return triangle / triangle.sum(1, keepdim=True)


MEL = mel_bands()


def crisp(samples: Tensor) -> Tensor:
    """Pre-emphasis: as much weight on the formants that tell words apart as on the loud low harmonics."""
    return 2.5 * (samples[:, 1:] - 0.93 * samples[:, :-1])


def losses(made: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Samples match where pitch and phase are certain; spectra match everywhere, in bands where noise is random."""
    terms = {"wave": F.l1_loss(made, wanted), "crisp": F.l1_loss(crisp(made), crisp(wanted))}
    for size in (128, 512, 1024):
        a, b = spectra(made, size), spectra(wanted, size)
        terms[f"mag{size}"] = (a - b).norm() / b.norm() / 3
        if size == 1024:
            a, b = MEL @ a.square(), MEL @ b.square()
            terms["mel"] = F.l1_loss((a + 1e-4).log(), (b + 1e-4).log()) / 2
        else:
            terms[f"log{size}"] = F.l1_loss((a + 3e-3).log(), (b + 3e-3).log()) / 3
    return terms


def batch(data: list, books: Codebooks, rng: random.Random, signs: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Latents (CLIPS, LATENT, CLIP_FRAMES) and the teacher's samples of them (CLIPS, N). Half of the clips are as they
    were spoken and half as the codes tell them: so it learns what each number does as well as what it will be given.
    The noise signs are always those of the samples: with others it could only learn to leave noise out."""
    given, samples = [], []
    for clip in range(CLIPS):
        features, codes = rng.choice(data)
        start, voice = rng.randrange(len(features) - CLIP_FRAMES), rng.randrange(len(vocoder.VOICES))
        frames = slice(start, start + CLIP_FRAMES)
        latents = vocoder.latents_of(features[frames], voice, signs)
        spoken, told = books.normal(latents), codes[:, frames].copy()
        told[0] += voice * MONO
        given.append((books.decode(told, spoken) if clip % 2 else spoken).T)
        samples.append(torch.from_numpy(vocoder.synthesise(latents.astype(np.float64))))
    return torch.stack(given), torch.stack(samples)


def rate(step: int, elapsed: float, total: float) -> float:
    return PEAK_RATE * min(1.0, (step + 1) / WARM_STEPS) * max(0.03, 1 - max(0.0, elapsed / total) ** 1.5)


def main(state: pathlib.Path, minutes: float) -> None:
    torch.manual_seed(1), torch.set_num_threads(1)
    rng, books = random.Random(time.time_ns()), Codebooks(state / "codebooks.npz")
    signs = np.random.default_rng(time.time_ns())
    made = sorted((state / "codes").glob("???.npy"))
    data = [(np.load(state / "speech" / f"{path.stem}.npz")["features"], np.load(path)) for path in made]
    decoder, path, step, seen_s = build(), state / "decoder.pt", 0, 0.0
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=PEAK_RATE, betas=(0.8, 0.98), weight_decay=1e-4)
    if path.exists():
        held = torch.load(path)
        decoder.load_state_dict(held["model"])
        step, seen_s = held["step"], held["seen_s"]
        if "optimiser" in held:  # not in weights taken from a checkpoint
            optimiser.load_state_dict(held["optimiser"])
    else:
        level(decoder, batch(data, books, rng, signs)[0])
    began, sums = time.time(), {}
    while (elapsed := time.time() - began) < minutes * 60:
        for group in optimiser.param_groups:
            group["lr"] = rate(step, elapsed, minutes * 60)
        latents, wanted = batch(data, books, rng, signs)
        cut = SETTLE_FRAMES * vocoder.FRAME
        terms = losses(decoder(latents)[:, 0, cut:] * LOUDNESS, wanted[:, cut:] * LOUDNESS)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        step, seen_s = step + 1, seen_s + CLIPS * CLIP_FRAMES / 75
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.item() / 50
        if step % 50 == 0:
            print(
                step,
                f"{time.time() - began:.0f}s",
                f"{seen_s / 3600:.2f}h",
                {n: round(v, 3) for n, v in sums.items()},
                flush=True,
            )
            sums = {}
        if step % 200 == 0:
            torch.save(
                {"model": decoder.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "seen_s": seen_s},
                path,
            )
    torch.save(
        {"model": decoder.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "seen_s": seen_s}, path
    )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))

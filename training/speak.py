"""Step 2: flite speaks the sentences; what is kept of each is its latents and its phone states.

A shard is one .npz of 250 utterances in STATE_DIR/speech; made shards are skipped, so the step resumes.
Utterance i of a shard: text[i], voice[i], latents[offset[i]:offset[i+1]], tokens[token_offset[i]:token_offset[i+1]].

    python training/speak.py STATE_DIR [shards]
"""

import io
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import soundfile
import vocoder

SHARD = 250
SEMANTIC_HZ, FRAME_HZ = 49.9, 75
PHONES = """
    pau aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh
""".split()  # noqa: SIM905
PARTS = 3  # a phone's states: first, middle and last third
KEPT_PAUSE_S = 0.12  # of flite's silence before and after


def speak(text: str, voice: str) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """16 kHz samples and the phones with their end in seconds."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        done = subprocess.run(
            [
                "flite",
                "-voice",
                voice,
                "--setf",
                "int_f0_target_mean=160",
                "--setf",
                "int_f0_target_stddev=0",
                "-psdur",
                "-t",
                text,
                "-o",
                file.name,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        samples, _ = soundfile.read(io.BytesIO(pathlib.Path(file.name).read_bytes()))
    pairs = (item.rsplit(":", 1) for item in done.stdout.split())
    return samples, [(phone, float(end_s)) for phone, end_s in pairs]


def phone_states(phones: list[tuple[str, float]], start_s: float, n_tokens: int) -> np.ndarray:
    """(n_tokens,) ids PARTS · phone + third, at 49.9 Hz from start_s."""
    ends = np.array([end_s for _, end_s in phones])
    begins = np.concatenate([[0.0], ends[:-1]])
    middle_s = start_s + (np.arange(n_tokens) + 0.5) / SEMANTIC_HZ
    at = np.minimum(np.searchsorted(ends, middle_s, side="right"), len(ends) - 1)
    third = ((middle_s - begins[at]) / np.maximum(ends[at] - begins[at], 1e-3) * PARTS).astype(int).clip(0, PARTS - 1)
    return (np.array([PHONES.index(phone) for phone, _ in phones])[at] * PARTS + third).astype(np.int16)


def utterance(text: str, voice: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Latents (T, LATENT) and phone states (n,), cut so that T = round-to-even(n · 75/49.9 · 2) / 2 as in Bark."""
    samples, phones = speak(text, voice)
    start_s = max(0.0, phones[0][1] - KEPT_PAUSE_S)
    last_s = min(phones[-1][1], (phones[-2][1] if phones[-1][0] == "pau" else phones[-1][1]) + KEPT_PAUSE_S)
    n_tokens = int((last_s - start_s) * SEMANTIC_HZ)
    n_frames = round(int(np.floor(n_tokens * FRAME_HZ / SEMANTIC_HZ * 2)) / 2)
    features = vocoder.analyse(samples, voice)
    first = round(start_s * FRAME_HZ)
    features = features[first : first + n_frames]
    features = np.concatenate([features, np.repeat(features[-1:], n_frames - len(features), 0)])
    return vocoder.latents_of(features, voice, rng), phone_states(phones, start_s, n_tokens)


def write_shard(path: pathlib.Path, texts: list[str], first: int) -> None:
    rng = np.random.default_rng(first)
    voices = [list(vocoder.VOICES)[(first + i) % 3] for i in range(len(texts))]
    spoken = [utterance(text, voice, rng) for text, voice in zip(texts, voices, strict=False)]
    lengths, token_lengths = ([len(part[k]) for part in spoken] for k in (0, 1))
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        text=texts,
        voice=voices,
        latents=np.concatenate([a for a, _ in spoken]).astype(np.float16),
        tokens=np.concatenate([b for _, b in spoken]),
        offset=np.cumsum([0, *lengths]),
        token_offset=np.cumsum([0, *token_lengths]),
    )
    partial.rename(path)
    print(path.name, f"{sum(lengths) / FRAME_HZ / 60:.1f} minutes", flush=True)


def main(state: pathlib.Path, shards: int = 1000) -> None:
    texts = (state / "sentences.txt").read_text().splitlines()
    (state / "speech").mkdir(exist_ok=True)
    for shard, first in enumerate(range(0, len(texts), SHARD)):
        path = state / "speech" / f"{shard:03d}.npz"
        if shard < shards and not path.exists():
            write_shard(path, texts[first : first + SHARD], first)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))

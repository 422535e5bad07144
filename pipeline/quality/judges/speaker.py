"""Whether one speaker speaks throughout, by Resemblyzer's voice encoder (Apache-2.0), whose weights are in its wheel.

Its code needs librosa and a compiler; the network is an LSTM of three layers on a mel spectrogram, so it is here, in
torch. Source: resemblyzer `voice_encoder.py`, `hparams.py`; the mel filters are librosa's (Slaney).
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.quality.judges.clip import JUDGE_RATE, HeardClip, Scores, resample

FFT, HOP, MELS = 400, 160, 40  # 25 ms, 10 ms
WINDOW, STEP = 160, 40  # frames: 1.6 s, as the network was trained, every 0.4 s
HIDDEN = 256
TARGET_DBFS = -30.0  # louder than that stays as it is
LEAST_DB = 25.0  # a window so far below the loudest is not asked who speaks
Reference = Callable[[str], np.ndarray | None]  # a voice's name -> samples (N,) float at 24 kHz


class Speaker:
    """Embeddings of the windows of a clip, and of its voice."""

    def __init__(self, device: str, reference: Reference):
        spec = find_spec("resemblyzer")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("resemblyzer")
        weights = Path(spec.submodule_search_locations[0]) / "pretrained.pt"
        self.device = torch.device(device)
        self.lstm = nn.LSTM(MELS, HIDDEN, 3, batch_first=True)
        self.linear = nn.Linear(HIDDEN, HIDDEN)
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
            for name, module in (("lstm.", self.lstm), ("linear.", self.linear)):
                module.load_state_dict({k.removeprefix(name): v for k, v in state.items() if k.startswith(name)})
                module.to(self.device).eval()
        except (OSError, KeyError, RuntimeError, EOFError) as error:
            raise ConfigError(f"{weights}: can't be read; install Resemblyzer again") from error
        self.reference = lru_cache(256)(lambda voice: self._voice(reference(voice)))

    def judge(self, clip: HeardClip) -> Scores:
        """`embeddings` (W, 256) of the clip's windows, and `reference` (256,) of its voice or None."""
        return {
            "embeddings": self.embed(clip.for_judges),
            "reference": self.reference(clip.voice) if clip.voice else None,
        }

    def _voice(self, samples: np.ndarray | None) -> np.ndarray | None:
        """The mean embedding of a voice's own sound."""
        windows = self.embed(resample(samples)) if samples is not None and samples.size else np.zeros((0, HIDDEN))
        return unit(windows.mean(axis=0)) if len(windows) else None

    @torch.inference_mode()
    def embed(self, samples: np.ndarray) -> np.ndarray:
        """(M,) samples at 16 kHz -> (W, 256) unit vectors, one for each window that is not silent."""
        if samples.size < FFT:
            return np.zeros((0, HIDDEN), np.float32)
        level = 10 * np.log10(np.square(samples).mean() + 1e-12)
        samples = samples * np.float32(10 ** (max(0.0, TARGET_DBFS - level) / 20))
        mels = mel_spectrogram(samples)  # (T, 40)
        mels = np.pad(mels, ((0, max(0, WINDOW - len(mels))), (0, 0)))
        windows = np.stack([mels[i : i + WINDOW] for i in range(0, len(mels) - WINDOW + 1, STEP)])
        power = windows.sum(axis=(1, 2))
        windows = windows[power > power.max() * 10 ** (-LEAST_DB / 10)]
        # one window at a time: in a batch, low bits would depend on how many there are
        vectors = [self._forward(torch.from_numpy(window[None]).to(self.device)) for window in windows]
        return np.stack(vectors) if vectors else np.zeros((0, HIDDEN), np.float32)

    def _forward(self, window: torch.Tensor) -> np.ndarray:
        _, (hidden, _) = self.lstm(window)
        return unit(torch.relu(self.linear(hidden[-1]))[0].cpu().numpy())


def similarity(embeddings: np.ndarray, reference: np.ndarray | None) -> float | None:
    """The cosine of the least similar window with the reference, else with the mean of all; None for one alone."""
    if not len(embeddings) or (reference is None and len(embeddings) < 2):
        return None
    return float((embeddings @ (unit(embeddings.mean(axis=0)) if reference is None else reference)).min())


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float32)


def mel_spectrogram(samples: np.ndarray) -> np.ndarray:
    """(M,) -> (T, 40) float32 mel power, a frame each 10 ms."""
    padded = np.pad(samples, FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)
    spectrum = np.fft.rfft(frames * window)
    return ((np.square(spectrum.real) + np.square(spectrum.imag)) @ mel_filters()).astype(np.float32)


@lru_cache
def mel_filters() -> np.ndarray:
    """(201, 40): triangles of equal area on Slaney's mel scale, linear below 1 kHz and logarithmic above."""

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    top = 15 + np.log(JUDGE_RATE / 2 / 1000) * 27 / np.log(6.4)
    edges = to_hz(np.linspace(0, top, MELS + 2))
    hz = np.linspace(0, JUDGE_RATE / 2, FFT // 2 + 1)[:, None]
    rising, falling = (hz - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - hz) / np.diff(edges)[1:]
    return (np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))).astype(np.float32)

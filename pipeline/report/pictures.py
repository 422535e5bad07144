"""A clip's pictures and its sound, small enough for hundreds of them in one page."""

import base64
import io
import struct
import zlib
from functools import lru_cache
from itertools import pairwise

import numpy as np
import soundfile

WIDTH = 320  # columns of both pictures
MEL_BANDS = 48
FFT_SIZE = 1024
FLOOR_DB, TOP_DB = -90.0, -10.0  # of the spectrogram's colors
# Dark violet over red to yellow, at these shares of the way: legible on light and dark, and in shades of gray
COLORS = np.array([(8, 6, 30), (70, 20, 100), (160, 45, 95), (235, 105, 55), (252, 240, 160)], dtype=np.float64)


def waveform(samples: np.ndarray) -> list[int]:
    """The largest absolute sample of each of WIDTH stretches, 0 to 100."""
    if not samples.size:
        return [0] * WIDTH
    edges = np.linspace(0, samples.size, WIDTH + 1).astype(int)
    loud = np.abs(samples.astype(np.float64))
    peaks = [loud[a : max(b, a + 1)].max(initial=0) for a, b in pairwise(edges)]
    return np.rint(np.array(peaks) / 32768 * 100).astype(int).tolist()


def mel_picture(samples: np.ndarray, rate: int) -> bytes:
    """A mel spectrogram as a PNG with a palette, WIDTH x MEL_BANDS; low frequencies are at the bottom."""
    sound = np.pad(samples.astype(np.float32) / 32768, FFT_SIZE // 2)
    starts = np.linspace(0, sound.size - FFT_SIZE, WIDTH).astype(int)
    frames = np.stack([sound[start : start + FFT_SIZE] for start in starts]) * np.hanning(FFT_SIZE).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 / (FFT_SIZE / 4) ** 2  # (WIDTH, bins); 1 is a full-scale sine
    mel = mel_bands(rate) @ power.T  # (MEL_BANDS, WIDTH)
    level = (10 * np.log10(mel + 1e-12) - FLOOR_DB) / (TOP_DB - FLOOR_DB)
    return png(np.rint(np.clip(level, 0, 1) * 63).astype(np.uint8)[::-1])


@lru_cache
def mel_bands(rate: int) -> np.ndarray:
    """(MEL_BANDS, bins) triangular filters up to half the rate, evenly spaced in mel."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    centers = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FFT_SIZE, 1 / rate)
    left, middle, right = centers[:-2, None], centers[1:-1, None], centers[2:, None]
    triangles = np.clip(np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)), 0, None)
    narrow = triangles.sum(axis=1) == 0  # a band between two bins takes the nearest
    triangles[narrow, np.abs(bins[None] - middle).argmin(axis=1)[narrow]] = 1
    return np.asarray(triangles)


def png(pixels: np.ndarray) -> bytes:
    """(H, W) uint8 numbers of 64 colors as a PNG.

    Source: the PNG specification, https://www.w3.org/TR/png-3/.
    """
    height, width = pixels.shape
    steps = np.linspace(0, len(COLORS) - 1, 64)
    palette = np.stack([np.interp(steps, np.arange(len(COLORS)), COLORS[:, c]) for c in range(3)], axis=1)
    rows = np.hstack([np.zeros((height, 1), np.uint8), pixels])  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette.astype(np.uint8).tobytes())]
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def mp3(samples: np.ndarray, rate: int, kilobits: int) -> bytes:
    """(N,) int16 as an MP3 of a constant bit rate, which every browser plays."""
    buffer = io.BytesIO()
    highest, lowest = (320, 32) if rate >= 32_000 else (160, 8)
    level = (highest - kilobits) / (highest - lowest)
    options = {"bitrate_mode": "CONSTANT", "compression_level": min(1.0, max(0.0, level))}
    soundfile.write(buffer, samples, rate, format="MP3", subtype="MPEG_LAYER_III", **options)
    return buffer.getvalue()


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

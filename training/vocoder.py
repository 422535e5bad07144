"""The speech that puppy learns: flite's words and voices, at one fixed pitch a voice, in step with the codec's frames.

A frame is 320 samples (1/75 s). Every voice gets a pitch of k · 75 Hz, so the pulses of the voice fall on the same
places of each frame and a frame's samples follow from a handful of numbers: spectral envelope, voicing, voice, and the
signs of four fixed noise patterns. These numbers are the codec's latent (LATENT of them a frame). The price is a
monotone; what it buys is a codec whose codes mean something from the start, and no phase for the transformers to guess.

`analyse` turns a recording into latents, `synthesise` turns latents into the teacher's samples.
"""

import numpy as np
from scipy.signal import butter, sosfiltfilt

SPOKEN_HZ = 16_000  # flite's rate
RATE_HZ = 24_000
FRAME = 320  # samples a frame at RATE_HZ
VOICES = {"rms": 75, "awb": 150, "slt": 225}  # Hz, multiples of 75: pitch is part of the voice
SPOKEN_LAGS = {
    "rms": (145, 115, 215),
    "awb": (100, 94, 108),
    "slt": (100, 94, 108),
}  # period in samples: usual, least, most
CEPSTRA, NOISES = 29, 4
BANDS_HZ = ((100, 1000), (1000, 3000), (3000, 7500))  # voicing is measured in these
LATENT = CEPSTRA + len(BANDS_HZ) + len(VOICES) + NOISES  # 39
FFT = 1024
WARPED = 64  # points of the mel axis
FLOOR_DB = -80.0


def _bark(hz):
    return np.log1p(hz / 700)


_mel_hz = 700 * np.expm1(np.linspace(_bark(40), _bark(7800), WARPED))
_dct = np.cos(np.pi * np.outer(np.arange(CEPSTRA), np.arange(WARPED) + 0.5) / WARPED) * np.sqrt(2 / WARPED)  # (C, W)
_dct[0] /= np.sqrt(2)
_bin_hz = np.arange(FFT // 2 + 1) * RATE_HZ / FFT
_noise_rng = np.random.default_rng(75)
NOISE = _noise_rng.choice([-1.0, 1.0], (NOISES, FRAME)) / np.sqrt(NOISES)  # the fixed patterns


def _warp_weights() -> np.ndarray:
    """(WARPED, bins at 16 kHz): triangles one mel step wide, at least 50 Hz."""
    bins = np.arange(FFT // 2 + 1) * SPOKEN_HZ / FFT
    step = np.gradient(_mel_hz)
    half = np.maximum(step, 50.0)[:, None]
    weight = np.clip(1 - np.abs(bins[None] - _mel_hz[:, None]) / half, 0, None)
    return weight / weight.sum(1, keepdims=True)


_WARP = _warp_weights()


def analyse(spoken: np.ndarray, voice: str) -> np.ndarray:
    """16 kHz samples → (frames, CEPSTRA + 3): cepstra of the envelope at a frame's end, voicing a band (0..1)."""
    period = SPOKEN_LAGS[voice][0]
    n_frames = int(len(spoken) * RATE_HZ / SPOKEN_HZ) // FRAME
    centre = ((np.arange(n_frames) + 1) * FRAME * SPOKEN_HZ / RATE_HZ).astype(int)
    padded = np.pad(spoken, (4 * period, 8 * period))
    window = np.hanning(3 * period)
    at = centre[:, None] + 4 * period + np.arange(3 * period)[None] - 3 * period // 2
    power = np.abs(np.fft.rfft(padded[at] * window, FFT)) ** 2 / (window**2).sum()  # (T, bins)
    log_power = 10 * np.log10(power @ _WARP.T + 10 ** (FLOOR_DB / 10))  # (T, WARPED) dB
    cepstra = log_power @ _dct.T  # (T, CEPSTRA)
    return np.concatenate([cepstra, _voicing(padded, centre + 4 * period, *SPOKEN_LAGS[voice])], 1).astype(np.float32)


def _voicing(padded: np.ndarray, centre: np.ndarray, period: int, least: int, most: int) -> np.ndarray:
    """(T, 3): how much of each band repeats after one pitch period; the lowest band finds the period."""
    columns, lags = [], np.arange(least, most, 2)
    allowed = np.ones((len(centre), len(lags)), bool)
    for low, high in BANDS_HZ:
        band = sosfiltfilt(butter(3, (low, high), "band", fs=SPOKEN_HZ, output="sos"), padded)
        span = np.arange(-period, period)
        score = np.zeros(allowed.shape)
        for i, lag in enumerate(lags):
            first, second = (band[centre[:, None] + span + shift] for shift in (-(lag // 2), lag - lag // 2))
            score[:, i] = (first * second).sum(1) / (np.sqrt((first**2).sum(1) * (second**2).sum(1)) + 1e-9)
        best = np.where(allowed, score, 0).max(1)
        if low == BANDS_HZ[0][0]:
            allowed = abs(lags[None] - lags[score.argmax(1)][:, None]) <= 3
        columns.append(np.clip((best - 0.45) / 0.4, 0, 1) * ((first**2).mean(1) > 1e-7))
    return np.stack(columns, 1)


def latents_of(features: np.ndarray, voice: str, rng: np.random.Generator) -> np.ndarray:
    """(T, CEPSTRA + 3) → (T, LATENT): voice and the frame's noise signs added."""
    which = np.tile(np.eye(len(VOICES))[list(VOICES).index(voice)], (len(features), 1))
    signs = rng.choice([-1.0, 1.0], (len(features), NOISES))
    return np.concatenate([features, which, signs], 1).astype(np.float32)


def _responses(log_power_db: np.ndarray) -> np.ndarray:
    """(T, WARPED) dB → (T, FFT/2+1) complex: the minimum-phase filters with these envelopes."""
    t = len(log_power_db)
    natural = np.empty((t, FFT // 2 + 1))
    at = np.clip(np.interp(_bin_hz, _mel_hz, np.arange(WARPED)), 0, WARPED - 1)
    low = np.minimum(at.astype(int), WARPED - 2)
    part = at - low
    natural = (log_power_db[:, low] * (1 - part) + log_power_db[:, low + 1] * part) * np.log(10) / 20
    natural -= np.where(_bin_hz > 7900, 8.0, 0)  # nothing above what flite speaks
    cepstrum = np.fft.irfft(natural, FFT)
    cepstrum[:, 1 : FFT // 2] *= 2
    cepstrum[:, FFT // 2 + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum, FFT))


def synthesise(latents: np.ndarray) -> np.ndarray:
    """(T, LATENT) → T · FRAME samples at 24 kHz. Frame t uses latents t-1 and t only (the decoder is causal too)."""
    cepstra, voicing, voice, signs = np.split(latents, np.cumsum([CEPSTRA, len(BANDS_HZ), len(VOICES)]), axis=1)
    pitch_hz = np.array(list(VOICES.values()))[voice.argmax(1)]
    log_power = np.maximum(cepstra @ _dct, FLOOR_DB)  # (T, WARPED)
    band_at = [np.sqrt(low * high) for low, high in BANDS_HZ]
    voiced = np.stack([np.interp(_bin_hz, band_at, v) for v in np.clip(voicing, 0, 1)])  # (T, bins)
    out = np.zeros(len(latents) * FRAME + 2 * FFT)
    spectrum_now = _responses(log_power)
    before = np.concatenate([log_power[:1], log_power[:-1]])
    noise = np.fft.rfft(signs @ NOISE, 2 * FFT)
    for t in range(len(latents)):
        count = pitch_hz[t] // 75
        for j in range(count):
            place = j * FRAME / count  # in samples, not always whole
            mixed = before[t] + (log_power[t] - before[t]) * (place / FRAME)
            shaped = _responses(mixed[None])[0] * np.sqrt(voiced[t] * RATE_HZ / pitch_hz[t])
            shaped = shaped * np.exp(-2j * np.pi * np.arange(FFT // 2 + 1) * place / FFT)
            out[t * FRAME : t * FRAME + FFT] += np.fft.irfft(shaped, FFT)
        hiss = np.fft.irfft(spectrum_now[t] * np.sqrt(1 - voiced[t]), FFT)
        out[t * FRAME : t * FRAME + 2 * FFT] += np.fft.irfft(np.fft.rfft(hiss, 2 * FFT) * noise[t], 2 * FFT)
    return out[: len(latents) * FRAME].astype(np.float32)

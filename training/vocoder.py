"""The speech that puppy learns: flite's words, at one fixed pitch a voice, in step with the codec's frames.

A frame is 320 samples (1/75 s). Every voice gets a pitch of k · 75 Hz, so the pulses of the voice fall on the same
places of each frame and a frame's samples follow from a handful of numbers: spectral envelope, voicing, voice, and the
signs of four fixed noise patterns. These numbers are the codec's latent (LATENT of them a frame). The price is a
monotone; what it buys is a codec whose codes mean something from the start, and no phase for the transformers to guess.

All three voices are one speaker of flite's. A voice is a pitch and a vocal tract: its envelope's frequencies are
multiplied by `stretch`. Both happen here, where latents become sound, so what is said is the same in every voice.
"""

import numpy as np

RATE_HZ = 24_000
FRAME_HZ, FRAME = 75, 320  # frames a second, samples a frame
VOICES = {"rms": (75, 1.0), "middle": (150, 1.10), "high": (225, 1.15)}  # pitch in Hz, a multiple of 75; stretch
CEPSTRA, NOISES = 29, 4
BANDS_HZ = ((100, 1000), (1000, 3000), (3000, 7500))  # voicing is told of these
LATENT = CEPSTRA + len(BANDS_HZ) + len(VOICES) + NOISES  # 39
FFT = 1024
WARPED = 64  # points of the mel axis
FLOOR_DB = -80.0
TOP_HZ = 7900  # nothing above what flite speaks


def _bark(hz):
    return np.log1p(hz / 700)


MEL_HZ = 700 * np.expm1(np.linspace(_bark(40), _bark(7800), WARPED))
_dct = np.cos(np.pi * np.outer(np.arange(CEPSTRA), np.arange(WARPED) + 0.5) / WARPED) * np.sqrt(2 / WARPED)  # (C, W)
_dct[0] /= np.sqrt(2)
_bin_hz = np.arange(FFT // 2 + 1) * RATE_HZ / FFT
_noise_rng = np.random.default_rng(75)
NOISE = _noise_rng.choice([-1.0, 1.0], (NOISES, FRAME)) / np.sqrt(NOISES)  # the fixed patterns


def cepstra(envelope_db: np.ndarray) -> np.ndarray:
    """(T, WARPED) dB → (T, CEPSTRA)"""
    return envelope_db @ _dct.T


def latents_of(features: np.ndarray, voice: int, rng: np.random.Generator) -> np.ndarray:
    """(T, CEPSTRA + 3) → (T, LATENT): voice and the frame's noise signs added."""
    which = np.tile(np.eye(len(VOICES))[voice], (len(features), 1))
    signs = rng.choice([-1.0, 1.0], (len(features), NOISES))
    return np.concatenate([features, which, signs], 1).astype(np.float32)


def _responses(log_power_db: np.ndarray, stretch: float) -> np.ndarray:
    """(T, WARPED) dB → (T, FFT/2+1) complex: the minimum-phase filters with these envelopes, stretched."""
    at = np.clip(np.interp(_bin_hz / stretch, MEL_HZ, np.arange(WARPED)), 0, WARPED - 1)
    low = np.minimum(at.astype(int), WARPED - 2)
    part = at - low
    natural = (log_power_db[:, low] * (1 - part) + log_power_db[:, low + 1] * part) * np.log(10) / 20
    natural -= np.where(_bin_hz > TOP_HZ, 8.0, 0)
    cepstrum = np.fft.irfft(natural, FFT)
    cepstrum[:, 1 : FFT // 2] *= 2
    cepstrum[:, FFT // 2 + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum, FFT))


def synthesise(latents: np.ndarray) -> np.ndarray:
    """(T, LATENT) of one voice → T · FRAME samples at 24 kHz. Frame t uses latents t-1 and t only (the decoder is
    causal too)."""
    said, voicing, voice, signs = np.split(latents, np.cumsum([CEPSTRA, len(BANDS_HZ), len(VOICES)]), axis=1)
    pitch_hz, stretch = list(VOICES.values())[voice[0].argmax()]
    log_power = np.maximum(said @ _dct, FLOOR_DB)  # (T, WARPED)
    middles = [np.sqrt(low * high) * stretch for low, high in BANDS_HZ]
    voiced = np.stack([np.interp(_bin_hz, middles, v) for v in np.clip(voicing, 0, 1)])  # (T, bins)
    before = np.concatenate([log_power[:1], log_power[:-1]])
    hiss = np.fft.irfft(_responses(log_power, stretch) * np.sqrt(1 - voiced), FFT)
    pieces = np.fft.irfft(np.fft.rfft(hiss, 2 * FFT) * np.fft.rfft(signs @ NOISE, 2 * FFT), 2 * FFT)
    pulses = pitch_hz // FRAME_HZ
    for place in np.arange(pulses) * FRAME / pulses:  # in samples, not always whole
        shaped = _responses(before + (log_power - before) * (place / FRAME), stretch)
        shaped *= np.sqrt(voiced * RATE_HZ / pitch_hz) * np.exp(-2j * np.pi * np.arange(FFT // 2 + 1) * place / FFT)
        pieces[:, :FFT] += np.fft.irfft(shaped, FFT)
    out = np.zeros(len(latents) * FRAME + 2 * FFT)
    for t, piece in enumerate(pieces):
        out[t * FRAME : t * FRAME + 2 * FFT] += piece
    return out[: len(latents) * FRAME].astype(np.float32)

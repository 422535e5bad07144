"""What a codec frame (320 samples, 1/75 s) means, and the samples that follow from it.

A frame's latent describes its end: cepstra of the envelope of harmonics and of noise on a mel axis, voicing, log f0,
the phase of the fundamental (at eight times of the frame, to spare the decoder the turning), and signs of fixed noises.
Pitch and phase lie on a grid: in one frame the phase advances by a whole number of sixteenths of a cycle (f0 is a
multiple of 75/16 = 4.7 Hz), so the next phase follows from the pitch alone. Between frame ends everything is
interpolated; each pulse of the voice and each frame's noise pass minimum-phase filters. So samples follow from this
frame's latent and those before it, as in the codec's causal decoder.
"""

import numpy as np
import scipy.fft

RATE_HZ, FRAME_HZ, FRAME = 24_000, 75, 320
BANDS, HARMONIC, NOISY = 40, 26, 10  # points of the mel axis; cepstra of harmonics and of noise
GRID = 16  # phases of a cycle, and sixteenths of a cycle that a frame may advance
SLOWEST, FASTEST = 13, 75  # sixteenths a frame: 61 to 352 Hz
SIGNS = 4
TIMES = 8  # in a frame at which a latent tells the phase: as many as the decoder's first upsampling makes of it
LATENT = HARMONIC + NOISY + 2 + 2 * TIMES + SIGNS  # 58
FFT = 1024
PULSE_GAIN, NOISE_GAIN = 1 / 600, 1 / 30  # of the teacher's units

_bin_hz = np.arange(601) * 20.0
_mel = lambda hz: 2595 * np.log10(1 + np.asarray(hz) / 700)  # noqa: E731
_axis = np.linspace(0, _mel(12_000), BANDS)
_distance = np.abs(_mel(_bin_hz)[None] - _axis[:, None]) / (_axis[1] - _axis[0])
_near = np.maximum(1 - _distance, 0)
_near[:, 0] += 1e-9
_AVERAGE = (_near / _near.sum(1, keepdims=True)).astype(np.float32)  # (BANDS, 601)
DCT = scipy.fft.dct(np.eye(BANDS), axis=0, norm="ortho").astype(np.float32)  # (cepstrum, band)
NOISE = np.random.default_rng(7).choice([-1.0, 1.0], (SIGNS, FRAME)).astype(np.float32) / np.sqrt(SIGNS)


def cepstra_of(log_amplitude: np.ndarray, count: int) -> np.ndarray:
    """(601, T) on the teacher's frequencies -> (T, count)."""
    return (DCT[:count] @ (_AVERAGE @ log_amplitude)).T


def bands_of(cepstra: np.ndarray) -> np.ndarray:
    """(T, C) -> (T, BANDS) natural log amplitudes."""
    return cepstra @ DCT[: cepstra.shape[1]]


def warped(cepstra: np.ndarray, stretch: float) -> np.ndarray:
    """(T, C): the envelope of a vocal tract whose resonances are `stretch` times as high."""
    if stretch == 1:
        return cepstra
    source = np.interp(_mel(700 * (10 ** (_axis / 2595) - 1) / stretch), _axis, np.arange(BANDS))
    low = np.minimum(source.astype(int), BANDS - 2)
    part = (source - low).astype(np.float32)
    bands = bands_of(cepstra)
    return ((bands[:, low] * (1 - part) + bands[:, low + 1] * part) @ DCT[: cepstra.shape[1]].T).astype(np.float32)


_at = np.interp(_mel(np.arange(FFT // 2 + 1) * RATE_HZ / FFT), _axis, np.arange(BANDS))
_low = np.minimum(_at.astype(int), BANDS - 2)
_TO_BINS = np.zeros((BANDS, FFT // 2 + 1), np.float32)
_TO_BINS[_low, np.arange(FFT // 2 + 1)] = 1 - (_at - _low)
_TO_BINS[_low + 1, np.arange(FFT // 2 + 1)] += _at - _low


def responses(cepstra: np.ndarray) -> np.ndarray:
    """(T, C) -> (T, FFT/2+1) complex: minimum-phase filters."""
    log_amplitude = np.minimum(bands_of(cepstra), 7) @ _TO_BINS
    folded = scipy.fft.irfft(log_amplitude, FFT, axis=1)
    folded[:, 1 : FFT // 2] *= 2
    folded[:, FFT // 2 + 1 :] = 0
    return np.exp(scipy.fft.rfft(folded, axis=1))


def steps_on_grid(f0_hz: np.ndarray, voiced: np.ndarray, hold: float = 0.6) -> np.ndarray:
    """(T,) sixteenths of a cycle that each frame advances, 0 unvoiced; a step holds until f0 is clearly another."""
    wanted = np.clip(f0_hz * GRID / FRAME_HZ, SLOWEST, FASTEST)
    steps = np.zeros(len(f0_hz), np.int64)
    for t in range(len(steps)):
        before = steps[t - 1] if t else 0
        if voiced[t]:
            steps[t] = before if before and abs(wanted[t] - before) <= hold else round(float(wanted[t]))
    return steps


def phases_of(steps: np.ndarray) -> np.ndarray:
    """(T,) phase at each frame's end, in sixteenths; it starts at 0 with each voiced stretch."""
    phases, phase = np.zeros(len(steps), np.int64), 0
    for t, step in enumerate(steps):
        phase = (phase + step) % GRID if step else 0
        phases[t] = phase
    return phases


def latents(cepstra: np.ndarray, steps: np.ndarray, phases: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """(T, HARMONIC + NOISY), (T,), (T,), (T, SIGNS) of +-1 -> (T, LATENT)."""
    voiced = (steps > 0)[:, None]
    pitch = np.log(np.maximum(steps, SLOWEST) * FRAME_HZ / GRID / 200)[:, None]
    back = np.arange(TIMES)[None] / TIMES * steps[:, None]  # how far the phase still was from the frame's end
    angle = 2 * np.pi * (phases[:, None] - back) / GRID
    phase = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    return np.concatenate([cepstra, voiced, 2 * voiced * pitch, voiced * phase, signs], 1).astype(np.float32)


def synthesise(cepstra: np.ndarray, steps: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The samples (T * FRAME,) of T frames, of whatever pitch, vocal tract and noise."""
    n = len(cepstra)
    harmonic, noisy = cepstra[:, :HARMONIC], cepstra[:, HARMONIC:]
    out = np.zeros(n * FRAME + 2 * FFT, np.float32)
    # Noise: each frame's own, through its own filter
    made = scipy.fft.rfft((signs @ NOISE).astype(np.float32) * NOISE_GAIN, 2 * FFT, axis=1)
    hiss = scipy.fft.irfft(
        made * scipy.fft.rfft(scipy.fft.irfft(responses(noisy), FFT, axis=1), 2 * FFT, axis=1), axis=1
    )
    for t in range(n):
        out[t * FRAME : t * FRAME + 2 * FFT] += hiss[t]
    # Pulses: where the phase passes whole cycles
    places, weights = pulse_places(steps)
    if len(places):
        frame = np.minimum((places // FRAME).astype(int), n - 1)
        part = (places / FRAME - frame)[:, None].astype(np.float32)
        before = np.where(
            (steps[np.maximum(frame - 1, 0)] > 0)[:, None], harmonic[np.maximum(frame - 1, 0)], harmonic[frame]
        )
        shaped = responses(before * (1 - part) + harmonic[frame] * part)
        whole = np.floor(places).astype(int)
        delay = np.exp(-2j * np.pi / FFT * (places - whole)[:, None] * np.arange(FFT // 2 + 1)[None]).astype(
            np.complex64
        )
        pulses = scipy.fft.irfft(shaped * delay, FFT, axis=1) * weights[:, None]
        for at, pulse in zip(whole, pulses, strict=True):
            out[at : at + FFT] += pulse
    return out[: n * FRAME]


def pulse_places(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples (fractions too) at which pulses start, and their strength: a period long pulse is a period strong."""
    places, weights, phase, before = [], [], 0.0, 0
    for t, step in enumerate(steps):
        if step:
            start = before or step
            u = np.arange(FRAME + 1) / FRAME
            # cubic with the steps as slopes at both ends and the step as its whole advance: pitch has no jumps
            advance = start * u + (3 * step - 2 * start - step) * u**2 + (start + step - 2 * step) * u**3
            path = (phase + advance) / GRID
            for cycle in range(int(np.floor(path[0] + 1e-9)) + 1, int(np.floor(path[-1] + 1e-9)) + 1):
                places.append(t * FRAME + np.interp(cycle, path, np.arange(FRAME + 1)))
                weights.append(RATE_HZ / (step * FRAME_HZ / GRID) * PULSE_GAIN)
            phase = (phase + step) % GRID
        else:
            phase = 0.0
        before = step
    return np.array(places), np.array(weights, np.float32)

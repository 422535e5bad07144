"""What a codec frame (320 samples, 1/75 s) means, and the samples that follow from it.

A frame's latent describes its end: the envelope of harmonics and of noise (coordinates on a basis fitted to the
teacher's log spectra), voicing, log f0, the phase of the fundamental (at eight times of the frame, to spare the decoder
the turning), and signs of fixed noises. Pitch and phase lie on a grid: in one frame the phase advances by a whole
number of sixteenths of a cycle (f0 is a multiple of 75/16 = 4.7 Hz), so the next phase follows from the pitch alone.
Between frame ends everything is interpolated; each pulse of the voice and each frame's noise pass minimum-phase
filters. So samples follow from this frame's latent and those before it, as in the codec's causal decoder.
"""

import pathlib

import numpy as np
import scipy.fft

RATE_HZ, FRAME_HZ, FRAME = 24_000, 75, 320
BINS, BIN_HZ, FFT = 601, 20, 1200  # the teacher's spectra
HARMONIC, NOISY = 32, 24  # coordinates of the envelope of harmonics and of noise
ENVELOPE = HARMONIC + NOISY
GRID = 16  # phases of a cycle, and sixteenths of a cycle that a frame may advance
SLOWEST, FASTEST = 13, 75  # sixteenths a frame: 61 to 352 Hz
SIGNS = 4
TIMES = 8  # in a frame at which a latent tells the phase: as many as the decoder's first upsampling makes of it
LATENT = ENVELOPE + 2 + 2 * TIMES + SIGNS  # 78
LOWEST, HIGHEST = -5.0, 7.0  # natural log of amplitude, teacher's units: what is lower is not heard
PULSE_GAIN, NOISE_GAIN = 1 / 600, 1 / 30  # of the teacher's units
NOISE = np.random.default_rng(7).choice([-1.0, 1.0], (SIGNS, FRAME)).astype(np.float32) / np.sqrt(SIGNS)
# How much an error counts at a frequency
CARE = np.sqrt(np.interp(np.arange(BINS) * BIN_HZ, [0, 1000, 4000, 12_000], [2, 2, 1, 0.4])).astype(np.float32)
CARE /= np.sqrt((CARE**2).sum())


class Basis:
    """Log spectra (T, BINS) as coordinates (T, HARMONIC) or (T, NOISY), by principal components.

    Coordinates are nepers: their squared distance is the mean squared distance of the spectra, weighted with CARE.
    """

    def __init__(self, path: pathlib.Path):
        held = np.load(path)
        self.means = [held["harmonic_mean"], held["noise_mean"]]  # (BINS,)
        self.axes = [held["harmonic_axes"], held["noise_axes"]]  # (HARMONIC, BINS), (NOISY, BINS): orthonormal rows

    def coordinates(self, part: int, log_amplitude: np.ndarray) -> np.ndarray:
        """part 0 is the harmonics, 1 the noise."""
        bounded = np.clip(log_amplitude, LOWEST, HIGHEST)
        return (((bounded - self.means[part]) * CARE) @ self.axes[part].T).astype(np.float32)

    def log_amplitude(self, part: int, coordinates: np.ndarray) -> np.ndarray:
        return (coordinates @ self.axes[part]) / CARE + self.means[part]

    def warped(self, part: int, coordinates: np.ndarray, stretch: float) -> np.ndarray:
        """The envelope of a vocal tract whose resonances are `stretch` times as high."""
        if stretch == 1:
            return coordinates
        return self.coordinates(part, stretched(self.log_amplitude(part, coordinates), stretch))

    def responses(self, part: int, coordinates: np.ndarray) -> np.ndarray:
        """(T, C) -> (T, FFT/2+1) complex: minimum-phase filters."""
        log_amplitude = np.clip(self.log_amplitude(part, coordinates), LOWEST, HIGHEST)
        folded = scipy.fft.irfft(log_amplitude, FFT, axis=1)
        folded[:, 1 : FFT // 2] *= 2
        folded[:, FFT // 2 + 1 :] = 0
        return np.exp(scipy.fft.rfft(folded, axis=1)).astype(np.complex64)


def stretched(log_amplitude: np.ndarray, stretch: float) -> np.ndarray:
    """(T, BINS): resonances are moved to `stretch` times their frequency."""
    source = np.minimum(np.arange(BINS) / stretch, BINS - 1.001)
    low = source.astype(int)
    part = (source - low).astype(np.float32)
    return log_amplitude[:, low] * (1 - part) + log_amplitude[:, low + 1] * part


def smoothed(log_amplitude: np.ndarray, width: float = 0.12) -> np.ndarray:
    """(T, BINS): the power's mean over a band of `width` times each frequency."""
    half = 2 + (np.arange(BINS) * width / 2).astype(int)
    sums = np.cumsum(np.pad(np.exp(2 * log_amplitude), ((0, 0), (1, 0))), axis=1)
    low, high = np.maximum(np.arange(BINS) - half, 0), np.minimum(np.arange(BINS) + half + 1, BINS)
    return np.log((sums[:, high] - sums[:, low]) / (high - low) + 1e-12) / 2


def fit_basis(path: pathlib.Path, parts: list[np.ndarray]) -> None:
    """Write the basis for log spectra of harmonics and of noise, each (T, BINS)."""
    held = {}
    for name, spectra, count in zip(("harmonic", "noise"), parts, (HARMONIC, NOISY), strict=True):
        bounded = np.clip(spectra, LOWEST, HIGHEST)
        mean = bounded.mean(0)
        centred = (bounded - mean) * CARE
        values, vectors = np.linalg.eigh(centred.T @ centred)
        held |= {f"{name}_mean": mean, f"{name}_axes": vectors[:, : -count - 1 : -1].T}
        print(name, f"left out {1 - values[-count:].sum() / values.sum():.3f} of the variance", flush=True)
    np.savez(path, **{key: value.astype(np.float32) for key, value in held.items()})


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


def latents(envelope: np.ndarray, steps: np.ndarray, phases: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """(T, ENVELOPE), (T,), (T,), (T, SIGNS) of +-1 -> (T, LATENT)."""
    voiced = (steps > 0)[:, None]
    pitch = np.log(np.maximum(steps, SLOWEST) * FRAME_HZ / GRID / 200)[:, None]
    back = np.arange(TIMES)[None] / TIMES * steps[:, None]  # how far the phase still was from the frame's end
    angle = 2 * np.pi * (phases[:, None] - back) / GRID
    phase = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    return np.concatenate([envelope, voiced, 2 * voiced * pitch, voiced * phase, signs], 1).astype(np.float32)


def synthesise(basis: Basis, envelope: np.ndarray, steps: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The samples (T * FRAME,) of T frames, of whatever pitch, vocal tract and noise."""
    n = len(envelope)
    harmonic, noisy = envelope[:, :HARMONIC], envelope[:, HARMONIC:]
    out = np.zeros(n * FRAME + 2 * FFT, np.float32)
    # Noise: each frame's own, through its own filter
    made = scipy.fft.rfft((signs @ NOISE).astype(np.float32) * NOISE_GAIN, 2 * FFT, axis=1)
    filters = scipy.fft.rfft(scipy.fft.irfft(basis.responses(1, noisy), FFT, axis=1), 2 * FFT, axis=1)
    for t, hiss in enumerate(scipy.fft.irfft(made * filters, axis=1)):
        out[t * FRAME : t * FRAME + 2 * FFT] += hiss
    # Pulses: where the phase passes whole cycles
    places, weights = pulse_places(steps)
    if len(places):
        frame = np.minimum((places // FRAME).astype(int), n - 1)
        part = (places / FRAME - frame)[:, None].astype(np.float32)
        last = np.maximum(frame - 1, 0)
        before = np.where((steps[last] > 0)[:, None], harmonic[last], harmonic[frame])
        shaped = basis.responses(0, before * (1 - part) + harmonic[frame] * part)
        whole = np.floor(places).astype(int)
        angles = (places - whole)[:, None] * np.arange(FFT // 2 + 1)[None]
        delay = np.exp(-2j * np.pi / FFT * angles).astype(np.complex64)
        for at, pulse in zip(whole, scipy.fft.irfft(shaped * delay, FFT, axis=1) * weights[:, None], strict=True):
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

"""flite's own description of its speech, before it becomes sound: envelope and voicing 200 times a second.

flite's rms is a parametric voice: it predicts mel-cepstra and how much of each of five bands is voiced, and filters
pulses and noise by them. These tracks, read out of libflite, are what an analysis of its samples could only guess at:
the monotone teacher made of them has 0.104 of the words wrong where one made of the best analysis had 0.127 (README).
Formulas after flite's cst_mlsa.c; the structures are those of flite 2.2 (Debian's libflite1), and are checked.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_void_p

import numpy as np
import vocoder

SPOKEN_HZ, TRACK_HZ = 16_000, 200
LINEAR = 256  # bins of the energy that sharpening keeps
SPEAKER = "cmu_us_rms"  # the one of flite's that is understood best: 9 % of the words wrong, awb 18 %, slt 18 %


class Track(ctypes.Structure):
    _fields_ = [
        ("type", c_void_p), ("num_frames", c_int), ("num_channels", c_int), ("times", POINTER(c_float)),
        ("frames", POINTER(POINTER(c_float))),
    ]  # fmt: skip


class Voice(ctypes.Structure):
    """cst_cg_db; pointers that aren't followed are p, numbers that aren't read are n."""

    _fields_ = [
        ("name", c_char_p), ("p0", c_void_p), ("n0", c_int), ("sample_rate", c_int), ("n1", c_float * 2),
        ("n2", c_int), ("p1", c_void_p), ("n3", c_int), ("p2", c_void_p * 6), ("n4", c_int * 2), ("p3", c_void_p * 4),
        ("n5", c_int), ("frame_advance", c_float), ("n6", c_int), ("p4", c_void_p * 3), ("n7", c_int),
        ("p5", c_void_p), ("n8", c_int), ("alpha", c_float), ("beta", c_float), ("n9", c_int), ("mixed", c_int),
        ("bands", c_int), ("taps", c_int), ("filters", POINTER(POINTER(c_double))), ("n10", c_int), ("gain", c_float),
    ]  # fmt: skip


def _function(library: ctypes.CDLL, name: str, result, *arguments):
    found = getattr(library, name)
    found.restype, found.argtypes = result, arguments
    return found


_flite = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
for _name in ("usenglish", "cmulex"):
    ctypes.CDLL(f"libflite_{_name}.so.1", mode=ctypes.RTLD_GLOBAL)
_function(_flite, "flite_init", c_int)()
_speaker = _function(ctypes.CDLL(f"libflite_{SPEAKER}.so.1"), f"register_{SPEAKER}", c_void_p, c_char_p)(None)
_synth_text = _function(_flite, "flite_synth_text", c_void_p, c_char_p, c_void_p)
_delete_utterance = _function(_flite, "delete_utterance", None, c_void_p)
_feature = _function(_flite, "feat_val", c_void_p, c_void_p, c_char_p)
_track_of = _function(_flite, "val_track", POINTER(Track), c_void_p)
_voice_of = _function(_flite, "val_cg_db", c_void_p, c_void_p)
_smoothed = _function(_flite, "mlpg", POINTER(Track), POINTER(Track), c_void_p)
_delete_track = _function(_flite, "delete_track", None, POINTER(Track))
_relation = _function(_flite, "utt_relation", c_void_p, c_void_p, c_char_p)
_first = _function(_flite, "relation_head", c_void_p, c_void_p)
_next = _function(_flite, "item_next", c_void_p, c_void_p)
_number = _function(_flite, "item_feat_float", c_float, c_void_p, c_char_p)
_string = _function(_flite, "item_feat_string", c_char_p, c_void_p, c_char_p)


def _array(track) -> np.ndarray:
    """(frames, channels)"""
    held = track.contents
    rows = [np.ctypeslib.as_array(held.frames[i], (held.num_channels,)) for i in range(held.num_frames)]
    return np.stack(rows).astype(np.float64)


def _warped(hz: np.ndarray, alpha: float) -> np.ndarray:
    """Hz to radians on the mel-cepstrum's axis."""
    at = 2 * np.pi * hz / SPOKEN_HZ
    return at + 2 * np.arctan(alpha * np.sin(at) / (1 - alpha * np.cos(at)))


def _sharpened(cepstra: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """flite's postfilter: all but the first two coefficients (T, M) of its filter times 1 + beta, at equal energy."""
    filtered = cepstra.copy()
    for k in reversed(range(cepstra.shape[1] - 1)):
        filtered[:, k] = cepstra[:, k] - alpha * filtered[:, k + 1]
    filtered[:, 1] -= beta * alpha * cepstra[:, 2]
    filtered[:, 2:] *= 1 + beta
    sharp = filtered.copy()
    sharp[:, :-1] += alpha * filtered[:, 1:]
    middles = (np.arange(LINEAR) + 0.5) / LINEAR * SPOKEN_HZ / 2
    waves = np.cos(np.outer(np.arange(cepstra.shape[1]), _warped(middles, alpha)))
    energy = [np.exp(2 * each @ waves).mean(1) for each in (cepstra, sharp)]
    sharp[:, 0] += np.log(energy[0] / energy[1]) / 2
    return sharp


def speak(text: str) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Features (T, CEPSTRA + 3) of the text at the end of each frame, and the phones with their end in seconds."""
    utterance = _synth_text(text.encode(), _speaker)
    features = ctypes.cast(utterance, POINTER(c_void_p))[0]
    pointer = _voice_of(_feature(features, b"cg_db"))
    voice = ctypes.cast(pointer, POINTER(Voice)).contents
    if (voice.name, voice.sample_rate, voice.mixed, voice.bands) != (SPEAKER.encode(), SPOKEN_HZ, 1, 5):
        raise RuntimeError("this libflite is laid out otherwise: flite 2.2 is wanted")
    smooth = _smoothed(_track_of(_feature(features, b"param_track")), pointer)
    pitch_and_cepstra = _array(smooth)
    _delete_track(smooth)
    strength = _array(_track_of(_feature(features, b"str_track")))  # (T, 5) amplitude of pulses, a band
    filters = np.stack([np.ctypeslib.as_array(voice.filters[b], (voice.taps,)) for b in range(voice.bands)])
    phones, item = [], _first(_relation(utterance, b"Segment"))
    while item:
        phones.append((_string(item, b"name").decode(), float(_number(item, b"end"))))
        item = _next(item)
    _delete_utterance(utterance)
    return _features(pitch_and_cepstra, strength, filters, voice), phones


def _features(track: np.ndarray, strength: np.ndarray, filters: np.ndarray, voice: Voice) -> np.ndarray:
    """What flite would filter by, as cepstra of the envelope and share of pulses in its power, at 75 Hz."""
    cepstra = _sharpened(np.pad(track[:, 1:], ((0, 0), (0, 1))), voice.alpha, voice.beta)
    waves = np.cos(np.outer(np.arange(cepstra.shape[1]), _warped(vocoder.MEL_HZ, voice.alpha)))
    taps = np.exp(-2j * np.pi * np.outer(vocoder.MEL_HZ / SPOKEN_HZ, np.arange(filters.shape[1])))
    bands = filters @ taps.T  # (5, WARPED)
    pulses = np.abs(strength @ bands) ** 2 * (track[:, :1] > 0)
    noise = np.abs((1 - strength) @ bands) ** 2
    envelope = 20 / np.log(10) * (cepstra @ waves) + 20 * np.log10(voice.gain / 32_768)
    envelope += 10 * np.log10(pulses + noise + 1e-9)  # (T, WARPED) dB
    middles = [np.abs(np.sqrt(low * high) - vocoder.MEL_HZ).argmin() for low, high in vocoder.BANDS_HZ]
    voicing = (pulses / (pulses + noise + 1e-9))[:, middles]
    frames = int(len(track) / TRACK_HZ * vocoder.FRAME_HZ)
    at = (np.arange(frames) + 1) / vocoder.FRAME_HZ * TRACK_HZ
    both = np.concatenate([np.maximum(envelope, vocoder.FLOOR_DB), voicing], 1)
    both = np.stack([np.interp(at, np.arange(len(both)), column) for column in both.T], 1)
    return np.concatenate([vocoder.cepstra(both[:, : vocoder.WARPED]), both[:, vocoder.WARPED :]], 1)

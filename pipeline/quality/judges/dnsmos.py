"""DNSMOS P.835 (Reddy et al. 2022), whose model is in the package speechmos (MIT); run by onnxruntime.

speechmos itself would need librosa. The numbers are those of its `dnsmos.py`.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigError
from pipeline.quality.judges.clip import JUDGE_RATE, HeardClip, Scores

LENGTH = int(9.01 * JUDGE_RATE)  # samples of the model's input; shorter clips are repeated
POLYNOMIALS = {  # from the model's outputs to opinion scores
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovr": (-0.06766283, 1.11546468, 0.04602535),
}


class Dnsmos:
    """Estimated opinion scores, 1 to 5, of speech, background and both."""

    def __init__(self, threads: int):
        import onnxruntime

        spec = find_spec("speechmos")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("speechmos")
        model = Path(spec.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
        if not model.exists():
            raise ConfigError(f"{model}: is missing; install speechmos again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def judge(self, clip: HeardClip) -> Scores:
        samples = clip.for_judges
        if not samples.size:
            return dict.fromkeys(POLYNOMIALS)
        repeated = np.tile(samples, -(-LENGTH // samples.size))
        starts = range(0, max(1, repeated.size - LENGTH + 1), JUDGE_RATE) if samples.size > LENGTH else [0]
        raw = [self.session.run(None, {"input_1": repeated[None, s : s + LENGTH]})[0][0] for s in starts]
        means = np.mean(
            [[np.polyval(p, value) for p, value in zip(POLYNOMIALS.values(), each, strict=True)] for each in raw],
            axis=0,
        )
        return {name: float(value) for name, value in zip(POLYNOMIALS, means, strict=True)}

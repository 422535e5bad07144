"""EnCodec's decoder: codes to samples. The modules are the `encodec` package's own."""

import math
import sys
import types
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from pipeline import spec


@lru_cache
def import_encodec() -> tuple[type[nn.Module], type[nn.Module]]:
    """encodec's decoder and quantizer classes."""
    # encodec 0.1.1 imports torchaudio for file helpers that are never called here, and PyPI's torchaudio does not
    # load beside a CPU-only torch (it looks for CUDA libraries). Where it can't load, an empty module replaces it
    # while encodec is imported, and is removed after that: other packages must see what is really installed.
    placeholder = None
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        for name in [n for n in sys.modules if n.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        placeholder = sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    from encodec.modules import SEANetDecoder
    from encodec.quantization import ResidualVectorQuantizer

    if placeholder is not None:
        del sys.modules["torchaudio"]
    return SEANetDecoder, ResidualVectorQuantizer


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the decoder, under the encodec package's names; the defaults are the 24 kHz model's."""

    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 1
    ratios: tuple[int, ...] = spec.UPSAMPLING_RATIOS
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2
    true_skip: bool = False

    def __post_init__(self) -> None:
        if math.prod(self.ratios) != spec.SAMPLES_PER_FRAME:
            raise ValueError(f"upsampling ratios {self.ratios!r:.80} must multiply to {spec.SAMPLES_PER_FRAME}")


class Codec(nn.Module):
    """The decoder and the first eight codebooks, causal, at 24 kHz."""

    def __init__(self, config: CodecConfig):
        super().__init__()
        seanet, quantizer = import_encodec()
        self.config = config
        self.decoder = seanet(
            dimension=config.dimension,
            n_filters=config.n_filters,
            n_residual_layers=config.n_residual_layers,
            ratios=list(config.ratios),
            kernel_size=config.kernel_size,
            last_kernel_size=config.last_kernel_size,
            residual_kernel_size=config.residual_kernel_size,
            dilation_base=config.dilation_base,
            compress=config.compress,
            lstm=config.lstm,
            true_skip=config.true_skip,
            causal=True,
            norm="none",  # checkpoints hold weight norm as g and v: the loader folds them into plain weights once
        )
        self.quantizer = quantizer(
            dimension=config.dimension, n_q=spec.NUM_CODEBOOKS, bins=spec.CODEBOOK_SIZE, kmeans_init=False
        )

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, Q, F) int64 -> samples (B, N) float32, N = 320 F; not clipped."""
        latent = self.quantizer.decode(codes.transpose(0, 1))  # (B, dimension, F)
        return self.decoder(latent)[:, 0].float()

    @property
    def least_padded(self) -> int:
        """Fewest frames that may be padded on the right without changing the result.

        The decoder is causal but mirrors its first frames, as many as its widest kernel sees; in a shorter input
        the padding would be mirrored, too."""
        return self.config.kernel_size

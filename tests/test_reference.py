"""`BARKERY_KERNELS=reference`, and machines without what the own kernels need: same tokens everywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import Bark, Sampling
from pipeline.bark.build import make_execution_config
from pipeline.engine.kv_cache import KVCache
from pipeline.engine.random import exponential, make_key
from pipeline.errors import ConfigError
from pipeline.kernels.attention_backends import ATTENTION_BACKENDS, attention_available
from pipeline.kernels.autotune import PLAIN_KERNELS
from pipeline.kernels.matmul_backends import MATMUL_BACKENDS, matmul_available

PROJECT = Path(__file__).parent.parent
SETTINGS = {"device": "cpu", "dtype": "float32", "slots": 4, "quantize": None, "width": 768}
TEXTS = ["A first text.", "And a second one, a bit longer than that."]
SAMPLING = [Sampling.greedy(max_semantic_tokens=40), Sampling(max_semantic_tokens=60)]


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARKERY_KERNELS", "reference")


def test_both_paths_generate_the_same_tokens(tiny: Path, bark: Bark, reference: None) -> None:
    plain = Bark.load(tiny, device="cpu", dtype="float32", slots=4)
    assert plain.stages["semantic"].engine.cache._attend_filled is None  # type: ignore[attr-defined]
    assert bark.stages["semantic"].engine.cache._attend_filled is not None  # type: ignore[attr-defined]
    own, torchs = (model.generate(TEXTS, seeds=[3, 4], sampling=SAMPLING) for model in (bark, plain))
    for a, b in zip(own, torchs, strict=True):
        assert a.stop == b.stop and np.array_equal(a.semantic, b.semantic)
        assert np.array_equal(a.coarse, b.coarse) and np.array_equal(a.fine, b.fine)
        np.testing.assert_allclose(a.audio, b.audio, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_attention_of_both_paths_agrees(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"n_layer": 1, "n_head": 3, "head_width": 16, "slots": 4, "positions": 40, "device": torch.device("cpu")}
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(4, 3 * 3 * 16, generator=generator).to(dtype)
    k, v = (torch.randn(3, 30, 16, generator=generator).to(dtype) for _ in range(2))
    results, caches = [], []
    for value in ("", "reference"):
        monkeypatch.setenv("BARKERY_KERNELS", value)
        caches.append(KVCache(**shape, dtype=dtype))  # type: ignore[arg-type]
        for slot in (0, 2, 3):
            caches[-1].write_prompt(0, slot, k, v)
        caches[-1].begin(torch.tensor([30, 0, 12, 39]))
        results.append(caches[-1].attend(0, qkv))
    tolerance = 1e-5 if dtype == torch.float32 else 0.02  # torch's kernel rounds to bfloat16 between its two products
    torch.testing.assert_close(results[0], results[1], atol=tolerance, rtol=tolerance)
    for slot in (0, 2, 3):
        assert torch.equal(caches[0].k[0][slot], caches[1].k[0][slot])
        assert torch.equal(caches[0].v[0][slot], caches[1].v[0][slot])


def test_random_numbers_of_both_paths_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [make_key(i, "stage") for i in range(5)]
    own = exponential(keys, [0, 1, 2, 2**31, 5], 1001)
    monkeypatch.setenv("BARKERY_KERNELS", "reference")
    monkeypatch.setitem(sys.modules, "pipeline.kernels.threefry_cpu", None)
    assert torch.equal(exponential(keys, [0, 1, 2, 2**31, 5], 1001), own)


def test_reference_uses_no_other_backend(reference: None) -> None:
    assert [name for name in MATMUL_BACKENDS if matmul_available(name)] == ["plain"]
    assert [name for name in ATTENTION_BACKENDS if attention_available(name, torch.float32)] == ["plain"]
    assert make_execution_config(**SETTINGS).kernels == PLAIN_KERNELS  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="int8 needs private operators of torch, which BARKERY_KERNELS=reference"):
        make_execution_config(**SETTINGS | {"quantize": "int8"})  # type: ignore[arg-type]


def test_unknown_value_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARKERY_KERNELS", "referense")
    with pytest.raises(ConfigError, match="BARKERY_KERNELS is 'referense': must be 'reference' or not set"):
        Bark.load(tiny, device="cpu")


def test_missing_numba_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ConfigError, match=r"numba is not installed: .*BARKERY_KERNELS=reference"):
        make_execution_config(**SETTINGS)  # type: ignore[arg-type]


# Each removes something from a new process before the project is imported.
WITHOUT = {
    "numba": "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None",
    "GNU OpenMP and mmap flags": """
import mmap, torch  # torch itself imports the flags
del mmap.MAP_PRIVATE, mmap.MAP_ANONYMOUS, mmap.MADV_DONTNEED
import pipeline.kernels.openmp as openmp
openmp.torch_openmp = lambda: None
""",
    "AVX-512": """
from llvmlite import binding
features = binding.get_host_cpu_features()
features["avx512f"] = False
binding.get_host_cpu_features = lambda: features
import pipeline.kernels.jit.tile as tile
assert tile.LANES == 8
""",
}
ENVIRONMENT = {
    "numba": {"BARKERY_KERNELS": "reference"},
    "AVX-512": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}
GENERATE = """
import json, sys
import torch
torch.set_num_threads(1)
from pipeline import Bark, Sampling
from pipeline.bark.build import ExecutionConfig
from pipeline.bark.registry import build_stages
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.cli.main import app
from pipeline.kernels.attention_backends import attention_available
from pipeline.kernels.autotune import KernelConfig
checkpoint = Checkpoint(sys.argv[1])
attend = "tiled" if attention_available("tiled", torch.float32) else "plain"
execution = ExecutionConfig(torch.device("cpu"), torch.float32, 4, KernelConfig(attend=attend))
bark = Bark(build_stages(checkpoint, execution), checkpoint)
(result,) = bark.generate(["A first text."], seeds=[3], sampling=Sampling.greedy(max_semantic_tokens=40))
print(json.dumps([attend, result.fine.tolist()]))
sys.argv = ["barkery", "say", "Hello.", "-o", sys.argv[2], "--seed", "1"]
app()
"""


@pytest.mark.slow
@pytest.mark.parametrize("missing", WITHOUT)
def test_generates_the_same_tokens_and_says_a_text_without(
    missing: str, tiny: Path, bark: Bark, tmp_path: Path
) -> None:
    (expected,) = bark.generate([TEXTS[0]], seeds=[3], sampling=SAMPLING[0])
    own_kernels = {"BARKERY_KERNELS": ""}  # `barkery say` leaves a value that is set
    environment = os.environ | {"PYTHONPATH": str(PROJECT)} | own_kernels | ENVIRONMENT.get(missing, {})
    command = [sys.executable, "-c", WITHOUT[missing] + GENERATE, str(tiny), str(tmp_path / "said.wav")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    attend, fine = json.loads(done.stdout.splitlines()[0])
    assert np.array_equal(fine, expected.fine)
    own = missing == "AVX-512" and attention_available("tiled", torch.float32)
    assert attend == ("tiled" if own else "plain")
    assert (tmp_path / "said.wav").stat().st_size > 10_000


def test_processor_without_known_features_has_no_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.kernels.jit import tile

    def unknown() -> None:
        raise RuntimeError("failed to get host cpu features.")

    monkeypatch.setattr(tile.binding, "get_host_cpu_features", unknown)
    assert not tile.has_avx512()

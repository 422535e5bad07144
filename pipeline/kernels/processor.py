"""The processor's model and instruction sets, which decide the low bits of floating-point results."""

import platform
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Instruction sets that torch, oneDNN, fbgemm or numba choose kernels by, as Linux names them (x86-64, then Arm)
INSTRUCTION_SETS = (
    *("sse4_2", "f16c", "fma", "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


@lru_cache
def cpu_fields() -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo; empty where there is no such file."""
    try:
        lines = CPUINFO.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor_name() -> str:
    """The model name, with family and model number: virtual machines often show a vendor's name alone."""
    fields = cpu_fields()
    name = fields.get("model name") or platform.processor() or platform.machine() or "cpu"
    numbers = [f"{key.removeprefix('cpu ')} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def instruction_sets() -> list[str]:
    """Those of `INSTRUCTION_SETS` that this processor has."""
    fields = cpu_fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return [name for name in INSTRUCTION_SETS if name in flags]

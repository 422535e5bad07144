"""A matrix product small enough to stay in the processor's registers; larger products are made of it.

numba's own loops keep their sums in memory and reach a third of its speed; a library's products can't be called from
within a loop.
"""

from itertools import product
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def has_avx512() -> bool:
    """Whether this processor has AVX-512; False where LLVM can't tell."""
    try:
        return bool(binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:
        return False


# The sums of one row fill VECTORS registers of LANES floats. AVX-512 has 32 registers of 16, AVX2 has 16 of 8.
LANES, VECTORS = (16, 4) if has_avx512() else (8, 2)
ROWS, COLUMNS = 6, LANES * VECTORS

WORD, FLOAT = ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
ZEROS, UNDEFINED = ir.Constant(VECTOR, [0.0] * LANES), ir.Constant(VECTOR, ir.Undefined)
LANE_0 = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)  # a shuffle that repeats a vector's lane 0


@intrinsic
def multiply_tile(_, a, a_stride, b, b_stride, c, c_stride, depth):  # type: ignore[no-untyped-def]
    """a (ROWS, depth) @ b (depth, COLUMNS) -> c (ROWS, COLUMNS), float32, depth at least 1.

    a, b and c are addresses; the strides are floats from row to row. Each sum is taken from first to last, whatever
    the other rows hold.
    """
    return types.void(*[types.int64] * 7), emit_multiply_tile


def emit_multiply_tile(context: Any, build: ir.IRBuilder, _: Any, arguments: list[ir.Value]) -> ir.Value:
    """sums = 0; for k in range(depth): sums[r, n] += a[r, k] * b[k, n]; c = sums, with all of `sums` in registers."""
    a, a_stride, b, b_stride, c, c_stride, depth = arguments
    tile = list(product(range(ROWS), range(VECTORS)))
    before, loop, after = build.block, build.append_basic_block("depth"), build.append_basic_block("store")
    build.branch(loop)

    build.position_at_end(loop)
    k, sums = build.phi(WORD), {place: build.phi(VECTOR) for place in tile}
    right = [build.load(pointer(build, b, b_stride, k, WORD(n * LANES), VECTOR), align=4) for n in range(VECTORS)]
    left = [build.load(pointer(build, a, a_stride, WORD(row), k, FLOAT), align=4) for row in range(ROWS)]
    broadcast = [build.shuffle_vector(build.insert_element(UNDEFINED, x, WORD(0)), UNDEFINED, LANE_0) for x in left]
    fused = ir.FunctionType(VECTOR, [VECTOR] * 3)
    multiply_add = cgutils.get_or_insert_function(build.module, fused, f"llvm.fma.v{LANES}f32")
    new = {(r, n): build.call(multiply_add, (broadcast[r], right[n], sums[r, n])) for r, n in tile}
    following = build.add(k, WORD(1))
    for phi, start, then in [(k, WORD(0), following), *((sums[place], ZEROS, new[place]) for place in tile)]:
        phi.add_incoming(start, before)
        phi.add_incoming(then, loop)
    build.cbranch(build.icmp_signed("<", following, depth), loop, after)

    build.position_at_end(after)
    for r, n in tile:
        build.store(new[r, n], pointer(build, c, c_stride, WORD(r), WORD(n * LANES), VECTOR), align=4)
    return context.get_dummy_value()


def pointer(
    build: ir.IRBuilder, base: ir.Value, stride: ir.Value, row: ir.Value, column: ir.Value, kind: ir.Type
) -> ir.Value:
    """A pointer to the float at (row, column) of a matrix with `stride` floats from row to row."""
    index = build.add(build.mul(stride, row), column)
    return build.inttoptr(build.add(base, build.shl(index, WORD(2))), ir.PointerType(kind))

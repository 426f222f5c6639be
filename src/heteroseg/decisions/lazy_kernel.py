"""Logits of a 1x1 head from features, one classifier at a time, for CPUs: the same bits for a few and for all of them.

Weights lie in tiles of TILE channels, as `lazy.LazyHead` has them. The sums of a tile stay in registers while the
features go by, which compilers do not find by themselves; hence the few lines of LLVM.
"""

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from heteroseg.decisions.lazy_head import TILE

FLOATS = ir.VectorType(ir.FloatType(), TILE)
SUMS = 2  # by features in turn: an addition need not wait for the last one


@intrinsic
def _tile(context, x, weight, bias, out):
    """`out` (TILE,) = bias + x @ weight, of `x` (width,), `weight` (width * TILE,) and `bias` (TILE,), float32.

    In this order: bias + x[0] * weight[0] + x[2] * weight[2] + ..., and the sum of the odd features added in the end.
    Every product and sum is rounded, none is fused or moved.
    """

    def build(context, builder, signature, args):
        arrays = [context.make_array(kind)(context, builder, a) for kind, a in zip(signature.args, args, strict=True)]
        features, weights, biases, result = (a.data for a in arrays)
        width = builder.extract_value(arrays[0].shape, 0)
        number, first = width.type, ir.Constant(FLOATS, ir.Undefined)

        def at(start, index):
            return builder.bitcast(builder.gep(start, [index]), FLOATS.as_pointer())

        sums = [cgutils.alloca_once(builder, FLOATS) for _ in range(SUMS)]
        builder.store(builder.load(at(biases, number(0)), align=4), sums[0])
        builder.store(ir.Constant(FLOATS, [0.0] * TILE), sums[1])

        def add(feature, total):
            one = builder.insert_element(first, builder.load(builder.gep(features, [feature])), ir.IntType(32)(0))
            all_ = builder.shuffle_vector(one, first, ir.Constant(ir.VectorType(ir.IntType(32), TILE), [0] * TILE))
            row = builder.load(at(weights, builder.mul(feature, number(TILE))), align=4)
            builder.store(builder.fadd(builder.load(total), builder.fmul(all_, row)), total)

        even = builder.mul(builder.udiv(width, number(SUMS)), number(SUMS))
        with cgutils.for_range_slice(builder, number(0), even, number(SUMS)) as (feature, _):
            for i, total in enumerate(sums):
                add(builder.add(feature, number(i)), total)
        with cgutils.for_range_slice(builder, even, width, number(1)) as (feature, _):
            add(feature, sums[0])
        builder.store(builder.fadd(*map(builder.load, sums)), at(result, number(0)), align=4)
        return context.get_dummy_value()

    return types.void(x, weight, bias, out), build


@njit(cache=True, nogil=True)
def linear(x, weight, bias, out):
    """Logits `out` (n,) of features `x` (width,), n a multiple of TILE; `weight` (n * width,), `bias` (n,)."""
    step = x.size * TILE
    for q in range(out.size // TILE):
        low, high = q * TILE, (q + 1) * TILE
        _tile(x, weight[q * step : (q + 1) * step], bias[low:high], out[low:high])


@njit(cache=True, nogil=True)
def linear_band(features, start, stop, weight, bias, cuts, places, space, out):
    """All logits: rows start to stop of `features` (h, w, width) to `out` (h, w, C); `space` holds a classifier's."""
    width = features.shape[2]
    for i in range(start, stop):
        for j in range(features.shape[1]):
            for q in range(len(cuts) - 1):
                lo, hi = places[q], places[q + 1]
                linear(features[i, j], weight[lo * width : hi * width], bias[lo:hi], space[: hi - lo])
                out[i, j, cuts[q] : cuts[q + 1]] = space[: cuts[q + 1] - cuts[q]]

"""Ask for memory ahead of its use, where a compiled kernel gathers rows that no cache foresees."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from contrarec.kernels.cpu.compile import njit_serial

_LINE = 64  # bytes that one prefetch loads


@intrinsic
def prefetch(typing_context, array, row, column):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """Start loading the cache line of `array[row, column]`, unchecked; nothing else happens."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = signature.args[0]
        view = context.make_array(kind)(context, builder, arguments[0])
        place = cgutils.get_item_pointer(  # type: ignore[no-untyped-call]
            context, builder, kind, view, arguments[1:], wraparound=False
        )
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        call = builder.module.declare_intrinsic("llvm.prefetch", [byte], shape)
        # to read, to be kept in every cache, data
        builder.call(call, [builder.bitcast(place, byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


@njit_serial
def prefetch_row(array, row):  # type: ignore[no-untyped-def]
    """Start loading a row, unchecked."""
    for k in range(0, array.shape[1], _LINE // array.itemsize):
        prefetch(array, row, k)  # type: ignore[call-arg]

"""Ask for memory ahead of its use, where a compiled kernel gathers rows that no cache foresees."""

from typing import TYPE_CHECKING, Any

from contrarec.kernels.dispatch import HAS_NUMBA, njit_serial

_LINE = 64  # bytes that one prefetch loads

if TYPE_CHECKING or not HAS_NUMBA:

    def prefetch(array: Any, row: int, column: int) -> None:
        """Do nothing: without numba no kernel is compiled. The real one is below."""
else:
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    @intrinsic
    def prefetch(typing_context, array, row, column):  # noqa: ARG001
        """Start loading the cache line of `array[row, column]`, unchecked; nothing else happens."""

        def generate(context, builder, signature, arguments):
            kind = signature.args[0]
            view = context.make_array(kind)(context, builder, arguments[0])
            place = cgutils.get_item_pointer(
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
        prefetch(array, row, k)

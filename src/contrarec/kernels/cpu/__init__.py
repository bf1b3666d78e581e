"""The compiled twins of the kernels for the CPU, one file per operation.

Nothing here is imported before a kernel runs: loading numba takes longer than short commands do.
"""

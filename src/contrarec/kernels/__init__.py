"""Compute kernels, one file per operation: a plain reference, a compiled twin, one public function.

Kernels know tensors and index arrays, never models or data sets. None writes into its inputs, and
every result is the same whatever the number of threads: work is split by output row, so that no
two threads ever add into the same place.
"""

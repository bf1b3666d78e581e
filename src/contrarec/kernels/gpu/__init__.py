"""The Triton twins of the kernels, one file per operation; nothing here is imported without a GPU.

None waits for the device or writes into its inputs, and none adds with atomics: every sum has a
fixed order, so results are the same at every run. They are checked through Triton's interpreter
(`TRITON_INTERPRET=1`, which runs them on CPU tensors) and compiled for real targets by the tests;
they have not yet been run on a GPU.
"""

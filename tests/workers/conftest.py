"""Mends Triton's interpreter, for tests of kernels on machines without a GPU."""

import os

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def matrix_units(request, monkeypatch):
    """Let the interpreter multiply as matrix units do.

    It takes the bits of bfloat16 numbers for integers, and cuts numbers off that are to be rounded to bfloat16; and
    it multiplies by BLAS, where the last bits of a row depend on the row's place in the tile. Matrix units add sixteen
    products at a time.
    """
    if os.environ.get("TRITON_INTERPRET") != "1" or "kernels" not in request.keywords:
        return
    interpreter = pytest.importorskip("triton.runtime.interpreter")

    def floats(operand):
        if operand.dtype.scalar.is_bf16():
            return (operand.data.astype(np.uint32) << 16).view(np.float32)
        return operand.data.astype(np.float32)

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        left, right, total = floats(a), floats(b), d.data
        for k in range(0, left.shape[1], 16):
            total = total + (left[:, k : k + 16, None] * right[None, k : k + 16]).sum(1)
        return interpreter.TensorHandle(total, d.dtype.scalar)

    convert = interpreter._convert_float

    def rounded(data, source, target, mode):
        if (source.name, target.name) != ("fp32", "bf16"):
            return convert(data, source, target, mode)
        return torch.from_numpy(np.array(data, np.float32)).bfloat16().view(torch.uint16).numpy()

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)
    monkeypatch.setattr(interpreter, "_convert_float", rounded)

"""Compile kernels to machine code for GPUs that are not there: the interpreter does not see what a compiler refuses.

Run as a module by test_compile.py, in a process of its own: there the kernels must not be interpreted.
"""

import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tests.workers.attention.paged_setting import layer
from workers.attention.tiling import padded, tile_of
from workers.kernels.choose import choose_block_kernel, choose_row_kernel, score_kernel
from workers.kernels.expert_matmul import expert_linear_kernel
from workers.kernels.matmul import linear_kernel
from workers.kernels.matmul import tile_of as tile_of_weight
from workers.kernels.paged_attention import attend_kernel, merge_kernel
from workers.kernels.rms_norm import add_rms_norm_kernel
from workers.kernels.rotary import rotary_write_kernel
from workers.kernels.silu_mul import silu_mul_kernel


def compile_kernel(kernel, types, constants, capability, **options):
    """Compile for a compute capability, e.g. 90; ``types`` are those of the arguments that are no constants."""
    signature = types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def attention(capability, dtype, torch_dtype, **changes):
    spec = layer(num_query_heads=32, num_kv_heads=8, **{"key_dim": 128, "value_dim": 128} | changes)
    tile = tile_of(spec, torch_dtype)
    common = {
        "GROUP": spec.group,
        "VALUE_DIM": spec.value_dim,
        "VALUE_PAD": padded(spec.value_dim),
        "WINDOW": spec.window or 0,
        "HAS_SINKS": spec.has_sinks,
    }
    tensors = dict.fromkeys(("q", "keys", "values", "sinks", "out"), dtype)
    place = dict.fromkeys(("query_start_loc", "seq_lens", "block_table", "edges"), "*i32")
    partial = dict.fromkeys(("partial_acc", "partial_ml"), "*fp32")
    numbers = dict.fromkeys(
        ("num_rows", "num_splits", "table_stride", "q_token_stride", "q_head_stride", "partial_stride", "kv_heads"),
        "i32",
    )
    floats = dict.fromkeys(("score_scale", "softcap"), "fp32")
    for side_by_side in (False, True):
        compile_kernel(
            attend_kernel,
            tensors | partial | place | numbers | floats,
            {
                **common,
                "PAGE": 16,
                "KEY_DIM": spec.key_dim,
                "KEY_PAD": padded(spec.key_dim),
                "HAS_SOFTCAP": spec.softcap is not None,
                "SIDE_BY_SIDE": side_by_side,
                "BLOCK_M": tile.queries,
                "BLOCK_N": tile.keys,
            },
            capability,
            num_warps=tile.warps,
            num_stages=2,
            enable_fp_fusion=False,
        )
    names = merge_kernel.arg_names
    types = {name: kind for name, kind in (tensors | partial | place | numbers).items() if name in names}
    compile_kernel(merge_kernel, types, {**common, "TILE": 16}, capability, enable_fp_fusion=False)


def small_ones(capability, dtype):
    compile_kernel(
        add_rms_norm_kernel,
        dict.fromkeys(("x", "residual", "weight", "total", "normed"), dtype) | {"x_stride": "i32", "eps": "fp32"},
        {"WIDTH": 4096, "PADDED": 4096, "HAS_RESIDUAL": True},
        capability,
        num_warps=8,
    )
    compile_kernel(
        silu_mul_kernel,
        dict.fromkeys(("gates", "ups", "out"), dtype) | dict.fromkeys(("gate_stride", "up_stride", "width"), "i32"),
        {"BLOCK": 1024},
        capability,
    )
    tensors = dict.fromkeys(("q", "k", "v", "cos", "sin", "q_out", "key_cache", "value_cache"), dtype)
    numbers = dict.fromkeys(("q_stride", "k_stride", "v_stride", "heads", "kv_heads"), "i32")
    widths = {"DIM": 128, "ROTATED": 128, "PADDED": 128}
    compile_kernel(rotary_write_kernel, tensors | {"slots": "*i64"} | numbers, widths, capability, num_warps=1)
    compile_kernel(
        choose_block_kernel,
        {"logits": dtype, "temperature": "*fp32", "seed": "*i64", "position": "*i64"}
        | {"best_scores": "*fp64", "best_ids": "*i64"}
        | {"stride": "i32", "vocab": "i32", "offset": "i32", "greedy_below": "fp32"},
        {"BLOCK": 1024},
        capability,
    )
    compile_kernel(
        score_kernel,
        {"logits": dtype, "temperature": "*fp32", "seed": "*i64", "position": "*i64", "scores": "*fp64"}
        | {"stride": "i32", "vocab": "i32", "offset": "i32", "greedy_below": "fp32"},
        {"BLOCK": 1024},
        capability,
    )
    places = {"best_scores": "*fp64", "best_ids": "*i64", "scores": "*fp64", "ids": "*i64"}
    compile_kernel(choose_row_kernel, places | {"blocks": "i32", "offset": "i32"}, {"PADDED": 128}, capability)


def products(capability, dtype, torch_dtype, columns):
    tile = tile_of_weight(columns, torch_dtype)
    tensors = dict.fromkeys(("x", "weight", "bias", "out"), dtype)
    numbers = dict.fromkeys(("rows", "columns", "inner", "x_stride"), "i32")
    shape = {"ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "HAS_BIAS": False}
    compile_kernel(linear_kernel, tensors | numbers, shape, capability, num_warps=4, num_stages=3)
    del numbers["rows"]
    strides = dict.fromkeys(("expert_stride", "column_stride"), "i32")
    numbers |= strides | {"starts": "*i64", "experts": "i32"}
    shape |= {"EXPERTS": 128, "inner_stride": 1, "HAS_BIAS": True}
    compile_kernel(expert_linear_kernel, tensors | numbers, shape, capability, num_warps=4, num_stages=3)


def main(capability):
    products(capability, "*bf16", torch.bfloat16, 4096)
    products(capability, "*bf16", torch.bfloat16, 128256)
    small_ones(capability, "*bf16")
    attention(capability, "*bf16", torch.bfloat16)
    if capability == 80:
        attention(capability, "*bf16", torch.bfloat16, key_dim=256, value_dim=256, softcap=50.0)
    else:
        attention(capability, "*bf16", torch.bfloat16, key_dim=64, value_dim=64, window=128, has_sinks=True)
        attention(capability, "*fp32", torch.float32, key_dim=64, value_dim=64)


if __name__ == "__main__":
    main(int(sys.argv[1]))

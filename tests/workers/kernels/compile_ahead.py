"""Compile kernels to machine code for GPUs that are not there: the interpreter does not see what a compiler refuses.

Run as a module by test_compile.py, in a process of its own: there the kernels must not be interpreted.
"""

import sys
from itertools import product

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tests.workers.attention.paged_setting import layer
from workers.attention.tiling import padded, tile_of
from workers.kernels.advance_rows import advance_rows_kernel
from workers.kernels.choose import choose_block_kernel, choose_row_kernel
from workers.kernels.expert_matmul import expert_linear_kernel
from workers.kernels.expert_matmul import tile_of as tile_of_experts
from workers.kernels.matmul import linear_kernel, splits_of
from workers.kernels.matmul import tile_of as tile_of_weight
from workers.kernels.paged_attention import attend_kernel
from workers.kernels.rank import rank_block_kernel, rank_row_kernel
from workers.kernels.rms_norm import add_rms_norm_kernel
from workers.kernels.rotary import rotary_write_kernel
from workers.kernels.silu_mul import silu_mul_kernel

SHARED_MEMORY = {80: 163, 89: 99, 90: 227}
"""What a program may have by compute capability, in KiB (CUDA C++ Programming Guide, technical specifications)."""


def compile_kernel(kernel, types, constants, capability, **options):
    """Compile for a compute capability, e.g. 90; ``types`` are those of the arguments that are no constants.

    Everything is taken to be divisible by 16, as it is where operands are copied ahead: that takes the most memory.
    """
    if "OVERLAP" in kernel.arg_names:
        constants = constants | {"OVERLAP": capability >= 90}
        options["launch_pdl"] = capability >= 90
    signature = types | dict.fromkeys(constants, "constexpr")
    numbers = [(i,) for i, name in enumerate(kernel.arg_names) if not types.get(name, "f").startswith("f")]
    divisible = {number: [["tt.divisibility", 16]] for number in numbers}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=divisible)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.metadata.shared <= SHARED_MEMORY[capability] << 10, (kernel, constants, options)
    return compiled


def attention(capability, dtype, torch_dtype, **changes):
    spec = layer(num_query_heads=32, num_kv_heads=8, **{"key_dim": 128, "value_dim": 128} | changes)
    common = {
        "GROUP": spec.group,
        "VALUE_DIM": spec.value_dim,
        "VALUE_PAD": padded(spec.value_dim),
        "WINDOW": spec.window or 0,
        "HAS_SINKS": spec.has_sinks,
    }
    tensors = dict.fromkeys(("q", "keys", "values", "sinks", "out"), dtype)
    place = dict.fromkeys(("query_start_loc", "seq_lens", "block_table", "edges", "counters"), "*i32")
    partial = dict.fromkeys(("partial_acc", "partial_ml"), "*fp32")
    numbers = dict.fromkeys(
        ("num_rows", "num_splits", "table_stride", "q_token_stride", "q_head_stride", "partial_stride", "kv_heads"),
        "i32",
    )
    floats = dict.fromkeys(("score_scale", "softcap"), "fp32")
    for side_by_side, few in product((False, True), repeat=2):
        tile = tile_of(spec, torch_dtype, few=few, room=capability != 89)
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
            num_stages=tile.stages,
            enable_fp_fusion=False,
        )


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
    numbers = dict.fromkeys(
        ("q_stride", "k_stride", "v_stride", "cos_stride", "sin_stride", "heads", "kv_heads"), "i32"
    )
    widths = {"DIM": 128, "ROTATED": 128, "PADDED": 128, "HEADS": 8}
    compile_kernel(rotary_write_kernel, tensors | {"slots": "*i64"} | numbers, widths, capability)


def choices(capability, dtype):
    rows = {"logits": dtype, "temperature": "*fp32", "seed": "*i64", "position": "*i64"}
    place = {"stride": "i32", "vocab": "i32", "greedy_below": "fp32"}
    best = {"best_scores": "*fp64", "best_ids": "*i64"}
    compile_kernel(choose_block_kernel, rows | best | place | {"offset": "i32"}, {"BLOCK": 1024}, capability)
    chosen = {"scores": "*fp64", "ids": "*i64", "blocks": "i32", "offset": "i32"}
    compile_kernel(choose_row_kernel, best | chosen, {"PADDED": 128}, capability)
    best["best_ids"] = "*i32"
    for count in (1, 4):
        compile_kernel(rank_block_kernel, rows | best | place, {"COUNT": count, "BLOCK": 1024}, capability)
        ranked = {"ranked": "*i64", "candidates": "i32"}
        compile_kernel(rank_row_kernel, best | ranked, {"COUNT": count, "PADDED": 128 * count}, capability)


def advancing(capability):
    numbers = ("rows", "token_count", "token_stride", "table_stride", "block_size", "trash_slot")
    fixed = {"lengths": "*i32", "tokens": "*i64", "table": "*i32"} | dict.fromkeys(numbers, "i32")
    for dtype in ("*i32", "*i64"):
        buffers = dict.fromkeys(("ids", "positions", "slots", "last"), dtype)
        compile_kernel(advance_rows_kernel, buffers | fixed, {"BLOCK": 128}, capability)


def products(capability, dtype, torch_dtype, columns):
    tensors = dict.fromkeys(("x", "weight", "bias", "out"), dtype)
    numbers = dict.fromkeys(("columns", "inner", "x_stride"), "i32")
    more = {"partial": "*fp32", "counters": "*i32", "rows": "i32", "share": "i32"}
    for rows in (1, 30, 60, 300, 3000) if capability == 90 else (1, 300):
        tile = tile_of_weight(rows, columns, 4096, torch_dtype, room=capability != 89)
        splits = splits_of(columns, 4096, torch_dtype)[0]
        shape = {"TOKENS": tile.tokens, "FEATURES": tile.features, "DEPTH": tile.depth}
        how = {"SPLITS": splits, "SIDE_BY_SIDE": splits > 1 and rows < 64, "EVEN": True, "ASK_AHEAD": capability >= 90}
        warps = {"num_warps": tile.warps, "num_stages": tile.stages}
        compile_kernel(linear_kernel, tensors | numbers | more, shape | how | {"HAS_BIAS": False}, capability, **warps)
    tile = tile_of_experts(columns, torch_dtype)
    shape = {"ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth}
    strides = dict.fromkeys(("expert_stride", "column_stride"), "i32")
    numbers |= strides | {"starts": "*i64", "experts": "i32"}
    shape |= {"EXPERTS": 128, "inner_stride": 1, "HAS_BIAS": True}
    compile_kernel(expert_linear_kernel, tensors | numbers, shape, capability, num_warps=4, num_stages=3)


def one_kernel_for_steps_of_all_sizes():
    """A kernel that is compiled anew for another alignment makes all requests wait, in the middle of serving.

    In a packed step, tensors begin at any multiple of four bytes; those that depend on its size alone do.
    """
    for kernel, names in (
        (attend_kernel, {"query_start_loc", "seq_lens", "block_table"}),
        (choose_block_kernel, {"temperature", "seed", "position"}),
        (rank_block_kernel, {"temperature", "seed", "position"}),
    ):
        assert names <= {param.name for param in kernel.params if param.do_not_specialize}, kernel


def main(capability):
    one_kernel_for_steps_of_all_sizes()
    products(capability, "*bf16", torch.bfloat16, 4096)
    products(capability, "*bf16", torch.bfloat16, 128256)
    small_ones(capability, "*bf16")
    choices(capability, "*bf16")
    advancing(capability)
    attention(capability, "*bf16", torch.bfloat16)
    if capability != 90:
        attention(capability, "*bf16", torch.bfloat16, key_dim=256, value_dim=256, softcap=50.0)
    else:
        attention(capability, "*bf16", torch.bfloat16, key_dim=64, value_dim=64, window=128, has_sinks=True)
        attention(capability, "*fp32", torch.float32, key_dim=64, value_dim=64)


if __name__ == "__main__":
    main(int(sys.argv[1]))

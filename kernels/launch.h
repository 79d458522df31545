// Every tile and block size. The kernels include this file; build.rs turns each `#define NAME number`
// into a constant of `src/cuda/launch.rs`, so that launch geometry is stated once.
#pragma once

// Threads of a block that works through elements one after another.
#define ELEMENTWISE_THREADS 256

// embed, select_rows, copy_rows: threads of a block; a block does one row.
#define ROW_THREADS 128

// layer_norm: a warp does a row; warps of a block, and channels up to which a row stays in registers.
#define NORM_WARPS 4
#define NORM_CHANNELS 1024

// attention: keys of a stage, of which there are two; query rows of a warp, and most warps of a block.
#define ATTENTION_KEYS 64
#define ATTENTION_ROWS 16
#define ATTENTION_WARPS 4
// Elements after each row in shared memory: rows then begin an odd number of 16-byte units apart, so the
// eight rows of an 8x8 matrix lie in different banks.
#define ATTENTION_PAD 8
// project_and_attend: query rows of a block, and stages of the products that make them.
#define PROJECT_ROWS 64
#define PROJECT_STAGES 3
// attention_plain: a warp does 32 columns of a query; warps of a block.
#define ATTENTION_PLAIN_WARPS 4

// group_norm_silu: threads of a block; pixels a thread reads at a time for statistics, and writes; most
// pieces that images are cut into for statistics, and moments of pieces that can be kept.
#define GROUP_THREADS 256
#define GROUP_READS 4
#define GROUP_WRITES 8
#define GROUP_PIECES 512
#define GROUP_SLOTS 65536

// depthwise: threads of a block, each with four channels of so many neighbouring pixels.
#define DEPTHWISE_THREADS 128
#define DEPTHWISE_COLUMNS 4

// global_response_norm: threads of a block; channels that a block measures, and pixels to which one responds;
// norms that can be kept.
#define RESPONSE_THREADS 256
#define RESPONSE_CHANNELS 32
#define RESPONSE_PIXELS 4
#define RESPONSE_SLOTS 65536

// guide_and_sample: a block does a row. remask: one block does all positions.
#define SAMPLE_THREADS 256
#define REMASK_THREADS 1024
// Bits of a radix select's digits, of which a sort key has three and an index two.
#define SELECT_BITS 11

// nearest_code: latent rows and codes of a block's tile, channels of a stage; a thread compares 4 rows with
// 4 codes. Rows times parts of the codebook whose results can be kept.
#define NEAREST_ROWS 32
#define NEAREST_CODES 128
#define NEAREST_CHANNELS 16
#define NEAREST_SLOTS 65536
// nearest_merge: threads of a block, a row each.
#define NEAREST_MERGE_THREADS 64

// linear, conv2d: threads of a block, and the depth in bf16 of a stage: rows of 128 bytes in shared memory.
#define GEMM_THREADS 128
#define GEMM_DEPTH 64
// linear: f32 sums of parts, and tiles, that are kept where blocks share tiles; rows of tiles whose arrival is
// counted.
#define GEMM_PART_SLOTS 2097152
#define GEMM_TILE_SLOTS 4096
#define GEMM_ROW_SLOTS 1024
// linear: what becomes of a sum, and activate: of an element. Stored as it is, GELU, added to what is there,
// SiLU, QuickGELU; values times GELU of gates, of which so many stand together.
#define MODE_STORE 0
#define MODE_GELU 1
#define MODE_ADD 2
#define MODE_SILU 3
#define MODE_QUICK_GELU 4
#define MODE_GEGLU 5
#define GEMM_GATE 16
// Rows, columns and stages of the small, middle and large tiles.
#define GEMM_SMALL_M 32
#define GEMM_SMALL_N 64
#define GEMM_SMALL_STAGES 4
#define GEMM_MIDDLE_M 64
#define GEMM_MIDDLE_N 64
#define GEMM_MIDDLE_STAGES 3
#define GEMM_LARGE_M 128
#define GEMM_LARGE_N 128
#define GEMM_LARGE_STAGES 3

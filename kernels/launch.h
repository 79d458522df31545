// Every tile and block size. The kernels include this file; build.rs turns each `#define NAME number`
// into a constant of `src/cuda/launch.rs`, so that launch geometry is stated once.
#pragma once

// Threads of a block that works through elements one after another.
#define ELEMENTWISE_THREADS 256

// embed, select_rows, copy_rows: threads of a block; a block does one row.
#define ROW_THREADS 128

// layer_norm: a warp does a row; warps of a block.
#define NORM_WARPS 4

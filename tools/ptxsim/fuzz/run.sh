#!/usr/bin/env bash
# Fuzzes the PTX front end for SECONDS (60 unless given): tools/ptxsim/fuzz/run.sh [SECONDS] [SEED]
#
# The same seed tries the same inputs, as far as the time reaches; another looks elsewhere.
# Needs cargo and a C++ compiler (libFuzzer itself), no nightly and no cargo-fuzz: coverage
# instrumentation is a pass of stable rustc's LLVM. The seeds are the tests' PTX. A failing input stays
# in artifacts/; repeat it with: target/HOST/debug/ptx artifacts/ptx-crash-…
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
seed=${2:-1}
host=$(rustc -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-target}

RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --locked --target "$host" --target-dir "$folder"

mkdir -p artifacts corpus
if "$folder/$host/debug/ptx" corpus ../tests/ptx \
    -seed="$seed" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 \
    -dict=ptx.dict -artifact_prefix=artifacts/ptx- -print_final_stats=1 >artifacts/log 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' artifacts/log)
    echo "ptx: $runs inputs in $seconds s, no failure"
else
    echo "ptx: FAILED; the end of artifacts/log:" >&2
    tail -n 40 artifacts/log >&2
    exit 1
fi

#!/usr/bin/env bash
# Fuzzes every target for SECONDS (60 unless given), both at once: fuzz/run.sh [SECONDS] [SEED]
#
# The same seed tries the same inputs, as far as the time reaches; another looks elsewhere.
# Needs cargo and a C++ compiler (libFuzzer itself), no nightly and no cargo-fuzz: coverage
# instrumentation is a pass of stable rustc's LLVM. A failing input stays in fuzz/artifacts;
# repeat it with: fuzz/target/HOST/debug/TARGET fuzz/artifacts/TARGET-crash-…
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
seed=${2:-1}
host=$(rustc -vV | sed -n 's/^host: //p')

RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --locked --target "$host" --target-dir target

mkdir -p artifacts
declare -A running
for target in checkpoint request; do
    mkdir -p "corpus/$target"
    "target/$host/debug/$target" "corpus/$target" "seeds/$target" \
        -seed="$seed" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 \
        -dict=json.dict -artifact_prefix="artifacts/$target-" -print_final_stats=1 \
        >"artifacts/$target.log" 2>&1 &
    running[$target]=$!
done
failed=0
for target in "${!running[@]}"; do
    if wait "${running[$target]}"; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$target.log")
        echo "$target: $runs inputs in $seconds s, no failure"
    else
        failed=1
        echo "$target: FAILED; the end of fuzz/artifacts/$target.log:" >&2
        tail -n 40 "artifacts/$target.log" >&2
    fi
done
exit $failed

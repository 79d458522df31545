#!/usr/bin/env bash
# Measures this machine into benches/results/NAME and writes its RESULTS.md. Run it while nothing else runs; the first run
# sets the peers up below target/peers:
#   benches/results/measure.sh NAME
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=benches/results/${1:?the name of this kind of machine}
cargo build --release --locked --bin muse-bench
bench() { target/release/muse-bench "$@"; }
mkdir -p "$folder"
bench roofline --json "$folder/roofline.json"
bench step --iterations 20 --json "$folder/step.json"
bench step --iterations 20 --json "$folder/step-again.json"
bench image --iterations 20 --json "$folder/image.json"
bench ops --iterations 20 --json "$folder/ops.json"
bench sweep --over-dtypes f32,bf16,int8 --over-threads 1,2 --json "$folder/sweep.json"
bench sweep --over-batch 1,2,4,8 --json "$folder/sweep-batch.json"
for shape in amused-256 amused-512 muse-632m muse-superres muse-3b; do
    bench image --shape "$shape" --steps 2 --iterations 1 --json "$folder/$shape.json"
done
bench peers --threads 2 --starts 3 --json "$folder/peers-demo.json"
# Whole images of twelve steps take a quarter of an hour; in f32, where they take twice as long, two steps say enough.
bench peers --shape amused-256 --threads 2 --dtypes bf16,int8 --starts 3 --json "$folder/peers-amused-256.json"
bench peers --shape amused-256 --threads 2 --dtypes f32 --steps 2 --starts 0 --json "$folder/peers-amused-256-f32.json"
bench report "$folder"/*.json -o "$folder/RESULTS.md"

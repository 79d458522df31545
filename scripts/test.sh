#!/usr/bin/env bash
# Every test there is. Needs Rust, a C++ compiler and Python 3.10 with pip; installs what else it uses below target/.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_INCREMENTAL=0 # every crate is built once here: state for the next build would only take disk
step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

step "the CUDA compiler, for the kernels and the simulator's fixtures"
python3 tools/ptxsim/scripts/nvrtc.py fetch --into target/nvrtc

step "CLIP's vocabulary, for its tokenizer"
python3 scripts/clip_vocabulary.py --into target/clip

step "formatting and lints"
cargo fmt --all --check
cargo clippy --workspace --all-targets --all-features --locked -- --deny warnings

step "tests, debug build"
cargo test --workspace --all-features --locked

step "CLIP's tokenizer against transformers'"
cargo test --workspace --all-features --locked --test clip_vocabulary

step "the C interface under valgrind"
./scripts/valgrind.sh
cargo test --workspace --all-features --locked --test valgrind

step "the studio's page in Chromium"
./scripts/studio.sh

step "the kernels on other GPU generations, under other schedules"
for machine in a100:1 rtx4090:2 rtx5090:3 h100:4; do
    PTXSIM_DEVICE=${machine%:*} PTXSIM_SEED=${machine#*:} cargo test --workspace --all-features --locked --test ops
done

step "the same image bytes in debug and release, on one and two threads"
cargo build --release --locked -p muse -p muse-python -p fixtures # in one graph: the wheel takes the same builds
images=$(mktemp -d)
trap 'rm -rf "$images"' EXIT
reference=
for build in debug release; do
    for threads in 1 2; do
        image=$images/$build-$threads.png
        "target/$build/muse" generate "a frog above two stars at night" --seed 5 --device cpu --threads $threads -o "$image"
        reference=${reference:-$image}
        cmp "$reference" "$image"
    done
done

step "the Python package"
./scripts/python.sh

step "documentation"
RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --all-features --locked --quiet

step "fuzz targets, 15 s each"
./fuzz/run.sh 15
./tools/ptxsim/fuzz/run.sh 15

step "all passed"

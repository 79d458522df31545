#!/usr/bin/env bash
# Compiles kernels/*.cu anew and puts the PTX where it is committed, compressed: kernels/ptx.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 tools/ptxsim/scripts/nvrtc.py fetch --into target/nvrtc
touch kernels/launch.h
cargo build --lib
newest=$(ls -td "${CARGO_TARGET_DIR:-target}"/debug/build/muse-*/out/kernels.rs | head -1)
mkdir -p kernels/ptx
rm -f kernels/ptx/*
cp "$(dirname "$newest")"/committed/*.ptx kernels/ptx/
gzip --best --no-name kernels/ptx/*.ptx
ls -l kernels/ptx

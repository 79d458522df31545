#!/usr/bin/env bash
# The Python package: a wheel, and its tests against the program. Makes an environment below target/.
set -euo pipefail
cd "$(dirname "$0")/.."
python=target/python/bin/python
[ -x "$python" ] || python3 -m venv target/python
"$python" -m pip install --quiet "maturin>=1.9,<2" numpy pillow pytest mypy
# In one graph, so that the wheel takes the same builds of what they share.
cargo build --release --locked -p muse -p muse-python -p fixtures
rm -rf target/python/wheels
target/python/bin/maturin build --quiet --release --locked --target-dir target --out target/python/wheels
"$python" -m pip install --quiet --force-reinstall --no-deps target/python/wheels/muse-*.whl
"$python" -m pytest -q -p no:cacheprovider bindings/python/tests

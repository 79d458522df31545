#!/usr/bin/env bash
# The example on a local Ray cluster of two workers, one of which is killed. After scripts/python.sh, whose wheel it takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=target/ray/bin/python
[ -x "$python" ] || python3 -m venv target/ray
"$python" -m pip install --quiet "ray[data]>=2.60,<3" pytest
"$python" -m pip install --quiet --force-reinstall --no-deps target/python/wheels/muse-*.whl
"$python" -m pytest -q -s -p no:cacheprovider examples/ray

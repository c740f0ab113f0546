#!/usr/bin/env bash
# The import rules of pyproject.toml, checked on the sources rather than on what was built of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec ./ws run env PYTHONPATH="$(printf '%s:' "$PWD"/src/*/)" lint-imports --no-logo

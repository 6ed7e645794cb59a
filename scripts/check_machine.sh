#!/bin/sh
# Finds a Python that is new enough and prints its name; says what is missing otherwise.
set -u
missing=""
python=""
for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || missing="$missing
  Python 3.11 or newer, with venv (Debian: apt-get install python3 python3-venv)"
node_major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
[ "$node_major" -ge 20 ] || missing="$missing
  Node.js 20 or newer, with npm"
command -v npm >/dev/null 2>&1 || missing="$missing
  npm"
if [ -n "$missing" ]; then
    printf 'error: this machine lacks what flagedge is built with:%s\n' "$missing" >&2
    exit 1
fi
echo "$python"

#!/bin/sh
# Makes a Python environment with exactly what a requirements file lists, as `raas helper publish` installs it for one with
# the line `# raas: no-deps`. Usage: venv.sh DIR REQUIREMENTS. What is there from the same file stays.
set -eu

dir=$1
requirements=$2
if cmp -s "$requirements" "$dir/requirements.txt"; then
    exit 0
fi
rm -rf "$dir"
if ! /usr/bin/python3 -m venv "$dir" 2>/dev/null; then
    # Debian keeps ensurepip in a package of its own; another pip does as well.
    rm -rf "$dir"
    /usr/bin/python3 -m venv --without-pip "$dir"
fi
pip="$dir/bin/python -m pip"
$pip --version >/dev/null 2>&1 || pip="/usr/bin/python3 -m pip --python $dir/bin/python"
$pip install --quiet --disable-pip-version-check --no-deps -r "$requirements"
cp "$requirements" "$dir/requirements.txt"

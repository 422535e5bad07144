#!/usr/bin/env bash
# Resolve requirements*.in to exact versions of all packages, transitive ones too, for Python 3.11 and newer (`make lock`).
# Versions that are locked already stay unless they must change; with --upgrade all move to the newest.
#
# torch's CUDA build requires CUDA packages, its CPU build does not, and pip decides which build it gets. So CUDA packages
# are constraints: pinned if they are installed, and not installed if nothing requires them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cuda='^(cuda|nvidia|triton)[a-z0-9-]*=='

compile() { # NAME, more arguments of uv: requirements NAME.in -> $work/NAME.txt
    name=$1
    shift
    cat "$name.txt" requirements-cuda.txt 2> /dev/null | grep -E '^[A-Za-z0-9_.-]+==' > "$work/$name.txt" || true
    "$uv" pip compile --quiet --no-config --system-certs --universal --python-version 3.11 --no-header --annotation-style line \
        "$name.in" --output-file "$work/$name.txt" "$@" > /dev/null
}

header() { echo "# Made from $1 by \`make lock\`: do not edit."; }

compile requirements "$@"
compile requirements-dev --constraint "$work/requirements.txt"
{
    header requirements.in
    grep -E "$cuda" "$work/requirements.txt"
} > "$work/cuda"
for name in requirements requirements-dev; do
    {
        header "$name.in"
        echo "-c requirements-cuda.txt"
        grep -vE "$cuda" "$work/$name.txt" | sed "s#-c $work/requirements.txt, ##; s#, -c $work/requirements.txt##"
    } > "$work/$name.new"
done
mv "$work/requirements.new" requirements.txt
mv "$work/requirements-dev.new" requirements-dev.txt
mv "$work/cuda" requirements-cuda.txt

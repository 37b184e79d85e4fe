#!/bin/sh
# Runs the commits whose outcome is unknown, and writes result.json: run.sh COUNT SEED.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cargo build --release --workspace --example unknown_outcomes
report=$(target/release/examples/unknown_outcomes "$PWD/.refold/unknown-outcomes" "$1" "$2")
rm -rf "$PWD/.refold/unknown-outcomes"
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory=$(awk '$1 == "MemTotal:" { print int($2 / 1048576) }' /proc/meminfo)
machine="$(nproc) cores of $cpu, $memory GiB"
revision=$(git -C "$here" rev-parse --short=12 HEAD)
printf '%s,"machine":"%s","revision":"%s"}\n' "${report%\}}" "$machine" "$revision" |
    tee "$here/result.json"

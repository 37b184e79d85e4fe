#!/bin/sh
# Fuzzes the unpacker of the raw reader, measures the line coverage of its
# tests, and writes both to result.json: run.sh INPUTS SEED.
# Needs `rustup component add llvm-tools`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
coverage=$PWD/target/coverage
tools=$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin

rm -rf "$coverage/profiles"
tests=$(
    export CARGO_TARGET_DIR="$coverage" RUSTC_WORKSPACE_WRAPPER="$here/instrument.sh"
    export LLVM_PROFILE_FILE="$coverage/profiles/%p-%m.profraw"
    cargo test --quiet -p refold-source-kafka --lib raw:: >&2
    cargo test --quiet -p refold-source-kafka --test unpack >&2
    cargo test --no-run --quiet --message-format json -p refold-source-kafka --lib --test unpack |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
)
"$tools/llvm-profdata" merge -sparse "$coverage"/profiles/*.profraw -o "$coverage/merged.profdata"
# Its first binary has no option before it.
objects=$(for test in $tests; do printf '%s ' "${object-}" "$test"; object=-object; done)
# The sources of the unpacker alone; unit tests inside them count as lines too.
sources=$(cd "$here/../../.." && find "$PWD/actors/source-kafka/src/raw/unpack" -name '*.rs')
# shellcheck disable=SC2086
"$tools/llvm-cov" report $objects -instr-profile "$coverage/merged.profdata" $sources |
    tee "$here/coverage.txt" >&2
percent=$(awk '$1 == "TOTAL" { sub("%", "", $10); print $10 }' "$here/coverage.txt")

report=$(cargo run --release --quiet -p refold-source-kafka --example unpack_fuzz -- "$1" "$2" | tail -n 1)
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory=$(awk '$1 == "MemTotal:" { print int($2 / 1048576) }' /proc/meminfo)
machine="$(nproc) cores of $cpu, $memory GiB"
revision=$(git -C "$here" rev-parse --short=12 HEAD)
printf '%s,"line_coverage_percent":%s,"machine":"%s","revision":"%s"}\n' \
    "${report%\}}" "$percent" "$machine" "$revision" | tee "$here/result.json"

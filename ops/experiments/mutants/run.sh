#!/bin/sh
# Changes the pure core and the projection crate in one place after the other, looks whether a test
# notices, and writes the count to result.json and what was not noticed to missed.txt.
# run.sh [--shard K/N]: a share of the mutants. Ended and started again it goes on: what was
# noticed is not tried again. Needs neither broker nor database; takes hours on two cores.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=$PWD/target/cargo-mutants
out=$PWD/target/mutants
[ -x "$tools/bin/cargo-mutants" ] ||
    cargo install --quiet cargo-mutants --version 27.1.0 --locked --root "$tools"
# Building is most of the work.
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=none
mkdir -p "$out"
# 2: some were not noticed; 3: some tests did not end. A machine that does other things besides is
# slow, and that must not count as a test that does not end: the tests take seconds, not minutes.
"$tools/bin/cargo-mutants" mutants -p refold-domain -p refold-projection \
    --iterate --no-shuffle --jobs 2 --minimum-test-timeout 90 --output "$out" "$@" >&2 ||
    [ $? -le 3 ]
cd "$out/mutants.out"
count() { cat "$@" 2>/dev/null | wc -l; }
caught=$(count caught.txt previously_caught.txt)
timeouts=$(count timeout.txt)
missed=$(count missed.txt)
unviable=$(count unviable.txt)
cat missed.txt timeout.txt > "$here/missed.txt"
tested=$((caught + timeouts + missed))
percent=$(awk "BEGIN { print 100 * ($caught + $timeouts) / $tested }")
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
revision=$(git -C "$here" rev-parse --short=12 HEAD)
printf '{"schema":"refold.mutants/1","mutants":%s,"caught":%s,"timeouts":%s,"missed":%s,"unviable":%s,"caught_percent":%s,"machine":"%s cores of %s","revision":"%s"}\n' \
    $tested "$caught" "$timeouts" "$missed" "$unviable" "$percent" "$(nproc)" "$cpu" "$revision" |
    tee "$here/result.json"

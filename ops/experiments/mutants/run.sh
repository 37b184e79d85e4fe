#!/bin/sh
# Changes the pure core and the projection crate in one place after the other, looks whether a test
# notices, and writes the count to result.json and what was not noticed to missed.txt.
# run.sh [--shard K/N]: a share of the mutants. Ended and started again it goes on: what was
# noticed is not tried again. Needs neither broker nor database; takes an hour on two cores.
# JOBS (2) are tried at once. The tests take 2 s; one that goes on for SECONDS_AT_LEAST (30) counts
# as one that does not end, so a machine that does other things besides needs more.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=$PWD/target/cargo-mutants
out=$PWD/target/mutants
[ -x "$tools/bin/cargo-mutants" ] ||
    cargo install --quiet cargo-mutants --version 27.1.0 --locked --root "$tools"
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=none
mkdir -p "$out"
# The tool counts what did not compile among what was noticed before, so the lists are kept here.
keep() {
    for list in caught unviable timeout; do
        cat "$out/$list.txt" "$out/mutants.out/$list.txt" 2>/dev/null | sort -u > "$out/$list.new" || true
        mv "$out/$list.new" "$out/$list.txt"
    done
}
# Tries what was not noticed yet, with so many cases a property. A test that did not end has
# noticed; it is not waited for again (remove target/mutants/timeout.txt to do so).
try() {
    keep
    mkdir -p "$out/mutants.out"
    cat "$out/timeout.txt" >> "$out/mutants.out/previously_caught.txt"
    cases=$1
    shift
    # 2: some were not noticed; 3: some tests did not end.
    PROPTEST_CASES=$cases "$tools/bin/cargo-mutants" mutants -p refold-domain -p refold-projection \
        --iterate --no-shuffle --jobs "${JOBS:-2}" --minimum-test-timeout "${SECONDS_AT_LEAST:-30}" \
        --output "$out" "$@" >&2 || [ $? -le 3 ]
    keep
}
# Running the tests is most of the work: at first with few cases a property, which can only miss
# more; then what was missed with as many as the tests always have.
try 32 "$@"
try 256 "$@"
count() { cat "$@" 2>/dev/null | wc -l; }
"$tools/bin/cargo-mutants" mutants -p refold-domain -p refold-projection --list "$@" > "$out/listed.txt"
listed=$(count "$out/listed.txt")
# Of what was tried on earlier sources, only what is still there.
caught=$(grep -cFxf "$out/listed.txt" "$out/caught.txt" || true)
unviable=$(grep -cFxf "$out/listed.txt" "$out/unviable.txt" || true)
timeouts=$(grep -cFxf "$out/listed.txt" "$out/timeout.txt" || true)
missed=$(count "$out/mutants.out/missed.txt")
cp "$out/mutants.out/missed.txt" "$here/missed.txt"
tested=$((caught + timeouts + missed))
percent=$(awk "BEGIN { print 100 * ($caught + $timeouts) / $tested }")
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
revision=$(git -C "$here" rev-parse --short=12 HEAD)
printf '{"schema":"refold.mutants/2","listed":%s,"mutants":%s,"caught":%s,"timeouts":%s,"missed":%s,"unviable":%s,"caught_percent":%s,"machine":"%s cores of %s","revision":"%s"}\n' \
    "$listed" $tested "$caught" "$timeouts" "$missed" "$unviable" "$percent" "$(nproc)" "$cpu" "$revision" |
    tee "$here/result.json"

#!/bin/sh
# Fifty writers and eight readers of an event table, and writes result.json: run.sh ROWS.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
test=of_fifty_writers_at_once_every_committed_event_is_delivered_once_and_in_order
report=$(REFOLD_EVENTS=$1 cargo test --package refold-source-postgres --test events "$test" -- --nocapture |
    grep '^{"schema"')
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory=$(awk '$1 == "MemTotal:" { print int($2 / 1048576) }' /proc/meminfo)
machine="$(nproc) cores of $cpu, $memory GiB"
revision=$(git -C "$here" rev-parse --short=12 HEAD)
printf '%s,"machine":"%s","revision":"%s"}\n' "${report%\}}" "$machine" "$revision" |
    tee "$here/result.json"

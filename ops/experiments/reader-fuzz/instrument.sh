#!/bin/sh
# Compiles the workspace's own crates with coverage counters; cargo calls it
# as RUSTC_WORKSPACE_WRAPPER, so that dependencies are not built again.
exec "$@" -C instrument-coverage

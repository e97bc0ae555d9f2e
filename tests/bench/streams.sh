#!/bin/sh
# Measures streams: 1 GiB through ctr, through podman, and through the same pipe without an engine, in
# turn, round after round, and prints medians and ratios as a table for the README. By root (or with
# sudo); needs what `sh tests/setup.sh --bench` installs, and python3. Nothing here passes or fails.
#
#   sh tests/bench/streams.sh [WHAT…]   run, exec, log; all of them unless named
#   CTR_BIN=path/to/ctr                 measure this binary instead of the release build
#   CTR_BENCH_ROUNDS=7                  how often each number is taken
#   CTR_BENCH_MIB=1024                  how much goes through
#
# The file that is read and the one that is written lie in memory (/dev/shm). Each number is from the
# start of the command to its end: a container's start is in it. Docker needs a daemon and has no place
# here.
set -eu
# shellcheck source=tests/bench/prepare.sh
. "$(dirname "$0")/prepare.sh"

apart -m /usr/bin/env python3 tests/bench/streams.py "$@"

#!/bin/sh
# Measures how files get into and out of containers: ctr beside podman, and beside cp(1) and tar(1) on
# the host where there is such a thing, in turn, round after round; medians and ratios as tables for
# the README. By root (or with sudo); needs what `sh tests/setup.sh --bench` installs, python3, and
# 10 GB of disk. Nothing here passes or fails.
#
#   sh tests/bench/files.sh             all of it
#   CTR_BIN=path/to/ctr                 measure this binary instead of the release build
#   CTR_BENCH_ROUNDS=5                  how often each number is taken
#   CTR_BENCH_MEGABYTES=1024            how large the large file is
set -eu
# shellcheck source=tests/bench/prepare.sh
. "$(dirname "$0")/prepare.sh"

export CTR_BENCH_ROUNDS="${CTR_BENCH_ROUNDS-5}"
apart -m /usr/bin/env python3 tests/bench/files.py

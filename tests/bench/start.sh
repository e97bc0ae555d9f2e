#!/bin/sh
# Times ctr beside podman, bwrap, crun and nsenter, all in one run, command by command in turn, and
# prints medians and ratios as tables for the README. By root (or with sudo); needs what
# `sh tests/setup.sh --bench` installs, and python3. Nothing here passes or fails.
#
#   sh tests/bench/start.sh [WHAT…]     run, exec, ps, many, memory; all of them unless named
#   CTR_BIN=path/to/ctr                 time this binary instead of the release build
#   CTR_BENCH_ROUNDS=40                 how often each command is timed
set -eu
# shellcheck source=tests/bench/prepare.sh
. "$(dirname "$0")/prepare.sh"

apart -m /usr/bin/env python3 tests/bench/bench.py "$@"

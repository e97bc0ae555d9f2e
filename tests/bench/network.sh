#!/bin/sh
# Measures networks: ctr beside podman with netavark (root), and beside pasta and slirp4netns
# (rootless), each way in turn, round after round, and prints medians and ratios as a table for the
# README. By root (or with sudo); needs what `sh tests/setup.sh --bench` installs, and python3.
# Nothing here passes or fails. It takes some four minutes, in a network namespace of its own: the
# machine's interfaces and rules are neither used nor touched.
#
#   sh tests/bench/network.sh           all of it
#   CTR_BIN=path/to/ctr                 measure this binary instead of the release build
#   CTR_BENCH_ROUNDS=3                  how often each number is taken
#   CTR_BENCH_SECONDS=0.5               how long each transfer takes
#
# Debian's podman is too old to know `--network pasta`: pasta is started here beside a container of
# podman's that has no network, as later versions do it. Docker needs a daemon and has no place here;
# its bridge is the kernel's, as podman's is.
set -eu
# shellcheck source=tests/bench/prepare.sh
. "$(dirname "$0")/prepare.sh"

apart -mn /usr/bin/env python3 tests/bench/network.py "$@"

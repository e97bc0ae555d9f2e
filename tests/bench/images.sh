#!/bin/sh
# Measures how images come, go and are listed: ctr beside podman, skopeo and what a line of shell does
# (curl, gzip or zstd, tar, all layers at once), from a registry on the same machine, in turn, round
# after round; medians and ratios as tables for the README. By root (or with sudo); needs what
# `sh tests/setup.sh --bench` installs, python3, and 20 GB of disk. Nothing here passes or fails.
#
#   sh tests/bench/images.sh [WHAT…]    pull, update, push, archives, list; all of them unless named
#   CTR_BIN=path/to/ctr                 measure this binary instead of the release build
#   CTR_BENCH_ROUNDS=5                  how often each number is taken
#   CTR_BENCH_IMAGES="gzip1 zstd8"      only these: how they are compressed, and into how many layers
#   CTR_BENCH_MEGABYTES=400             how large the images are, before they are compressed
set -eu
# shellcheck source=tests/bench/prepare.sh
. "$(dirname "$0")/prepare.sh"

export CTR_BENCH_ROUNDS="${CTR_BENCH_ROUNDS-5}"
apart -m /usr/bin/env python3 tests/bench/images.py "$@"

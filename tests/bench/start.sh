#!/bin/sh
# Times ctr beside podman, bwrap, crun and nsenter, all in one run, command by command in turn, and
# prints medians and ratios as tables for the README. By root (or with sudo); needs what
# `sh tests/setup.sh --tests` installs, and python3. Nothing here passes or fails.
#
#   sh tests/bench/start.sh [WHAT…]     run, exec, ps, pull, many, memory; all of them unless named
#   CTR_BIN=path/to/ctr                 time this binary instead of the release build
#   CTR_BENCH_ROUNDS=40                 how often each command is timed
set -eu
cd "$(dirname "$0")/../.."

if [ -z "${CTR_BIN-}" ]; then
	cargo build --locked --release >&2
	CTR_BIN=$(cargo build --locked --release --message-format json 2>/dev/null |
		sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
fi
export CTR_BIN
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=CTR_BIN,CTR_BENCH_ROUNDS sh "$0" "$@"

work=$(mktemp -d /var/tmp/ctr-bench-XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
export CTR_BENCH_DIR="$work"

# Podman of this age takes a machine with both versions of cgroups for one with v2 alone, wants
# shared mounts when rootless, and raises limits that root may not raise in a container.
cat >"$work/containers.conf" <<END
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END
chmod 644 "$work/containers.conf"
export CONTAINERS_CONF="$work/containers.conf"

# shellcheck disable=SC2016 # for the inner shell
unshare -m sh -c '
	mount --make-rshared /
	! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
	exec /usr/bin/env python3 tests/bench/bench.py "$@"
' sh "$@"

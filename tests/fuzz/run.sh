#!/bin/sh
# Feeds what reads hostile bytes with hostile bytes: each target for ten minutes, one after the other.
# Needs rustup's nightly toolchain and `cargo install cargo-fuzz`. Run it as an ordinary user, or where
# nothing can be lost: what is looked for are paths that lead out of a folder.
#
#   sh tests/fuzz/run.sh [SECONDS [TARGET…]]
#
# What is found lies in tests/fuzz/target/artifacts/TARGET; the inputs that reach further than the seeds
# are kept in tests/fuzz/target/corpus/TARGET for the next time.
set -eu
cd "$(dirname "$0")"
seconds=${1-600}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- reference manifest config layer archive registries policy
# What the applier makes goes to memory.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
export LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH="${LIBSECCOMP_LIB_PATH-/usr/lib/$(uname -m)-linux-gnu}"
for target; do
	mkdir -p "target/corpus/$target" "target/artifacts/$target"
	echo "== $target, $seconds seconds"
	cargo +nightly fuzz run --fuzz-dir . "$target" "target/corpus/$target" "seeds/$target" -- \
		-max_total_time="$seconds" -max_len=65536 -rss_limit_mb=1024 -timeout=20 -print_final_stats=1 \
		-artifact_prefix="target/artifacts/$target/"
done

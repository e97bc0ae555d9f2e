#!/bin/sh
# Tests ctr where most of its users are: systemd, cgroup v2, login sessions; on Debian's stable kernel,
# and the main path on the one before. See README.md beside it.
#
#   sh tests/vm/test.sh [path/to/ctr]     default: $CTR_BIN, or the release build
#
# A line for each check, and at the end `N passed, N failed`.
set -u
ctr=$(readlink -f "${1-${CTR_BIN-}}")
cd "$(dirname "$0")" || exit
[ -n "$ctr" ] || ctr=$(find ../../target -path '*/release/ctr' -type f | head -n 1)
[ -x "$ctr" ] || {
	echo "test.sh: there is no binary to test: build with cargo build --release" >&2
	exit 2
}
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
chmod 755 "$share"
cp "$ctr" "$share/ctr"
cp guest.sh "$share/"

# guest SUITE USER PART
guest() {
	echo "== $1, as $2: $3"
	# Outside of a pipeline its exit code would be lost, and in a subshell the counts.
	./run-in-vm --suite "$1" --user "$2" --share "$share" -- sh /mnt/share/guest.sh /mnt/share "$3" >"$share/out" 2>"$share/err"
	code=$?
	cat "$share/out"
	[ "$code" = 0 ] || {
		echo "FAILED $1, as $2: the machine ended with $code: $(tail -n 3 "$share/err" | tr '\n' ' ')"
		echo 'FAILED' >>"$share/out"
	}
	cat "$share/out" >>"$share/all"
}
: >"$share/all"
guest trixie dev all
guest trixie root all
guest bookworm dev main
guest bookworm root main

failed=$(grep -c '^FAILED' "$share/all")
echo "$(grep -c '^ok' "$share/all") passed, $failed failed"
[ "$failed" = 0 ]

#!/bin/sh
# Everything: lints, licences, unit tests, integration tests as root and as an ordinary user, and the
# part that needs systemd in an emulated machine. For root, or for a user with sudo: what has to be
# root's goes through sudo, the rest runs as you. First installs what is missing (setup.sh --tests).
#
#   sh tests/run.sh             all of it; the last line is "N passed, N failed[, N skipped]"
#   CTR_MUST_RUN=1              what cannot run is a failure
#   CTR_BIN=path/to/ctr         test this binary instead of the release build
set -u
cd "$(dirname "$0")/.." || exit
top=$(pwd)

must=${CTR_MUST_RUN-0}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
: >"$work/skipped"
chmod 755 "$work"
chmod 666 "$work/skipped"
passed=0
failed=0
failures=

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs a command, shows what it prints as it comes, keeps it in $work/log, and returns its status.
shown() {
	{
		"$@" 2>&1 </dev/null
		echo $? >"$work/status"
	} | tee "$work/log"
	return "$(cat "$work/status")"
}

failure() {
	failed=$((failed + 1))
	failures="$failures
  $1"
}

# check NAME COMMAND…: one check, passed when the command succeeds.
check() {
	name=$1
	shift
	echo "== $name"
	if shown "$@"; then passed=$((passed + 1)); else failure "$name"; fi
}

skip() {
	echo "could not run: $1"
	if [ "$must" = 1 ]; then failure "$1"; else echo "$1" >>"$work/skipped"; fi
}

# suite NAME COMMAND…: Rust tests; each counts by itself.
suite() {
	name=$1
	shift
	echo "== $name"
	shown "$@"
	status=$?
	good=$(sed -n 's/^test result: [^ ]* \([0-9]*\) passed.*/\1/p' "$work/log" | awk '{ n += $1 } END { print n + 0 }')
	bad=$(sed -n 's/^test result: .* \([0-9]*\) failed.*/\1/p' "$work/log" | awk '{ n += $1 } END { print n + 0 }')
	passed=$((passed + good))
	failed=$((failed + bad))
	[ "$bad" = 0 ] || failures="$failures
$(sed -n 's/^test \(.*\) \.\.\. FAILED$/  \1/p' "$work/log")"
	if [ "$status" != 0 ] && [ "$bad" = 0 ]; then failure "$name (status $status)"; fi
	if [ "$status" = 0 ] && [ $((good + bad)) = 0 ]; then failure "$name (no test ran)"; fi
}

scripts() {
	# Or all files, where this is an archive of the sources.
	{ git ls-files 2>/dev/null || find ./* .ci -path ./target -prune -o -type f -print; } | while read -r file; do
		case $file in
		*.sh) echo "$file" ;;
		*) if [ -f "$file" ] && head -c 40 "$file" | head -n 1 | grep -aqE '^#!/(usr/)?bin/(env )?(ba)?sh'; then echo "$file"; fi ;;
		esac
	done
}

echo "== preparation"
sh tests/setup.sh --tests </dev/null || skip "preparation: sh tests/setup.sh --tests failed"

if command -v shellcheck >/dev/null; then
	# shellcheck disable=SC2046 # names without blanks
	check "shellcheck" shellcheck $(scripts)
else
	skip "shellcheck: it is not installed"
fi
if cargo fmt --version >/dev/null 2>&1; then
	check "format" cargo fmt --check
else
	skip "format: cargo fmt is not installed"
fi
if cargo clippy --version >/dev/null 2>&1; then
	check "clippy" cargo clippy --locked --all-targets -- -D warnings
else
	skip "clippy: it is not installed"
fi
if command -v cargo-deny >/dev/null; then
	check "licences, sources and bans" cargo deny --config .cargo/deny.toml check licenses sources bans
elif command -v jq >/dev/null; then
	check "licences and sources" sh tests/licences.sh
else
	skip "licences: neither cargo-deny nor jq is installed"
fi

# They run by hand, for long (tests/fuzz/run.sh); here they have to build.
check "fuzz targets" cargo check --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target
suite "unit tests" cargo test --locked --lib
suite "uplink" cargo test --locked --test uplink

# The tests drive what people install.
if [ -z "${CTR_BIN-}" ]; then
	check "release build" cargo build --locked --release
	CTR_BIN=$(cargo build --locked --release --message-format json 2>/dev/null |
		sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
fi
is_static() {
	case $(ldd "$CTR_BIN" 2>&1) in
	*"not a dynamic executable"* | *"statically linked"*) ;;
	*)
		ldd "$CTR_BIN"
		return 1
		;;
	esac
}
check "the binary is one static file" is_static

check "build of the integration tests" cargo test --locked --test it --no-run
it=$(cargo test --locked --test it --no-run --message-format json 2>/dev/null |
	sed -n '/"name":"it"/s/.*"executable":"\([^"]*\)".*/\1/p')
# Once by root, who plays the ordinary user too. More at a time than there are cores: most wait. What
# a shell starts in the background ignores Ctrl-C, and the tests send it.
suite "integration tests, as root and as an ordinary user" \
	as_root env --default-signal=INT,QUIT "CTR_BIN=$CTR_BIN" "CTR_MUST_RUN=$must" "CTR_SKIPPED=$work/skipped" \
	"CARGO_MANIFEST_DIR=$top" "${it:-no-test-binary}" --test-threads "${CTR_TEST_THREADS-4}"

if [ -e tests/vm/test.sh ]; then
	echo "== emulated machines: systemd, cgroup v2"
	CTR_BIN=$CTR_BIN shown sh tests/vm/test.sh
	status=$?
	counts=$(sed -n 's/^\([0-9]* passed, [0-9]* failed\).*/\1/p' "$work/log" | tail -n 1)
	if [ -n "$counts" ]; then
		passed=$((passed + $(echo "$counts" | cut -d' ' -f1)))
		bad=$(echo "$counts" | cut -d' ' -f3)
		failed=$((failed + bad))
		[ "$bad" = 0 ] || failures="$failures
  tests/vm/test.sh: $bad"
		if [ "$status" != 0 ] && [ "$bad" = 0 ]; then failure "tests/vm/test.sh (status $status)"; fi
	elif [ "$status" = 0 ]; then
		passed=$((passed + 1))
	else
		failure "tests/vm/test.sh (status $status)"
	fi
fi

echo
[ -z "$failures" ] || echo "failed:$failures"
skipped=$(wc -l <"$work/skipped")
if [ "$skipped" -gt 0 ]; then
	echo "skipped:"
	sed 's/^/  /' "$work/skipped"
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ "$failed" = 0 ]

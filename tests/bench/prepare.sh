# For the scripts beside it, which source it as the first they do: finds the binary to time, becomes
# root, makes a directory for all that comes to be ($work, gone at the end) and a configuration with
# which Debian's podman runs here.
# shellcheck shell=sh

cd "$(dirname "$0")/../.." || exit

if [ -z "${CTR_BIN-}" ]; then
	cargo build --locked --release >&2
	CTR_BIN=$(cargo build --locked --release --message-format json 2>/dev/null |
		sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
fi
export CTR_BIN
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=CTR_BIN,CTR_BENCH_ROUNDS,CTR_BENCH_SECONDS sh "tests/bench/${0##*/}" "$@"

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
[network]
network_backend = "netavark"
END
chmod 644 "$work/containers.conf"
export CONTAINERS_CONF="$work/containers.conf"

# apart FLAGS COMMAND…: runs it in namespaces of its own, mounts among them, prepared for podman.
apart() {
	flags=$1
	shift
	# shellcheck disable=SC2016 # for the inner shell
	unshare "$flags" sh -c '
		mount --make-rshared /
		! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
		exec "$@"
	' sh "$@"
}

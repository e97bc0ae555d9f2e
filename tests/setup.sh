#!/bin/sh
# Makes a Debian or Ubuntu machine ready to build and run ctr; with --tests, ready to test it too.
# For root, or for a user with sudo. Quick where everything is there already.
#
#   sh tests/setup.sh           packages to build and run, subordinate ids for you, a busybox image
#   sh tests/setup.sh --tests   that, and all that tests/run.sh needs
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
die() {
	say "$*"
	exit 1
}

tests=false
case "${1-}" in
'') ;;
--tests) tests=true ;;
*) die "unknown argument \"$1\": only --tests is known" ;;
esac

me=$(id -un)
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
[ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "run this as root, or install sudo"

# Installs those of the packages named that are missing.
install() {
	missing=
	for package; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
		[ "$status" = installed ] || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	say "installing$missing"
	# shellcheck disable=SC2086 # a list of words
	set -- env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
	# The lists of a machine that was just made are missing or old.
	as_root "$@" >&2 </dev/null || {
		as_root apt-get update -q >&2
		as_root "$@" >&2 </dev/null
	}
}

# uidmap has newuidmap and newgidmap, which give a user the subordinate ids.
install gcc libc6-dev libseccomp-dev uidmap busybox-static ca-certificates

# Cargo is taken as it is. Where it is missing: the distribution's own, if that is new enough.
command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH
if ! command -v cargo >/dev/null; then
	wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
	[ -n "$(apt-cache policy cargo 2>/dev/null)" ] || as_root apt-get update -q >&2
	for package in cargo $(apt-cache search --names-only '^cargo-[0-9.]+$' | cut -d' ' -f1 | sort -rV); do
		offered=$(apt-cache policy "$package" | sed -n 's/^ *Candidate: //p')
		case $package in cargo-*) offered=${package#cargo-} ;; esac
		if dpkg --compare-versions "$offered" ge "$wanted" 2>/dev/null; then
			version=${package#cargo}
			install "$package" "rustc$version" "rust${version:+$version}-clippy" rustfmt 2>/dev/null ||
				install "$package" "rustc$version"
			# Ubuntu's versioned packages have versioned programs.
			[ -z "$version" ] || PATH=/usr/lib/rust$version/bin:$PATH
			break
		fi
	done
	command -v cargo >/dev/null ||
		die "Rust $wanted or newer is needed: install it from https://rustup.rs and run this again"
fi

# Subordinate ids: 65536 for each user that is to run containers, behind those given already.
subordinate() {
	for kind in uid gid; do
		file=/etc/sub$kind
		if grep -qs "^$1:" "$file" || grep -qs "^$(id -u "$1"):" "$file"; then continue; fi
		first=$(awk -F: 'BEGIN { n = 100000 } $2 + $3 > n { n = $2 + $3 } END { print n }' "$file" 2>/dev/null || echo 100000)
		say "subordinate ${kind}s for $1: $first to $((first + 65535))"
		echo "$1:$first:65536" | as_root tee -a "$file" >/dev/null
	done
}
for user in "$me" "${SUDO_USER-root}"; do
	[ "$user" = root ] || subordinate "$user"
done
if [ "$(cat /proc/sys/kernel/unprivileged_userns_clone 2>/dev/null || echo 1)" = 0 ]; then
	say "warning: kernel.unprivileged_userns_clone is 0: only root can run containers until it is 1"
fi
if [ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null || echo 0)" = 1 ]; then
	say "allowing ctr its user namespaces (AppArmor restricts them here)"
	printf '%s\n' 'abi <abi/4.0>,' 'profile ctr /**/ctr flags=(unconfined) {' '  userns,' '}' |
		as_root tee /etc/apparmor.d/ctr >/dev/null
	as_root apparmor_parser -r /etc/apparmor.d/ctr
fi

if $tests; then
	install shellcheck jq git tmux openssl apache2-utils docker-registry skopeo mmdebstrap zstd attr libcap2-bin \
		procps iproute2 util-linux sudo cpio xz-utils \
		podman crun bubblewrap slirp4netns fuse-overlayfs containernetworking-plugins
	if ! id ctrtest >/dev/null 2>&1; then
		say "making the user ctrtest, as whom the rootless tests run"
		as_root useradd --create-home --shell /bin/sh ctrtest
	fi
	subordinate ctrtest
	# The network tests of an ordinary user need it; distributions with udev have it so.
	[ ! -e /dev/net/tun ] || [ "$(stat -c %a /dev/net/tun)" = 666 ] || as_root chmod 666 /dev/net/tun
	cache=${CTR_TEST_CACHE-/var/cache/ctr-test}
	if [ ! -e "$cache/debian.tar" ]; then
		say "making a Debian for the tests in $cache"
		# shellcheck source=/dev/null
		suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
		as_root mkdir -p "$cache"
		as_root mmdebstrap --quiet --variant=essential --mode=root "$suite" "$cache/tmp-$$.tar" >&2 </dev/null
		as_root chmod 644 "$cache/tmp-$$.tar"
		as_root mv "$cache/tmp-$$.tar" "$cache/debian.tar"
	fi
	exit 0
fi

# The image: the registry's where one answers, else one made of the distribution's static busybox.
cargo build --release
ctr=$(cargo build --release --message-format json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
if ! "$ctr" images -q busybox 2>/dev/null | grep -q . && ! timeout 20 "$ctr" pull -q busybox >/dev/null 2>&1; then
	say "no registry answers: making the image busybox from busybox-static"
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp" "$tree/root"
	chmod 755 "$tree"
	chmod 1777 "$tree/tmp"
	cp /bin/busybox "$tree/bin/busybox"
	for applet in $("$tree/bin/busybox" --list); do
		[ "$applet" = busybox ] || ln "$tree/bin/busybox" "$tree/bin/$applet"
	done
	echo root:x:0:0:root:/root:/bin/sh >"$tree/etc/passwd"
	echo root:x:0: >"$tree/etc/group"
	tar -C "$tree" --numeric-owner --owner 0 --group 0 -c . | "$ctr" import --change 'CMD ["sh"]' - busybox >/dev/null
fi

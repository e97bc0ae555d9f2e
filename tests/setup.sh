#!/bin/sh
# Makes a Debian or Ubuntu machine ready to build and run ctr; with --tests, ready to test it too.
# For root, or for a user with sudo. Quick where everything is there already.
#
#   sh tests/setup.sh           packages to build and run, subordinate ids for you, a busybox image
#   sh tests/setup.sh --tests   that, and all that tests/run.sh needs
#   sh tests/setup.sh --bench   that, and all that tests/bench/ needs
set -eu
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
die() {
	say "$*"
	exit 1
}

tests=false
bench=false
case "${1-}" in
'') ;;
--tests) tests=true ;;
--bench) tests=true bench=true ;;
*) die "unknown argument \"$1\": only --tests and --bench are known" ;;
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

# Cargo: what is there, if it is new enough, else the distribution's. Debian has a newer one beside its
# own, for browsers (cargo-web), and Ubuntu has one for each version (cargo-1.91).
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
new_enough() {
	found=$("$1" --version 2>/dev/null | cut -d' ' -f2)
	[ -n "$found" ] && dpkg --compare-versions "$found" ge "$wanted"
}

# Makes the cargo in this directory the one of this script and, as the command after it runs in a
# shell whose PATH no script can change, of that shell too.
use_cargo_in() {
	PATH=$1:$PATH
	case :$callers_path: in *:"$1":*) return ;; esac
	link=/usr/local/bin/cargo
	if [ -e "$link" ] && ! grep -qs "by ctr's setup.sh" "$link"; then
		die "cargo $wanted or newer is in $1: put that first on your PATH: export PATH=\"$1:\$PATH\""
	fi
	say "your PATH lacks $1: making $link, which runs the cargo there"
	own=$1
	# Every user's own comes first.
	case $own in "$HOME"/*) own= ;; esac
	as_root tee "$link" >/dev/null <<-EOF
		#!/bin/sh
		# Made by ctr's setup.sh, for shells that have none of these directories on their PATH.
		for dir in "\$HOME/.cargo/bin" $own /usr/bin; do
		    [ ! -x "\$dir/cargo" ] || PATH=\$dir:\$PATH exec "\$dir/cargo" "\$@"
		done
		echo "cargo: not found" >&2
		exit 127
	EOF
	as_root chmod 755 "$link"
}

# The version of a package that would be installed, empty where there is none.
candidate() {
	apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p'
}

# The suffix of the packages that are new enough, as this machine's lists have them.
offered() {
	for package in cargo cargo-web $(apt-cache search --names-only '^cargo-[0-9.]+$' | cut -d' ' -f1 | sort -rV); do
		suffix=${package#cargo}
		case $suffix in
		-[0-9]*) version=${suffix#-} ;;
		*) version=$(candidate "$package") ;;
		esac
		if [ -n "$version" ] && dpkg --compare-versions "$version" ge "$wanted"; then
			echo "$suffix"
			return
		fi
	done
	return 1
}

callers_path=$PATH
rustup=$HOME/.cargo/bin/rustup
[ -x "$rustup" ] || rustup=$(command -v rustup) || rustup=
if new_enough cargo; then
	:
elif new_enough "$HOME/.cargo/bin/cargo"; then
	use_cargo_in "$HOME/.cargo/bin"
elif [ -n "$rustup" ]; then
	die "Rust $wanted or newer is needed, and rustup's is ${found:-not installed}: type \"$rustup default stable && $rustup update stable\""
else
	suffix=$(offered) || {
		as_root apt-get update -q >&2
		suffix=$(offered) || suffix=none
	}
	if [ "$suffix" != none ]; then
		set -- "cargo$suffix" "rustc$suffix"
		for package in "rust$suffix-clippy" "rustfmt$suffix"; do
			[ -z "$(candidate "$package")" ] || set -- "$@" "$package"
		done
		install "$@"
		case $suffix in -[0-9]*) use_cargo_in "/usr/lib/rust$suffix/bin" ;; esac
		hash -r
	fi
	if ! new_enough cargo && [ -n "$(candidate rustup)" ]; then
		install rustup
		say "rustup: fetching Rust"
		rustup set profile minimal
		rustup default stable >&2
		hash -r
	fi
	new_enough cargo || die "Rust $wanted or newer is needed, and no package here has it. Type
  $(command -v curl >/dev/null || echo 'sudo apt-get install -y curl && ')curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
and run this again"
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
	install g++ shellcheck jq git tmux openssl apache2-utils docker-registry skopeo mmdebstrap zstd attr libcap2-bin \
		procps iproute2 nftables util-linux sudo cpio xz-utils bzip2 \
		zsh fish bash-completion man-db groff mandoc \
		podman crun bubblewrap slirp4netns passt fuse-overlayfs containernetworking-plugins
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
	if $bench; then
		served=$(command -v nginx) || served=
		install python3 netavark iperf3 wrk nginx-light
		# Its package starts it on port 80, which nobody asked for.
		if [ -z "$served" ] && [ -d /run/systemd/system ]; then as_root systemctl disable -q --now nginx; fi
	fi
	exit 0
fi

# The image: the registry's where one answers, else one made of the distribution's static busybox.
cargo build --release
ctr=$(cargo build --release --message-format json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
# Where packets are dropped, nothing ever says no. Behind a proxy only the pull itself can tell.
registry_answers() {
	[ -z "${https_proxy-}${HTTPS_PROXY-}${all_proxy-}${ALL_PROXY-}" ] || return 0
	timeout 3 bash -c ': </dev/tcp/registry-1.docker.io/443' 2>/dev/null
}
if ! "$ctr" images -q busybox 2>/dev/null | grep -q . &&
	! { registry_answers && timeout 60 "$ctr" pull busybox >&2; }; then
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

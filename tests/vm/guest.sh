#!/bin/sh
# The guest's half of test.sh: as dev or as root, in the machine, `ctr` in the directory given. Prints
# `ok NAME` or `FAILED NAME` with what was seen, a line for each check.
#
#   guest.sh DIRECTORY main     the way of the README's command, and limits
#   guest.sh DIRECTORY all      that and everything else; as root without systemd too (no-systemd)
# shellcheck disable=SC2016 # what is quoted is for the container's shell
set -u
PATH=$1:$PATH
part=${2-}
me=$(id -un)
if [ "$me" = root ]; then
	systemctl='systemctl'
	run_unit='systemd-run'
else
	systemctl='systemctl --user'
	run_unit='systemd-run --user'
fi

ok() { echo "ok $me: $1"; }
failed() { echo "FAILED $me: $1: $2" | tr '\n' ' ' && echo; }
# is NAME WANTED SEEN: equal; has NAME PART SEEN: a part.
is() { if [ "$2" = "$3" ]; then ok "$1"; else failed "$1" "wanted \"$2\", saw \"$3\""; fi; }
has() { case $3 in *"$2"*) ok "$1" ;; *) failed "$1" "wanted \"…$2…\", saw \"$3\"" ;; esac; }

# soon SECONDS COMMAND…: until it succeeds.
soon() {
	tries=$(($1 * 10))
	shift
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.1
	done
}

# The directory of a container's cgroup.
cgroup() { echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(ctr inspect --format '{{.State.Pid}}' "$1")/cgroup")"; }
scopes() { $systemctl list-units --all --plain --no-legend 'ctr-*.scope' | wc -l; }
no_scopes() { [ "$(scopes)" = 0 ]; }
# What a container wrote before it was paused, its monitor may log a moment later.
stands_still() {
	before=$(ctr logs "$1" | tail -n 1)
	sleep 1
	[ "$before" = "$(ctr logs "$1" | tail -n 1)" ]
}

image() {
	tree=$(mktemp -d)
	chmod 755 "$tree"
	mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp" "$tree/root"
	cp /bin/busybox "$tree/bin/busybox"
	for applet in $(/bin/busybox --list); do
		[ "$applet" = busybox ] || ln "$tree/bin/busybox" "$tree/bin/$applet"
	done
	echo root:x:0:0:root:/root:/bin/sh >"$tree/etc/passwd"
	echo root:x:0: >"$tree/etc/group"
	tar -C "$tree" --numeric-owner --owner 0 --group 0 -c . | ctr import --change 'CMD ["sh"]' - busybox >/dev/null
	rm -rf "$tree"
}

readme() {
	has 'the command of the README, with a terminal' 'a terminal in /' \
		"$(script -qec "ctr run --rm -it busybox sh -c 'test -t 0 && echo a terminal in \$PWD'" /dev/null 2>&1)"
	is 'output and exit code without one' 'hello 7' "$(ctr run --rm busybox sh -c 'echo hello; exit 7' 2>&1 | tr '\n' ' ')$(
		ctr run --rm busybox sh -c 'exit 7' >/dev/null 2>&1
		echo $?
	)"
}

limits() {
	# The shell that cannot fork any more gives up; the container goes on.
	ctr run -d --name limits --memory 64m --pids-limit 20 --cpus 0.2 busybox sh -c \
		'while :; do :; done & sh -c "for i in \$(seq 60); do sleep 600 & done; wait"; exec sleep 600' >/dev/null || failed 'run with limits' "$?"
	dir=$(cgroup limits)
	id=$(ctr inspect --format '{{.Id}}' limits)
	has 'a scope of systemd for the container' "/ctr-$id.scope/container" "$dir"
	is 'memory.max' 67108864 "$(cat "$dir/memory.max")"
	is 'memory.max as the container sees it' 67108864 "$(ctr run --rm --memory 64m busybox cat /sys/fs/cgroup/memory.max 2>&1)"
	is 'pids.max' 20 "$(cat "$dir/pids.max")"
	is 'cpu.max' '20000 100000' "$(cat "$dir/cpu.max")"
	soon 20 sh -c "! grep -q '^max 0\$' '$dir/pids.events'"
	now=$(cat "$dir/pids.current")
	has 'a fork bomb is bounded' 'max ' "$([ "$now" -le 20 ] && sed 's/^max 0$//' "$dir/pids.events")"
	soon 20 sh -c "! grep -q '^nr_throttled 0\$' '$dir/cpu.stat'"
	has 'a busy loop is throttled' 'nr_throttled ' "$(sed 's/^nr_throttled 0$//' "$dir/cpu.stat" | grep nr_throttled)"
	ctr rm -f limits >/dev/null 2>&1
	soon 20 no_scopes
	is 'nothing is left of the scope' 0 "$(scopes)"

	ctr run --name oom --memory 32m --memory-swap 32m busybox tail /dev/zero >/dev/null 2>&1
	is 'a container without memory is killed' 137 "$?"
	is 'and says why' true "$(ctr inspect --format '{{.State.OOMKilled}}' oom)"
	ctr rm oom >/dev/null
}

# Paused and changed while it runs, and what it uses.
life() {
	ctr run -d --name life busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done' >/dev/null
	dir=$(cgroup life)
	is 'pause' life "$(ctr pause life 2>&1)"
	is 'freezes the cgroup' 'frozen 1' "$(grep frozen "$dir/cgroup.events")"
	is 'which ps says' paused "$(ctr ps --format '{{.State}}')"
	is 'nothing runs' yes "$(soon 2 stands_still life && echo yes)"
	is 'exec is refused' 1 "$(ctr exec life true >/dev/null 2>&1; echo $?)"
	is 'unpause' 'life frozen 0' "$(ctr unpause life 2>&1) $(grep frozen "$dir/cgroup.events")"

	is 'update' life "$(ctr update --memory 64m --memory-swap 96m --cpus 0.5 --pids-limit 50 --cpu-shares 512 life 2>&1)"
	is 'is in force at once' '67108864 33554432 50000 100000 50 59' \
		"$(cat "$dir/memory.max" "$dir/memory.swap.max" "$dir/cpu.max" "$dir/pids.max" "$dir/cpu.weight" | tr '\n' ' ' | sed 's/ $//')"
	is 'update of one limit leaves the others' '67108864 max' \
		"$(ctr update --pids-limit -1 life >/dev/null && cat "$dir/memory.max" "$dir/pids.max" | tr '\n' ' ' | sed 's/ $//')"
	ctr update --memory 48m --cpuset-cpus 99 life >/dev/null 2>&1
	is 'a limit that is refused' 1 "$?"
	is 'leaves all as they were recorded' '67108864 ' "$(ctr inspect --format '{{.HostConfig.Memory}} {{.HostConfig.CpusetCpus}}' life)"
	is 'and as they are in force' 67108864 "$(cat "$dir/memory.max")"
	has 'stats tells the limit' ' / 64MiB' "$(ctr stats --no-stream --format '{{.MemUsage}}' life 2>&1)"
	has 'top' 'sleep 0.05' "$(for _ in 1 2 3 4 5; do ctr top life -o pid,args; done 2>&1)"

	ctr pause life >/dev/null
	is 'restart of a paused one' life "$(ctr restart -t 0 life 2>&1)"
	is 'with the limits that it was given' '67108864 50000 100000' \
		"$(cat "$(cgroup life)/memory.max" "$(cgroup life)/cpu.max" | tr '\n' ' ' | sed 's/ $//')"
	ctr pause life >/dev/null
	is 'rm -f of a paused one' life "$(ctr rm -f life 2>&1)"
	soon 20 no_scopes

	# Below what is in use, the kernel ends it, as Docker has it.
	ctr run -d --name big busybox sh -c 'x=$(head -c 40000000 /dev/zero | tr "\0" x); echo ready; while :; do sleep 0.1; done' >/dev/null
	soon 60 sh -c 'ctr logs big | grep -q ready'
	ctr update --memory 8m --memory-swap 8m big >/dev/null 2>&1
	soon 20 sh -c "[ \"\$(ctr inspect --format '{{.State.Running}}' big)\" = false ]"
	is 'a limit below what is in use' '137 true' "$(ctr inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' big)"
	ctr rm -f big >/dev/null

	ctr run -d --name frozen busybox sleep 1000 >/dev/null
	dir=$(cgroup frozen)
	ctr pause frozen >/dev/null
	kill -9 "$(cat "${dir%/container}/monitor/cgroup.procs")"
	soon 20 no_scopes
	has 'a paused one whose monitor is killed ends' 'Exited (137)' "$(ctr ps -a --filter name=frozen --format '{{.Status}}')"
	ctr rm -f frozen >/dev/null
}

monitor_killed() {
	ctr run -d --name orphan --memory 64m busybox sleep 1000 >/dev/null
	dir=$(cgroup orphan)
	monitor=$(cat "${dir%/container}/monitor/cgroup.procs")
	kill -9 "$monitor"
	has 'a container whose monitor is killed ends' 'Exited (137)' \
		"$(soon 20 no_scopes; ctr ps -a --filter name=orphan --format '{{.Status}}' 2>&1 || ctr ps -a)"
	is 'and its scope with it' 0 "$(scopes)"
	ctr start orphan >/dev/null 2>&1
	is 'and it starts again, limited' 67108864 "$(cat "$(cgroup orphan)/memory.max")"
	ctr rm -f orphan >/dev/null
}

delegated_unit() {
	$run_unit -q --unit ctr-test-unit -p Delegate=yes "$(command -v ctr)" run --name unit --memory 64m busybox sleep 1000
	soon 30 ctr exec unit true
	has 'in a delegated service, the service'\''s own cgroup' '/ctr-test-unit.service/ctr-' "$(cgroup unit)"
	is 'limited there too' 67108864 "$(cat "$(cgroup unit)/memory.max")"
	$systemctl stop ctr-test-unit
	soon 20 sh -c "[ \"\$(ctr inspect --format '{{.State.Running}}' unit)\" = false ]"
	is 'which ends with the service' false "$(ctr inspect --format '{{.State.Running}}' unit)"
	ctr rm -f unit >/dev/null
}

not_delegated() {
	out=$(ctr run --rm --cpuset-cpus 0 busybox true 2>&1)
	is 'a limit that cannot be set is an error' 125 "$?"
	has 'which names the controller' '"cpuset"' "$out"
	has 'and the way out' 'Delegate=cpu cpuset io memory pids' "$out"
	out=$(env -u DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR=/tmp ctr run --rm --memory 64m busybox cat /sys/fs/cgroup/memory.max 2>&1)
	is 'found without the variables of a session' 67108864 "$out"
}

# In a mount namespace in which systemd and D-Bus cannot be reached: as on a machine without.
no_systemd() {
	ctr run -d --name plain --memory 64m --pids-limit 20 --cpus 0.2 --cpuset-cpus 0 busybox sleep 1000 >/dev/null || failed 'run without systemd' "$?"
	dir=$(cgroup plain)
	is 'without systemd, a cgroup of ctr'\''s own' "/sys/fs/cgroup/ctr/$(ctr inspect --format '{{.Id}}' plain)" "$dir"
	is 'with its limits' '67108864 20 20000 100000 0' \
		"$(cat "$dir/memory.max" "$dir/pids.max" "$dir/cpu.max" "$dir/cpuset.cpus" | tr '\n' ' ' | sed 's/ $//')"
	is 'which exec enters' 0::/ "$(ctr exec plain cat /proc/self/cgroup)"
	is 'info says so' cgroupfs "$(ctr info --format '{{.CgroupDriver}}')"
	ctr run --name plain-oom --memory 32m --memory-swap 32m busybox tail /dev/zero >/dev/null 2>&1
	is 'they bite' '137 true' "$? $(ctr inspect --format '{{.State.OOMKilled}}' plain-oom)"
	has 'devices are bounded' 'Operation not permitted' \
		"$(ctr run --rm busybox sh -c 'mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem' 2>&1)"
	has 'CPUs that are not there are refused' 'Requested CPUs are not available - requested 0-63, available: 0-1' \
		"$(ctr run --rm --cpuset-cpus 0-63 busybox true 2>&1)"
	kill -9 "$(ps -o ppid= -p "$(ctr inspect --format '{{.State.Pid}}' plain)")"
	soon 20 sh -c "ctr ps -a | grep -q 'Exited (137)' && ! [ -e '$dir' ]"
	is 'nothing is left of one whose monitor is killed' gone "$([ -e "$dir" ] && echo there || echo gone)"
	ctr rm -f plain plain-oom >/dev/null
	is 'nor of the others' '' "$(find /sys/fs/cgroup/ctr -mindepth 1 -type d)"
}

as_root_only() {
	unshare --mount sh -c 'mount -t tmpfs none /run/systemd && mount -t tmpfs none /run/dbus && exec sh "$0" "$1" no-systemd' \
		"$guest" "$(dirname "$(command -v ctr)")"
	is 'cpuset.cpus' 0 "$(ctr run --rm --cpuset-cpus 0 busybox cat /sys/fs/cgroup/cpuset.cpus 2>&1)"
	out=$(ctr run --rm busybox sh -c 'mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem; head -c 1 /dev/zero | wc -c' 2>&1)
	has 'a device that is not allowed cannot be opened' 'Operation not permitted' "$out"
	has 'one that is allowed can' 1 "$out"
	ctr run -d --name slice --cgroup-parent test-ctr.slice busybox sleep 1000 >/dev/null
	has '--cgroup-parent is a slice' '/test-ctr.slice/ctr-' "$(cgroup slice)"
	ctr rm -f slice >/dev/null

	# Sessions take their processes with them here; only what systemd's user manager has stays.
	mkdir -p /etc/systemd/logind.conf.d
	printf '[Login]\nKillUserProcesses=yes\n' >/etc/systemd/logind.conf.d/kill.conf
	systemctl restart systemd-logind
	cp "$(command -v ctr)" /usr/local/bin/ctr
	su --login dev -c "sh $guest import" >/dev/null 2>&1
	su --login dev -c 'sleep 1000 & ctr run -d --name stays busybox sleep 1000' >/dev/null 2>&1
	soon 20 sh -c '! pgrep -u dev -f "^sleep 1000$" | grep -vq "$(pgrep -u dev -f "^sleep 1000$" | head -n 1)"'
	sleep 1
	is 'a detached container outlives the session' true \
		"$(su --login dev -c "ctr inspect --format '{{.State.Running}}' stays" 2>&1)"
	su --login dev -c 'ctr rm -f stays' >/dev/null 2>&1
}

guest=$(readlink -f "$0")
if [ "$1" = import ]; then
	image
	exit
fi
if [ "$part" = no-systemd ]; then
	no_systemd
	exit
fi
image || failed 'make an image' "$?"
readme
limits
if [ "$part" = all ]; then
	life
	monitor_killed
	delegated_unit
	if [ "$me" = root ]; then as_root_only; else not_delegated; fi
fi
soon 20 no_scopes
is 'no scope is left at the end' 0 "$(scopes)"

//! ctr: a container engine in one static binary, without a daemon, rootless first.
//!
//! This page is the design. A folder's `mod.rs` says what the folder is for, who calls it and what it
//! promises. Arrows point downwards, with three exceptions: `container` and `monitor` are the two sides
//! of one thing (the monitor reads the container's records and writes its end), the images' garbage
//! collector asks which layers the containers' records name, and `network` asks which containers live.
//!
//! ```text
//! main.rs      who this process is (ctr, ctr-monitor, ctr-init), error -> message and exit code
//! cli/         what people type and see: a file for each command; output/ is all that prints
//! container/   the life of a container: create, start, attach, exec, stop, list, logs, remove;
//!              spec/ turns what the user asked for into what the runtime is told
//! monitor/     the one process beside each running container: its stdio, log, clients, exit code
//! runtime/     from an OCI runtime spec to an isolated process; cgroup/, seccomp/
//! network/     networks and their members on record; bridges (link/), rules (nft/, firewall/), names
//!              (dns/), the way outside for ordinary users (uplink/), what is wrong (doctor/)
//! image/       references, manifests, layers; pull, push, archives, other stores, trust
//! registry/    the OCI distribution protocol, both halves
//! store/       directories, records, locks, names, trees, garbage
//! events/      what happened, written down by who did it
//! check/       whether all that is on record is whole and agrees; reset.rs: away with everything
//! secret.rs    secrets: files that reach containers and nothing else
//! userns.rs    the user's own user namespace
//! config/      what registries.conf, policy.json, auth files and the environment say; it does nothing
//! error.rs     a sentence, its causes, the way out, the exit code
//! sys/         safe wrappers for what `nix` lacks: the only unsafe code
//! ```
//!
//! # The way of `ctr run -it busybox sh`
//!
//! 1. `cli::run` turns flags and the image's configuration into a `ContainerConfig`, complete and
//!    without a path of the moment; `image` pulls what is missing.
//! 2. `container::create` writes `containers/<id>/` under a temporary name, renames it into place
//!    and claims the name.
//! 3. `container::start` takes the container's lock and `monitor::start` forks. The child leaves the
//!    session, enters the user's own user namespace ([`userns`]), and executes this binary again,
//!    from a read-only clone of its mount, as `ctr-monitor`. So no process of ctr that a container can
//!    ever see has an executable that could be overwritten through `/proc/PID/exe`
//!    (CVE-2019-5736), and the monitor's memory holds nothing of the command line's.
//! 4. The monitor takes addresses and host ports and makes the bridge (`monitor::network`), builds the
//!    OCI spec (`container::spec`) and asks `runtime` for the process: one
//!    clone3(2) with every namespace, straight into its cgroup. The child mounts the overlay inside
//!    its own mount namespace, pivots, waits until its network namespace is connected, drops
//!    everything, loads the filter, executes. No mount is ever visible on the host, so nothing is left
//!    to unmount.
//! 5. The monitor reports over the socket pair that is its first client's connection, and is from then
//!    on a poll loop of one thread. The command is an ordinary client (`container::attach`).
//! 6. At the end the monitor reaps, writes `state.json`, removes the cgroup and, for `--rm`, the
//!    container, tells its clients the exit code, and leaves.
//!
//! `exec` asks the monitor, which joins the container in a child of its own: it is in the right user
//! namespace and runs from the read-only clone already, and it reaps what it made.
//!
//! # State on disk
//!
//! ```text
//! ROOT = /var/lib/ctr, or $XDG_DATA_HOME/ctr (~/.local/share/ctr)
//!   image/                 an OCI image layout, which other tools can read; with compressed layers
//!   image/partial/<digest> the beginning of a blob whose pull was interrupted
//!   mounts/<image id>      root's `image mount`
//!   layers/<diff id>/      one unpacked layer, shared by all images that have it
//!   containers/<id>/       config.json (never changes), state.json (all that ps reads), process.json
//!                          and alive (while it runs), the log, upper/, work/, hosts, resolv.conf
//!                          network.json once its networks or published ports were changed,
//!                          resources.json once its limits were, restarting while it is started
//!                          anew, secrets/<id>: its own copies
//!   networks/<id>/         network.json (never changes), members/<container id>.json: who is on it
//!                          and with which addresses
//!   networks/holders/<container id>  which monitor holds the user's network namespace open
//!   networks/uplink/       the uplink's socket and log
//!   networks/names/<name>  symbolic link to ../<id>
//!   names/<name>           symbolic link to ../containers/<id>: making it is the claim
//!   secrets/<id>           a secret, and <id>.json, what is known of it
//!   events/log             a line of JSON for each thing that happened; rotated by size
//! RUN = /run/ctr, or $XDG_RUNTIME_DIR/ctr
//!   containers/<id>/       the monitor's socket
//!   seccomp/<hash>.bpf     compiled filters
//! ```
//!
//! - Records carry a version, are replaced by a rename, and are read without a lock. Writers take
//!   flock(2) on the object's own directory. Nobody holds a container's lock while waiting for
//!   another process, but `start` while the monitor starts.
//! - What runs is asked of the kernel: a monitor holds `alive` locked for as long as it lives, and a
//!   lock needs no process number that could have been given away since. It lies in ROOT, not in
//!   RUN, because the same user can have two RUNs (with and without a login session), and both must
//!   know what runs. A container that is recorded as running and has no monitor is shown as exited and
//!   put in order by the next command (`container::heal`).
//! - Synced to the disk are images, and configurations of containers that a reboot leaves in place;
//!   not what a reboot makes stale: states, and all of a `--rm` container.
//! - New content is made under `tmp-PID-N-NAMESPACE` and renamed into place; what a dead process left
//!   under such a name is swept, by a process that sees the same pid namespace or a day later.
//! - A container's record has the names of its layers, so starting reads no image. A layer is
//!   unpacked by its diff id alone. Where its archive left out parent folders, nothing says how
//!   those are to look; an image then has one more layer on top that holds just these folders with
//!   the mode and owner that the layers below give them.
//!
//! # Images
//!
//! - A name for several platforms is an entry of `index.json` that is an index itself; behind it stands
//!   one entry for each platform that is here, this machine's first: that is what the name alone means.
//! - Every byte of a layer is checked against the manifest (as it came) and the configuration (as it
//!   was unpacked) before the layer has a name. What an interrupted pull left is believed no more than
//!   what a registry sends.
//! - A layer with a table of contents (eStargz, zstd:chunked) is put together from what other blobs have
//!   and requests for the rest. The table is a guess, not an authority: who believes its digests need
//!   not unpack what is unpacked elsewhere, but then nobody has checked the configuration's digests.
//! - Compressed layers are kept, so push and save need not make them, and digests stay. A layer made
//!   here is compressed while it is sent, to the same bytes each time: a connection that broke needs
//!   no buffer and no file. `layers/<diff id>.json` then has that digest, and which repositories have it.
//! - A layer that is here is not fetched, in whatever compression another image brought it. Its record
//!   names the blob that it was unpacked from, which stands in for the image's own where that cannot be
//!   had: the digests of the archive are others then, and a warning says so (`image::alike`).
//! - An image that is mounted (`image mount`) is in use: neither `rmi` nor `prune` takes its layers.
//! - Redirects are followed here and not by the HTTP library, so that nothing secret goes elsewhere.
//! - An additional store is another ROOT that is never written. Root's containers name its layers by
//!   whole paths; an ordinary user's first use unpacks them from its blobs.
//! - Where a damaged image makes it impossible to tell what is needed, garbage collection keeps all
//!   blobs, or all layers, and nothing else stops.
//!
//! # The command line
//!
//! Help, man pages and completion come from the clap structs alone. The shells' scripts know no
//! commands: at each TAB they ask `ctr __complete`, which builds the tree of the one command that is
//! meant, and answers in cobra's protocol. A word that a shell could obey is never offered.
//!
//! # What changes while a container runs
//!
//! - `pause` freezes first and then says so in the record, `unpause` the other way round: a record
//!   that says paused is true. Without cgroups each process is stopped by a signal.
//! - `cp`, `diff`, `export` and `commit` see a running container through `/proc/PID/root` and a stopped
//!   one through an overlay in a mount namespace of the command's own; every path in it is resolved by
//!   openat2(2) with the container's root as the root, so links of a hostile image or process lead
//!   nowhere else (`container::files`). `image::pack` writes archives, `image::unpack` reads them.
//! - A line of the event log is written with the log locked from before its time is asked, so times
//!   never go back; who does not get the lock at once does not wait for it for long.
//! - The log of a container has one writer, the monitor. Who follows it is told of each rotation by
//!   the monitor, and so neither loses a line nor gets one twice.
//!
//! # Networks
//!
//! Bridges, veth pairs, addresses and rules are in *a* network namespace: root's own, or one that all
//! of a user's containers share and their monitors keep open. What leaves that one goes through
//! `ctr-uplink`, one process for a user, which joins connections that the namespace's kernel has
//! terminated to sockets of the host's: no TCP of its own, and the client's address stays visible
//! behind published ports. A monitor answers its container's DNS questions itself, from a socket inside
//! the container's namespace, reads the members' records for names, and forwards the rest.
//!
//! - netlink and nf_tables are encoded here (`network::netlink`, `network::nft`): the crates for them
//!   that are alive are runtimes of their own or licensed otherwise, and `nft` is a program to start.
//!   So are DNS messages: a resolver crate brings an executor, and hostile packets need few rules.
//! - Interfaces are never removed one by one: a pair dies with the container's namespace, in the
//!   kernel's own time. Its port is shut first, as its addresses may be another's at once. Root's
//!   bridges stay until `network rm`; deleting one holds up all of the machine's networks for 30 ms.
//! - Rules are sets and maps in two tables; a container is an element. A batch that the kernel refuses
//!   costs ten times what a good one does, so nothing is tried to see whether it is there.
//! - The uplink gets ready while the container does; its first answer is awaited when all is wired.
//!
//! # Rootless
//!
//! One user namespace for each user, joined where a live monitor is in one and made by
//! `newuidmap`/`newgidmap` where there is none: no process keeps it. Each container is in a *child*
//! of it with the same ids, so its root has no capability over monitors or other containers. Without
//! subordinate ids it runs with one id and says once what that limits.
//!
//! # What must be true
//!
//! | what happens | afterwards |
//! | --- | --- |
//! | `kill -9` of ctr at any instruction | the old state or the new one; garbage is swept |
//! | `kill -9` of a monitor | its processes die; `ps` says exited; `start` works |
//! | power loss | images that a command reported are there; half-written ones are not |
//! | `kill -9` of the uplink | its connections end; the monitors start another, ports and names go on |
//! | somebody flushes all rules | the next container, or change of one, loads them all again |
//! | a pull is interrupted | what came is kept for a day; the next pull checks it and asks for the rest |
//! | `kill -9` of a push | the image here is untouched; the next push sends what the registry lacks |
//! | disk full | the path and the reason, exit code 125; what existed works |
//! | two commands on one container | one after the other; the second says what it found |
//! | a hostile layer, manifest, archive, registry | an error; nothing outside its directory; bounded memory |
//! | a hostile process in a container | no host file, no descriptor of ctr, no other container; no address but its own, nothing of the host's loopback |

pub mod check;
pub mod cli;
pub mod config;
pub mod container;
pub mod error;
pub mod events;
pub mod image;
pub mod monitor;
pub mod network;
pub mod passwd;
pub mod registry;
pub mod reset;
pub mod runtime;
pub mod secret;
pub mod store;
pub mod sys;
pub mod userns;

//! What `ctr(1)` says beside what the clap structs do.

pub const DESCRIPTION: &str = "\
ctr makes containers and runs commands in them, from images of OCI's and Docker's form. There is no daemon: each
command does its work itself, and beside each running container stays one small process that holds its input and
output. An ordinary user runs containers as root does, without any privilege.

Commands, flags, output and exit codes are those of docker(1), so that ctr can stand in for it (alias docker=ctr).
Flags of podman(1) that Docker has not are there too.

What is stored belongs to the user who stored it: root's containers and those of an ordinary user do not see each
other. Wherever a container, an image or a network is wanted its name can be given, or as much of its id as no other
has. In a shell TAB completes names, commands and flags: see ctr-completion(1).";

/// What stands at the left, and what it means.
pub type Table = &'static [(&'static str, &'static str)];

pub const EXIT: Table = &[
    ("0", "All was done."),
    ("1", "It could not be done, or not for each of the objects named."),
    ("125", "The flags are wrong, or ctr itself failed in run, create or exec."),
    ("126", "The command in the container cannot be executed."),
    ("127", "The command was not found in the container."),
    (
        "any other",
        "That of the command in the container, from run, exec, start -a and attach: 128 and the number of the signal \
         where one ended it.",
    ),
];

pub const ENVIRONMENT: Table = &[
    ("HOME, XDG_DATA_HOME", "Where an ordinary user's containers and images are kept: see below."),
    ("XDG_RUNTIME_DIR", "Where an ordinary user's sockets are; without it /run/user/UID, or /tmp/ctr-UID."),
    (
        "REGISTRY_AUTH_FILE, XDG_CONFIG_HOME, DOCKER_CONFIG",
        "Where credentials for registries are looked for: see below; --config stands for DOCKER_CONFIG.",
    ),
    ("SSL_CERT_FILE", "Certificates of authorities that registries are trusted by, instead of the system's."),
    ("HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY", "How registries are reached."),
    ("SHELL", "What unshare starts where no command is given."),
];

pub const FILES: Table = &[
    ("/var/lib/ctr", "Root's containers, images, networks and secrets; another directory with --root."),
    ("~/.local/share/ctr", "Those of an ordinary user; $XDG_DATA_HOME/ctr where that is set."),
    ("/run/ctr, $XDG_RUNTIME_DIR/ctr", "What a reboot may take away; another directory with --runroot."),
    ("/etc/subuid, /etc/subgid", "The ids that an ordinary user's containers have beside the user's own: subuid(5)."),
    (
        "/etc/containers/registries.conf, ~/.config/containers/registries.conf",
        "Registries that are mirrored, blocked or insecure, and short names: containers-registries.conf(5).",
    ),
    (
        "$REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json, ~/.docker/config.json",
        "Credentials for registries, asked in this order.",
    ),
    (
        "/etc/containers/certs.d, /etc/docker/certs.d",
        "Certificates of single registries; ~/.config/containers/certs.d too.",
    ),
];

pub const EXAMPLES: &str = "\
ctr run --rm -it busybox sh                 a shell, and nothing left behind
ctr run -d --name web -p 8080:80 httpd      in the background
ctr logs -f web
ctr exec -it web sh
ctr stop web && ctr rm web
ctr system prune -a                         all that nothing uses";

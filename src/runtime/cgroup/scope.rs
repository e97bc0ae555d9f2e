//! A transient scope unit of systemd, delegated to us: what systemd asks programs to do that make
//! cgroups beside its own (<https://systemd.io/CGROUP_DELEGATION>, org.freedesktop.systemd1(5)).
//!
//! systemd's own socket comes first, as systemctl has it: it spares the detour through a bus, and is
//! there where no bus is installed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bus::{Body, Bus, Kind};
use crate::error::Failure;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
/// A machine that boots or is loaded takes its time; one that hangs is told of.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether systemd is the machine's init: sd_booted(3).
pub(super) fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A scope that was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    bus: Bus,
    serial: u32,
    wanted: Wanted,
}

/// What to ask for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// `ctr-<id>.scope`.
    pub(super) unit: String,
    pub(super) description: String,
    pub(super) slice: Option<String>,
    pub(super) pid: u32,
}

/// The sockets behind which the manager of `uid` listens, and whether a message bus is between.
fn sockets(root: bool, uid: u32) -> Vec<(PathBuf, bool)> {
    if root {
        return vec![("/run/systemd/private".into(), false), ("/run/dbus/system_bus_socket".into(), true)];
    }
    // `su` and cron leave XDG_RUNTIME_DIR out, although logind has made the directory.
    let logind = PathBuf::from(format!("/run/user/{uid}"));
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let mut found = Vec::new();
    for dir in runtime.iter().chain([&logind]) {
        found.push((dir.join("systemd/private"), false));
    }
    if let Ok(address) = std::env::var("DBUS_SESSION_BUS_ADDRESS") {
        found.extend(bus_paths(&address).map(|path| (path, true)));
    }
    found.push((logind.join("bus"), true));
    found
}

/// The paths in a bus's address: `unix:path=/run/user/1000/bus,guid=…;…`.
fn bus_paths(address: &str) -> impl Iterator<Item = PathBuf> {
    let unix = address.split(';').filter_map(|one| one.strip_prefix("unix:"));
    unix.filter_map(|one| one.split(',').find_map(|pair| pair.strip_prefix("path="))).map(PathBuf::from)
}

fn connect(root: bool, uid: u32) -> io::Result<Bus> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (path, is_bus) in sockets(root, uid) {
        match Bus::connect(&path) {
            Ok(mut bus) => {
                if is_bus {
                    // A bus wants to be greeted; the answer is one more message to pass over.
                    let dbus = "org.freedesktop.DBus";
                    bus.call(dbus, "/org/freedesktop/DBus", dbus, "Hello", "", &Body::default())?;
                }
                return Ok(bus);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Whether a service of the user's own manager is delegated (`Delegate=`). Only the system's manager
/// marks the cgroup itself.
pub(super) fn is_delegated(uid: u32, service: &str) -> bool {
    let ask = || -> io::Result<bool> {
        let mut bus = connect(false, uid)?;
        let mut body = Body::default();
        body.string("org.freedesktop.systemd1.Service");
        body.string("Delegate");
        let object = format!("{OBJECT}/unit/{}", object_name(service));
        let serial = bus.call(SYSTEMD, &object, "org.freedesktop.DBus.Properties", "Get", "ss", &body)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = bus.next(deadline)?;
            if message.reply_to == serial {
                return Ok(message.kind == Kind::Return && message.is_true());
            }
        }
    };
    ask().unwrap_or(false)
}

/// A unit's name as part of an object path: `a-b.service` is `a_2db_2eservice` (sd_bus_path_encode(3)).
fn object_name(unit: &str) -> String {
    use std::fmt::Write;
    let mut name = String::new();
    for (i, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (i > 0 && byte.is_ascii_digit()) {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "_{byte:02x}");
        }
    }
    name
}

/// Whether there is a manager to ask, without asking.
pub(super) fn reachable(root: bool, uid: u32) -> bool {
    sockets(root, uid).iter().any(|(path, _)| path.exists())
}

/// Asks the manager for a scope with the process in it. `NotFound`: there is no manager to ask.
pub(super) fn ask(root: bool, uid: u32, wanted: Wanted) -> io::Result<Asked> {
    let mut bus = connect(root, uid)?;
    let serial = start(&mut bus, &wanted)?;
    Ok(Asked { bus, serial, wanted })
}

fn start(bus: &mut Bus, wanted: &Wanted) -> io::Result<u32> {
    let mut body = Body::default();
    body.string(&wanted.unit);
    body.string("fail");
    body.array(8, |properties| {
        properties.property("Description", "s", |v| v.string(&wanted.description));
        if let Some(slice) = &wanted.slice {
            properties.property("Slice", "s", |v| v.string(slice));
        }
        properties.property("PIDs", "au", |v| v.array(4, |pids| pids.u32(wanted.pid)));
        properties.property("Delegate", "b", |v| v.u32(1));
        // Nothing of it stays when its processes are gone, however they ended.
        properties.property("CollectMode", "s", |v| v.string("inactive-or-failed"));
        // The container's own limit is the one that counts.
        properties.property("TasksMax", "t", |v| v.u64(u64::MAX));
    });
    // Auxiliary units: none.
    body.array(8, |_| {});
    bus.call(SYSTEMD, OBJECT, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)
}

impl Asked {
    /// Waits until the process is in the scope.
    pub(super) fn wait(mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let unit = self.wanted.unit.clone();
        let failed = |reason: String| Failure::new(format!("systemd did not make {unit:?}: {reason}"));
        let mut job = None;
        loop {
            let message = self.bus.next(deadline).map_err(|e| failed(e.to_string()))?;
            match message.kind {
                Kind::Return if message.reply_to == self.serial => job = Some(message.first_string()),
                Kind::Error if message.reply_to == self.serial => {
                    // What the container's last life left is still being cleaned up.
                    if message.error.ends_with(".UnitExists") && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(5));
                        self.serial = start(&mut self.bus, &self.wanted).map_err(|e| failed(e.to_string()))?;
                        continue;
                    }
                    return Err(failed(message.first_string()).into());
                }
                Kind::Signal if message.member == "JobRemoved" => {
                    // The answer to the call comes before the signal of the job's end.
                    let Some((path, _, result)) = message.job_removed() else { continue };
                    if job.as_ref() == Some(&path) {
                        return if result == "done" {
                            Ok(())
                        } else {
                            Err(failed(format!("its job ended as {result:?}")).into())
                        };
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_as_objects() {
        assert_eq!(object_name("a-1.service"), "a_2d1_2eservice");
        assert_eq!(object_name("1a@x.service"), "_31a_40x_2eservice");
    }

    #[test]
    fn addresses_of_buses() {
        let address = "unix:path=/run/user/1000/bus,guid=12;tcp:host=x;unix:abstract=/tmp/y;unix:guid=3,path=/z";
        assert_eq!(bus_paths(address).collect::<Vec<_>>(), [Path::new("/run/user/1000/bus"), Path::new("/z")]);
    }
}

//! The file that events are appended to, and the change to a new one.
//!
//! A writer holds flock(2) on the file from before it asks the time until its line is written: so
//! times ascend from line to line, and the file that has reached [`LARGEST`] is moved away by a
//! writer while no other writes to it. Nobody waits for long: who cannot have the lock writes
//! without it, which at worst puts two lines in the wrong order.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::Event;
use crate::store::{Lock, Store};

/// Bytes of a file after which a new one is begun: some 10,000 events.
const LARGEST: u64 = 4 << 20;

/// Files that are kept beside the current one: `log.1`, the youngest, and so on.
pub(super) const KEPT: usize = 2;

/// How often the lock is tried for, and the pause between: another writer has it for microseconds.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// Where the files are.
pub(super) fn folder(store: &Store) -> PathBuf {
    store.root().join("events")
}

/// The current file, number 0, or an older one.
pub(super) fn file(store: &Store, number: usize) -> PathBuf {
    let name = if number == 0 { "log".to_owned() } else { format!("log.{number}") };
    folder(store).join(name)
}

/// Gives the event its time and appends it.
pub(super) fn append(store: &Store, event: &mut Event) -> io::Result<()> {
    append_to(store, event, LARGEST)
}

pub(super) fn append_to(store: &Store, event: &mut Event, largest: u64) -> io::Result<()> {
    loop {
        let file = open(store)?;
        let is_locked = lock(&file);
        let meta = file.metadata()?;
        if meta.len() >= largest && is_locked {
            // Nobody moves a smaller one away, so only here another may have been faster.
            if fs::metadata(self::file(store, 0)).is_ok_and(|current| current.ino() == meta.ino()) {
                rotate(store)?;
            }
            continue;
        }
        return write(&file, meta.len(), event);
    }
}

fn open(store: &Store) -> io::Result<File> {
    let path = file(store, 0);
    let open = || File::options().read(true).append(true).create(true).mode(0o600).open(&path);
    match open() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder(store))?;
            open()
        }
        opened => opened,
    }
}

/// Whether the file is locked now; after a while it is not.
fn lock(file: &File) -> bool {
    let is_had = |n| {
        if n > 0 {
            std::thread::sleep(PAUSE);
        }
        file.try_lock().is_ok()
    };
    (0..TRIES).any(is_had)
}

/// Moves the current file away. The caller has it locked; the folder's lock tells readers that the
/// names of the files hold still.
fn rotate(store: &Store) -> io::Result<()> {
    let _lock = Lock::exclusive(&folder(store))?;
    for number in (0..KEPT).rev() {
        match fs::rename(file(store, number), file(store, number + 1)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Writes the line, behind `length` bytes; all of it or nothing.
fn write(mut file: &File, length: u64, event: &mut Event) -> io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    event.time = i64::try_from(now.as_secs()).unwrap_or_default();
    event.nanos = i64::try_from(now.as_nanos()).unwrap_or_default();
    let mut line = Vec::with_capacity(512);
    // Past a line that a machine without power left half written.
    let mut last = [b'\n'];
    if length > 0 && file.read_at(&mut last, length - 1).is_ok() && last != [b'\n'] {
        line.push(b'\n');
    }
    serde_json::to_writer(&mut line, event)?;
    line.push(b'\n');
    match file.write(&line) {
        Ok(written) if written == line.len() => Ok(()),
        // The disk is full: half a line is of no use to anybody.
        Ok(_) => file.set_len(length),
        Err(e) => Err(e),
    }
}

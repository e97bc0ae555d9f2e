//! Copies between a container and the host: `cp`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::data::Data;
use super::make::{Maker, Owner, same_mount};
use super::place::{End, Landing, Route, Target};
use super::tree::{Access, Entered, Tree};
use crate::container::config::ContainerConfig;
use crate::error::Failure;
use crate::image::pack::Sink;
use crate::image::pack::tar::{END, Writer};
use crate::image::pack::walk::{Enter, Links, Node, is, walk};
use crate::image::unpack::tar::{Entry, Kind, Reader};
use crate::image::unpack::{Compression, Decoder};
use crate::store::Store;
use crate::sys::openat2::open_in_root;
use crate::userns;

/// Links that are followed at most, as the kernel counts them: path_resolution(7).
const LINKS: u32 = 40;

const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The side of a copy that is in a container.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    pub store: &'a Store,
    pub config: &'a ContainerConfig,
    /// What the user called the container.
    pub name: &'a str,
    /// As the user wrote it.
    pub path: &'a OsStr,
}

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A source that is a link stands for what it leads to (`-L`).
    pub follow: bool,
    /// Copies belong to whom the originals belong (`-a`).
    pub archive: bool,
}

/// Copies something of the container's to the host's path `local`. `told`: of bytes, as an archive
/// would count them.
///
/// # Errors
/// Docker's, see [`super::place`]; what the system calls say.
pub fn take_out(from: Inside<'_>, local: &OsStr, options: Options, told: &mut dyn FnMut(u64)) -> Result<Route> {
    let route = local_route(local)?;
    check_output(Path::new(OsStr::from_bytes(&route.shown())))?;
    let entered = Entered::enter(from.store)?;
    let tree = entered.open(from.store, from.config, Access::Read)?;
    let (source, path) = from.find(&tree, options.follow)?;
    let is_folder = is(&fstat(&source)?, SFlag::S_IFDIR);
    let landing = local_target(&route)?.land(is_folder, &path, route.end != End::Name, &route.path)?;
    let owner = if options.archive { Owner::Original } else { Owner::Maker };
    let mut maker = Maker::new(landing.folder, landing.shown, owner, told);
    copy(source, &landing.name, &tree, &mut maker, |entry| tree.owners.inward(entry))?;
    maker.finish()?;
    told(END);
    Ok(route)
}

/// Writes an archive of something of the container's; returns how many files became shorter while
/// they were read.
///
/// # Errors
/// As [`take_out`].
pub fn write_out(from: Inside<'_>, archive: File, follow: bool) -> Result<u64> {
    let entered = Entered::enter(from.store)?;
    let tree = entered.open(from.store, from.config, Access::Read)?;
    let (source, path) = from.find(&tree, follow)?;
    let name = match path.end {
        End::Dot if is(&fstat(&source)?, SFlag::S_IFDIR) => b".".to_vec(),
        _ if follow => target_name(&source).unwrap_or_else(|| path.name().to_vec()),
        _ => path.name().to_vec(),
    };
    let mut writer = Writer::new(archive);
    copy(source, &name, &tree, &mut writer, |entry| tree.owners.inward(entry))?;
    let shortened = writer.shortened();
    writer.finish().context("write the archive")?;
    Ok(shortened)
}

/// Copies the host's file or folder `local` into the container; returns where it went, as the user
/// knows it.
///
/// # Errors
/// As [`take_out`], and where the container may not be written to.
pub fn bring_in(to: Inside<'_>, local: &OsStr, options: Options, told: &mut dyn FnMut(u64)) -> Result<String> {
    let route = local_route(local)?;
    let entered = Entered::enter(to.store)?;
    let tree = entered.open(to.store, to.config, Access::Write)?;
    let (target, asserted) = to.target(&tree)?;
    let follow = options.follow || route.end != End::Name;
    let source = open_local(&route, follow)?;
    let is_folder = is(&fstat(&source)?, SFlag::S_IFDIR);
    let landing = target.land(is_folder, &route, asserted, &to.route().path)?;
    check_writable(&landing, &tree)?;
    // Numbers of owners are the host's, as they would come from an engine that is not in the user's
    // own namespace.
    let (uids, gids) = userns::outer_ids();
    let owner = if options.archive { Owner::Original } else { Owner::Root };
    let mut maker = Maker::new(landing.folder, landing.shown, owner, told).of(&tree.owners);
    copy(source, &landing.name, &tree, &mut maker, |entry| {
        entry.uid = uids(entry.uid);
        entry.gid = gids(entry.gid);
    })?;
    maker.finish()?;
    told(END);
    Ok(format!("{}:{}", to.name, to.path.to_string_lossy()))
}

/// Unpacks an archive into a folder of the container; owners are as the archive says.
///
/// # Errors
/// As [`bring_in`]; a damaged archive, and names in it that lead out of the folder.
pub fn unpack_in(to: Inside<'_>, archive: File, told: &mut dyn FnMut(u64)) -> Result<String> {
    let entered = Entered::enter(to.store)?;
    let tree = entered.open(to.store, to.config, Access::Write)?;
    let (Target::Folder(folder), _) = to.target(&tree)? else {
        bail!("destination \"{}:{}\" must be a directory", to.name, to.path.to_string_lossy());
    };
    let landing = Landing { folder, shown: to.route().path, name: Vec::new() };
    check_writable(&landing, &tree)?;
    let mut input = BufReader::with_capacity(1 << 18, archive);
    let compression = Compression::detect(input.fill_buf().context("read the archive")?)?;
    let plain = BufReader::with_capacity(1 << 18, Decoder::new(input, compression)?);
    let mut reader = Reader::new(plain);
    let mut maker = Maker::new(landing.folder, landing.shown, Owner::Original, told).of(&tree.owners);
    while let Some(entry) = reader.next_entry().context("read the archive")? {
        maker.put(&entry, Data::Archive(&mut reader))?;
    }
    maker.finish()?;
    // Whoever writes the archive is not stopped in the middle of the zeros behind it.
    std::io::copy(&mut reader.into_inner(), &mut std::io::sink()).context("read the archive")?;
    told(END);
    Ok(format!("{}:{}", to.name, to.path.to_string_lossy()))
}

impl Inside<'_> {
    fn route(&self) -> Route {
        Route::new(b"/", self.path.as_bytes())
    }

    fn not_found(&self, path: &OsStr) -> anyhow::Error {
        let path = path.to_string_lossy();
        Failure::new(format!("Could not find the file {path} in container {}", self.name)).into()
    }

    /// Opens the source of a copy.
    fn find(&self, tree: &Tree, follow: bool) -> Result<(OwnedFd, Route)> {
        let route = self.route();
        let mut flags = OFlag::O_PATH;
        if route.end != End::Name {
            flags |= OFlag::O_DIRECTORY;
        } else if !follow {
            flags |= OFlag::O_NOFOLLOW;
        }
        match open_in_root(&tree.root, route.path.as_slice(), flags) {
            Ok(source) => Ok((source, route)),
            Err(Errno::ENOENT) => Err(self.not_found(self.path)),
            Err(e) => Err(e).with_context(|| format!("open {:?} in container {}", self.path, self.name)),
        }
    }

    /// What is at the destination, and whether its path says that it is a folder.
    fn target(&self, tree: &Tree) -> Result<(Target, bool)> {
        let route = self.route();
        let asserted = route.end != End::Name;
        let found = match open_in_root(&tree.root, route.path.as_slice(), OFlag::O_PATH) {
            Ok(found) => Some(found),
            Err(Errno::ENOENT) => None,
            Err(e) => {
                return Err(e).with_context(|| format!("open {:?} in container {}", self.path, self.name));
            }
        };
        if let Some(found) = found {
            let stat = fstat(&found)?;
            if is(&stat, SFlag::S_IFDIR) {
                return Ok((Target::Folder(found), asserted));
            }
            if is(&stat, SFlag::S_IFCHR) || is(&stat, SFlag::S_IFBLK) {
                bail!(
                    "destination \"{}:{}\" must be a directory or a regular file: got a device",
                    self.name,
                    self.path.to_string_lossy()
                );
            }
            if !asserted {
                let (folder, name, shown) = self.last_step(tree, &route.path)?;
                return Ok((Target::Other { folder, name, shown }, false));
            }
        }
        let (folder, name, shown) = self.last_step(tree, &route.path)?;
        Ok((Target::Nothing { folder, name, shown }, asserted))
    }

    /// The folder in which a path ends, and the name in it, past links that are at the path's end.
    fn last_step(&self, tree: &Tree, path: &[u8]) -> Result<(OwnedFd, Vec<u8>, Vec<u8>)> {
        let mut path = PathBuf::from(OsStr::from_bytes(path));
        for _ in 0..LINKS {
            let above = path.parent().unwrap_or(Path::new("/")).to_owned();
            let name = path.file_name().unwrap_or_default().to_owned();
            let folder = match open_in_root(&tree.root, &above, FOLDER) {
                Err(Errno::ENOENT) => return Err(self.not_found(above.as_os_str())),
                Err(Errno::ENOTDIR) => bail!("extraction point is not a directory"),
                other => other.with_context(|| format!("open {above:?} in container {}", self.name))?,
            };
            match readlinkat(&folder, name.as_os_str()) {
                Ok(to) => path = Path::new("/").join(above.join(to)),
                Err(_) => return Ok((folder, name.into_vec(), above.into_os_string().into_vec())),
            }
        }
        Err(Errno::ELOOP).with_context(|| format!("open {:?} in container {}", self.path, self.name))
    }
}

/// Copies `source` and all in it under the name `name`.
fn copy<S: Put>(source: OwnedFd, name: &[u8], tree: &Tree, sink: &mut S, adapt: impl Fn(&mut Entry)) -> Result<()> {
    let mut links = Links::default();
    walk(source, |node| {
        let path = if node.path.is_empty() { name.to_vec() } else { [name, &node.path].join(&b'/') };
        let Some(mut entry) = node.entry(path).with_context(|| shown(node))? else { return Ok(Enter::No) };
        adapt(&mut entry);
        let mut noted = entry;
        links.note(&node.stat, &mut noted);
        sink.put_node(&noted, node)?;
        let is_system = !node.path.is_empty() && tree.system.contains(&(node.stat.st_dev, node.stat.st_ino));
        Ok(if is_system { Enter::No } else { Enter::Yes })
    })
}

fn shown(node: &Node) -> String {
    format!("read {:?}", OsStr::from_bytes(&node.path))
}

/// Where the objects of a walk go.
trait Put {
    fn put_node(&mut self, entry: &Entry, node: &Node) -> Result<()>;
}

impl Put for Writer<File> {
    fn put_node(&mut self, entry: &Entry, node: &Node) -> Result<()> {
        let data = if entry.kind == Kind::File { Some(node.data().with_context(|| shown(node))?) } else { None };
        self.put(entry, data.as_ref())
    }
}

impl Put for Maker<'_> {
    fn put_node(&mut self, entry: &Entry, node: &Node) -> Result<()> {
        if entry.kind == Kind::HardLink {
            if self.put(entry, Data::None).is_ok() {
                return Ok(());
            }
            // The first name has been taken away meanwhile, or lies on another file system: a copy.
            let Some(mut copy) = node.entry(entry.path.clone())? else { return Ok(()) };
            (copy.uid, copy.gid) = (entry.uid, entry.gid);
            return self.put_node(&copy, node);
        }
        match entry.kind {
            Kind::File => self.put(entry, Data::File(&node.data().with_context(|| shown(node))?)),
            _ => self.put(entry, Data::None),
        }
    }
}

/// Docker's words for what cannot be written to.
fn check_writable(landing: &Landing, tree: &Tree) -> Result<()> {
    let flags = fstatvfs(&landing.folder).context("look at the destination")?.flags();
    if !flags.contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    if same_mount(landing.folder.as_fd(), tree.root.as_fd()) {
        bail!("container rootfs is marked read-only");
    }
    bail!("mounted volume is marked read-only");
}

/// The last name of the path to what `file` names.
fn target_name(file: &OwnedFd) -> Option<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    Some(path.file_name()?.as_bytes().to_vec())
}

fn local_route(path: &OsStr) -> Result<Route> {
    let here = std::env::current_dir().context("where is the working directory")?;
    Ok(Route::new(here.as_os_str().as_bytes(), path.as_bytes()))
}

fn open_local(route: &Route, follow: bool) -> Result<OwnedFd> {
    let mut path = route.path.clone();
    if route.end != End::Name && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    // Docker's words, which are Go's.
    let name = || OsStr::from_bytes(&route.shown()).to_string_lossy().into_owned();
    match open(path.as_slice(), flags, Mode::empty()) {
        Err(Errno::ENOENT) => bail!("lstat {}: no such file or directory", name()),
        Err(Errno::ENOTDIR) => bail!("lstat {}: not a directory", name()),
        other => other.with_context(|| format!("lstat {}", name())),
    }
}

/// Whether a copy can go to this path of the host's.
///
/// # Errors
/// Docker's words: its folder is not there, or it is a device.
fn check_output(path: &Path) -> Result<()> {
    let route = local_route(path.as_os_str())?;
    let folder = Path::new(OsStr::from_bytes(route.folder()));
    if fs::metadata(folder).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        bail!("invalid output path: directory {folder:?} does not exist");
    }
    match fs::metadata(path) {
        Ok(meta) if meta.file_type().is_char_device() || meta.file_type().is_block_device() => {
            bail!("invalid output path: {path:?} must be a directory or a regular file: got a device")
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("stat {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What is at a path of the host's.
fn local_target(route: &Route) -> Result<Target> {
    let mut path = PathBuf::from(OsStr::from_bytes(&route.path));
    let opened = |path: &Path| open(path, FOLDER, Mode::empty()).with_context(|| format!("open {path:?}"));
    if fs::metadata(&path).is_ok_and(|meta| meta.is_dir()) {
        return Ok(Target::Folder(opened(&path)?));
    }
    let exists = fs::metadata(&path).is_ok();
    // A link stands for what it leads to, be that there or not.
    for _ in 0..LINKS {
        let Ok(to) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(to);
    }
    let above = path.parent().unwrap_or(Path::new("/")).to_owned();
    let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
    let (folder, shown) = (opened(&above)?, above.into_os_string().into_vec());
    Ok(if exists { Target::Other { folder, name, shown } } else { Target::Nothing { folder, name, shown } })
}

//! A layer of what an overlay's upper folder holds: the archive that, unpacked above the layers
//! below, gives the same tree (OCI image specification, layer.md).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use anyhow::Result;

use super::tar::{Output, Writer};
use super::walk::{Enter, Links, Node, walk};
use crate::image::unpack::Compression;
use crate::image::unpack::apply::is_whiteout;
use crate::image::unpack::path::split;
use crate::image::unpack::tar::{Entry, Kind};
use crate::sys::xattr::Object;

/// What begins the name of a whiteout, which no file of a layer can have.
const WHITEOUT: &[u8] = b".wh.";
/// Says of the folder it is in that nothing below shows through.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Overlay's mark of an opaque folder, with and without `userxattr`.
const MARKS: [&std::ffi::CStr; 2] = [c"trusted.overlay.opaque", c"user.overlay.opaque"];

/// Whether overlay shows nothing of the layers below in this folder.
///
/// # Errors
/// As getxattr(2).
pub fn is_opaque(folder: &OwnedFd) -> std::io::Result<bool> {
    use std::os::fd::AsFd;
    let object = Object::opened(folder.as_fd())?;
    for mark in MARKS {
        match object.get(mark) {
            // "x" says something else: that whiteouts here may be files with an attribute.
            Ok(value) if value.as_deref() == Some(b"y") => return Ok(true),
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ENOTSUP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// What became of writing it.
#[derive(Debug, Default)]
pub struct Packed {
    /// It says nothing: no entry was written.
    pub is_empty: bool,
    /// Files whose name would say something else in a layer, which were left out.
    pub unspeakable: Vec<Vec<u8>>,
}

/// Writes the layer. `hidden`: paths that are left out, with all below them. `root`: the root folder
/// differs from the one below, and gets an entry. `adapt` changes what is said of each object.
///
/// # Errors
/// The folder cannot be read, the archive cannot be written.
pub fn pack<W: Output>(
    upper: OwnedFd,
    hidden: &BTreeSet<Vec<u8>>,
    root: bool,
    adapt: impl Fn(&mut Entry),
    out: &mut Writer<W>,
) -> Result<Packed> {
    let mut links = Links::default();
    let mut packed = Packed { is_empty: true, ..Packed::default() };
    walk(upper, |node| {
        if hidden.contains(&node.path) || (node.path.is_empty() && !root) {
            return Ok(if node.path.is_empty() { Enter::Yes } else { Enter::No });
        }
        let name = split(&node.path).1;
        if name.starts_with(WHITEOUT) {
            packed.unspeakable.push(node.path.clone());
            return Ok(Enter::No);
        }
        packed.is_empty = false;
        add(node, &mut links, &adapt, out)?;
        Ok(Enter::Yes)
    })?;
    Ok(packed)
}

fn add<W: Output>(node: &Node, links: &mut Links, adapt: impl Fn(&mut Entry), out: &mut Writer<W>) -> Result<()> {
    if is_whiteout(&node.stat) {
        let (folder, name) = split(&node.path);
        let mut entry = Entry::new(Kind::File, speakable(beside(folder, &[WHITEOUT, name].concat())));
        entry.mtime = (node.stat.st_mtime, 0);
        return Ok(out.add(&entry, None)?);
    }
    let path = if node.path.is_empty() { b".".to_vec() } else { speakable(node.path.clone()) };
    let Some(mut entry) = node.entry(path)? else { return Ok(()) };
    adapt(&mut entry);
    links.note(&node.stat, &mut entry);
    let data = if entry.kind == Kind::File { Some(node.data()?) } else { None };
    out.add(&entry, data.as_ref())?;
    if entry.kind == Kind::Directory && !node.path.is_empty() && is_opaque(&node.handle)? {
        let mut mark = Entry::new(Kind::File, speakable(beside(&node.path, OPAQUE)));
        mark.mtime = entry.mtime;
        out.add(&mark, None)?;
    }
    Ok(())
}

fn beside(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') }
}

/// The same name, but none that makes the archive look compressed: its first bytes are what every
/// reader goes by.
fn speakable(path: Vec<u8>) -> Vec<u8> {
    match Compression::detect(&path) {
        Ok(Compression::None) => path,
        _ => [b"./", path.as_slice()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::unpack::tar::Reader;
    use std::fs::File;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn marks_become_names_and_hidden_things_stay_out() {
        let home = tempfile::tempdir().expect("a folder");
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir_all(at("d/e")).expect("made");
        std::fs::write(at("d/.wh.trap"), "").expect("made");
        std::fs::write(at("BZh"), "").expect("made");
        std::fs::write(at("hosts"), "").expect("made");
        let folder: OwnedFd = File::open(at("d")).expect("open").into();
        if Object::open(&folder).and_then(|d| d.set(c"user.overlay.opaque", b"y")).is_err() {
            // Not on this file system.
            return;
        }
        let whiteout = nix::sys::stat::mknod(
            &at("d/gone"),
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::empty(),
            nix::sys::stat::makedev(0, 0),
        );
        let mut out = Writer::new(tempfile::tempfile().expect("a file"));
        let upper = File::open(home.path()).expect("open").into();
        let packed = pack(upper, &BTreeSet::from([b"hosts".to_vec()]), false, |_| {}, &mut out).expect("packed");
        assert_eq!(packed.unspeakable, [b"d/.wh.trap".to_vec()]);
        let (mut file, _) = out.finish().expect("finished");
        file.seek(SeekFrom::Start(0)).expect("rewound");
        let mut reader = Reader::new(std::io::BufReader::new(file));
        let mut paths = Vec::new();
        while let Some(entry) = reader.next_entry().expect("good") {
            assert!(entry.xattrs.is_empty());
            paths.push(String::from_utf8(entry.path).expect("text"));
        }
        let mut expected = vec!["./BZh", "d/", "d/.wh..wh..opq", "d/e/", "d/.wh.gone"];
        if whiteout.is_err() {
            expected.pop();
        }
        assert_eq!(paths, expected);
    }
}

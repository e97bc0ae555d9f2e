//! Archives that people compress with xz or bzip2, for `import` and `load`: those programs decompress them,
//! as Docker has it. Layers of registries are never compressed so.

use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

use super::bomb;
use crate::error::Failure;
use crate::image::blobs::Temporary;

/// The program that decompresses what begins so.
#[must_use]
pub fn program(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        _ => None,
    }
}

/// What a program makes of a file.
#[derive(Debug)]
pub struct Foreign {
    program: &'static str,
    child: Child,
    output: Option<ChildStdout>,
    /// Bytes of the file, and of what was made of it.
    consumed: u64,
    made: u64,
}

impl Foreign {
    /// All of `source`, kept in a file of `dir` meanwhile: a program reads by itself.
    ///
    /// # Errors
    /// It cannot be read or kept; the program is not there.
    pub fn start(program: &'static str, mut source: impl Read, dir: &Path) -> Result<Self> {
        let place = Temporary::in_dir(dir);
        let mut file = place.create()?;
        let consumed = io::copy(&mut source, &mut file).context("read it")?;
        file.rewind()?;
        log::debug!("run {program} -dc");
        let child = Command::new(program).arg("-dc").stdin(file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|e| {
            let package = if program == "xz" { "xz-utils" } else { program };
            let how = format!("install {program:?} (Debian: apt-get install {package}), or decompress it first");
            Failure::new(format!("it is compressed with {program}: run {program:?}")).source(e).hint(how)
        })?;
        let output = child.stdout.take().context("its output")?;
        Ok(Self { program, child, output: Some(output), consumed, made: 0 })
    }
}

impl Read for Foreign {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(output) = &mut self.output else { return Ok(0) };
        let n = output.read(into)?;
        self.made += n as u64;
        if self.made > bomb::allowed(self.consumed) {
            return Err(bomb::error());
        }
        if n == 0 && !into.is_empty() {
            self.output = None;
            if !self.child.wait()?.success() {
                let why = format!("damaged compressed data: {:?} cannot read it", self.program);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(n)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It ends when nobody reads what it writes.
        self.output = None;
        let _ = self.child.wait();
    }
}

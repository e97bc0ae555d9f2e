//! A further process in a running container.

use anyhow::{Result, bail};

use crate::container::attach::Outcome;
use crate::store::{Id, Store};

/// What `ctr exec` asks for.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    pub argv: Vec<String>,
    /// `NAME=value`, added to the container's own.
    pub env: Vec<String>,
    /// `user[:group]`; `None`: the container's.
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub tty: bool,
    pub interactive: bool,
    pub detach: bool,
    pub privileged: bool,
    pub detach_keys: Option<String>,
}

/// Runs it and returns how it ended; at once, with `Detached`, for `detach`.
pub fn run(_store: &Store, _id: &Id, _exec: &Exec) -> Result<Outcome> {
    bail!("exec::run is not built yet")
}

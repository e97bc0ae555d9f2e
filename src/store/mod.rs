//! The state on disk: where it lies, how it is replaced, who may write it, and what becomes of
//! what a dead process left. Everything above keeps its records through this folder.
//!
//! Promises: a record is read without a lock and is always whole; two writers of one object are
//! one after the other; a name has one owner; and whatever instant a process is killed at, the
//! next one finds the old state or the new one ([`sweep`] removes the garbage).

mod id;
mod lock;
pub mod names;
pub mod record;
mod root;
pub mod sweep;
pub mod tree;

pub use id::Id;
pub use lock::Lock;
pub use root::Store;

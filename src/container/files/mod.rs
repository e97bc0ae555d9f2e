//! A container's files, for those who are not in it: `cp`, `diff`, `export`, and `commit` beside it.
//!
//! - [`tree`] opens them, of a container that runs or does not;
//! - [`copy`] takes them out and brings others in, by the rules of [`place`]; [`make`] makes each,
//!   with [`data`] in it;
//! - [`diff`] tells what the container changed, [`export`] packs all of it.
//!
//! Whoever is in the container may change anything at any time, and wants to be led out of it. So
//! all paths are resolved by the kernel with the container's root as theirs (openat2(2)), trees are
//! walked and made one name at a time by descriptors, and nothing is done to an object but through
//! the descriptor by which it was looked at.
//!
//! These commands mount what they need in a mount namespace of their own, as this one process. When
//! it ends, however it ends, nothing is left of it.

pub mod copy;
mod data;
pub mod diff;
pub mod export;
pub mod make;
pub mod place;
pub mod tree;

//! Commands of the group `image` that have no short form, and what `images` shows as a tree.

mod diff;
mod mount;
mod platforms;
mod scp;
mod tree;

pub use self::diff::Diff;
pub use self::mount::{Mount, Unmount};
pub use self::scp::Scp;
pub use self::tree::Tree;

pub(super) use self::platforms::show as platforms;

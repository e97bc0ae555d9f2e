//! Commands of the group `image` that have no short form, and what `images` shows as a tree.

mod platforms;

pub(super) use platforms::show as platforms;

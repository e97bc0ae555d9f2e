//! `ctr secret …`: a file for each command.

mod create;
mod inspect;
mod ls;
mod rm;

pub use create::Create;
pub use inspect::Inspect;
pub use ls::Ls;
pub use rm::Rm;

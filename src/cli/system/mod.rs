//! `ctr system …` and `ctr image prune`: a file for each command.

mod check;
mod df;
mod image_prune;
mod prune;
mod reset;

pub use check::Check;
pub use df::Df;
pub use image_prune::ImagePrune;
pub use prune::Prune;
pub use reset::Reset;

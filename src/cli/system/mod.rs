//! `ctr system …` and `ctr image prune`: a file for each command.

mod df;
mod image_prune;
mod prune;

pub use df::Df;
pub use image_prune::ImagePrune;
pub use prune::Prune;

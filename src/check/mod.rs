//! Whether all that is on record is whole and agrees: for `ctr system check`, after a crash, a full
//! disk, a failing disk, or somebody's hand in the storage root.
//!
//! Each file looks at one kind of thing and returns what it found; nothing is changed by looking but
//! what every other command puts in order too. A [`Finding`] brings its repair along where one is
//! possible without a loss.

mod containers;
mod images;
mod layers;
mod networks;

use anyhow::Result;

use crate::store::Store;
use crate::userns;

/// Something that is wrong.
pub struct Finding {
    /// `container web (0123456789ab)`, `layer 0123456789ab`, a path.
    pub object: String,
    /// What is wrong with it, as the sentence goes on behind a colon.
    pub problem: String,
    pub remedy: Remedy,
}

type Repair = dyn Fn(&Store) -> Result<()>;

/// What can be done about it.
pub enum Remedy {
    /// What the repair does, in words, and the repair.
    Repair(String, Box<Repair>),
    /// What a person can do: it costs something, or needs what is not here.
    Advice(String),
}

impl std::fmt::Debug for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

impl Finding {
    fn repairable(
        object: impl Into<String>,
        problem: impl Into<String>,
        words: impl Into<String>,
        repair: impl Fn(&Store) -> Result<()> + 'static,
    ) -> Self {
        let remedy = Remedy::Repair(words.into(), Box::new(repair));
        Self { object: object.into(), problem: problem.into(), remedy }
    }

    fn lasting(object: impl Into<String>, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { object: object.into(), problem: problem.into(), remedy: Remedy::Advice(advice.into()) }
    }
}

/// Looks at everything, and tells `each` what it finds. `quick`: no file's content is read but the
/// records. The process is in the user's own namespace afterwards.
///
/// # Errors
/// A directory cannot be read.
pub fn all(store: &Store, quick: bool, mut each: impl FnMut(Finding)) -> Result<()> {
    // What containers have beside their files is for the user's own process to look at.
    let found = containers::look(store)?.into_iter().chain(networks::look(store)?);
    found.for_each(&mut each);
    // Layers belong to subordinate ids.
    userns::enter(store)?;
    images::look(store, quick)?.into_iter().for_each(each);
    Ok(())
}

//! A container whose monitor was killed, put in order.

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::container::state::{self, Phase, State};
use crate::store::record::{self, Durability};
use crate::store::{Id, Lock, Store};

/// Records the end that nobody was there to record. Does nothing when it runs, or when somebody
/// else holds its lock.
///
/// # Errors
/// Its record cannot be written.
pub fn heal(store: &Store, id: &Id) -> Result<()> {
    let place = store.container(id);
    let Some(_lock) = Lock::try_exclusive(&place).with_context(|| format!("lock {place:?}"))? else { return Ok(()) };
    if state::is_alive(store, id) {
        return Ok(());
    }
    let path = place.join("state.json");
    let Some(mut state) = record::read::<State>(&path)? else { return Ok(()) };
    if let Phase::Running { started } = state.phase {
        state.phase = Phase::Exited { started, finished: Timestamp::now(), code: 137, oom_killed: false };
        record::write(&path, &state, Durability::Unsynced)?;
    }
    Ok(())
}

//! `ctr network doctor`: says in words what keeps containers from being reached or from reaching
//! others, and what to do about it. It asks the kernel, tries things out, and compares with the
//! records; nothing is changed but by [`repair`].
//!
//! ```text
//! host       what containers get from the machine's own network: routes, name servers, settings
//! kernel     what the kernel and the user's ids allow
//! space      bridges, rules and the uplink of the networks that are in use
//! container  one container: its interfaces, names, the way out, its published ports
//! ask        questions to others: name servers, ports, tables of sockets
//! ```

mod ask;
mod container;
mod host;
mod kernel;
mod space;

use anyhow::Result;
use serde::Serialize;

use crate::network::record::Driver;
use crate::network::space::Space;
use crate::network::{bridge, member, record, rules};
use crate::store::{Id, Store};
use crate::userns;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    Ok,
    /// Something will not work that not everybody needs.
    Warning,
    /// Something that was asked for does not work.
    Problem,
}

impl Mark {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    pub mark: Mark,
    /// What was looked at, in a word or two: `default route`.
    pub about: String,
    /// What was found, without a full stop.
    pub text: String,
    /// What to do about it; empty: nothing.
    pub fix: String,
}

/// Findings in the order they were made.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// The gravest mark; [`Mark::Ok`] where nothing was found.
    #[must_use]
    pub fn worst(&self) -> Mark {
        self.0.iter().map(|finding| finding.mark).max().unwrap_or(Mark::Ok)
    }

    fn add(&mut self, mark: Mark, about: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { mark, about: about.to_owned(), text: text.into(), fix: fix.into() });
    }

    fn ok(&mut self, about: &str, text: impl Into<String>) {
        self.add(Mark::Ok, about, text, "");
    }

    fn warning(&mut self, about: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.add(Mark::Warning, about, text, fix);
    }

    fn problem(&mut self, about: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.add(Mark::Problem, about, text, fix);
    }

    /// What could not be found out is a problem too.
    fn failed(&mut self, about: &str, error: &anyhow::Error) {
        self.problem(about, crate::error::message(error), crate::error::hint(error).unwrap_or_default());
    }
}

/// Who looks: what an ordinary user's containers need differs from what root's need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

impl Who {
    fn am_i() -> Self {
        if userns::is_host_root() { Self::Root } else { Self::User }
    }
}

/// Looks at the machine. This process is in the user's own user namespace afterwards; it must have
/// one thread still.
///
/// # Errors
/// The records cannot be read: whatever else fails is a finding.
pub fn machine(store: &Store) -> Result<Report> {
    let mut report = Report::default();
    let who = Who::am_i();
    host::look(&mut report, who);
    kernel::settings(&mut report, who);
    if let Err(e) = userns::enter(store) {
        report.failed("user namespace", &e);
        return Ok(report);
    }
    kernel::look(&mut report, who);
    host::overlaps(&mut report, store)?;
    match Space::find(store)? {
        Some(space) => space::look(&mut report, store, &space)?,
        None => report.ok("networks", "none of your containers is on one at the moment"),
    }
    Ok(report)
}

/// Looks at one container, as [`machine`] does at the machine.
///
/// # Errors
/// The records cannot be read.
pub fn container(store: &Store, id: &Id) -> Result<Report> {
    let mut report = Report::default();
    let who = Who::am_i();
    let servers = host::servers();
    host::names(&mut report, &servers);
    if let Err(e) = userns::enter(store) {
        report.failed("user namespace", &e);
        return Ok(report);
    }
    container::look(&mut report, store, id, who, &servers)?;
    Ok(report)
}

/// Makes the bridges and rules anew that the networks in use should have, and has monitors start an
/// uplink whose rules are gone once more. In the user's own user namespace afterwards.
///
/// # Errors
/// The kernel's refusal.
pub fn repair(store: &Store) -> Result<()> {
    userns::enter(store)?;
    let Some(space) = Space::find(store)? else { return Ok(()) };
    for network in record::list(store)?.iter().filter(|network| network.driver == Driver::Bridge) {
        if !member::living(store, &network.id)?.is_empty() {
            bridge::ensure(store, &space, network)?;
            bridge::rejoin(store, &space, network)?;
        }
    }
    rules::load(store, &space)?;
    space::restart_uplink(&space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_counts() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Mark::Ok);
        report.ok("a", "b");
        report.warning("a", "b", "c");
        assert_eq!(report.worst(), Mark::Warning);
        report.failed("a", &crate::error::Failure::new("no x").hint("make one").into());
        assert_eq!(report.worst(), Mark::Problem);
        let text = serde_json::to_value(&report).unwrap();
        assert_eq!(text[2], serde_json::json!({"Mark": "problem", "About": "a", "Text": "no x", "Fix": "make one"}));
    }
}

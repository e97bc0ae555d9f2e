//! `ctr system check`.

use anyhow::Result;

use crate::check::{self, Finding, Remedy};
use crate::cli::{Globals, Run, output};
use crate::error;
use crate::store::Store;

/// Look whether all that is on record is whole, and repair it
#[derive(Debug, clap::Parser)]
#[command(
    after_help = "It says what is wrong, a line for each, and ends with 1 if anything is (that was not repaired).
Without --quick the digests of all images are computed.

Examples:
  ctr system check --quick
  ctr system check --repair"
)]
pub struct Check {
    /// Do not read the images' content
    #[arg(short, long)]
    quick: bool,
    /// Put in order what can be without a loss
    #[arg(short, long)]
    repair: bool,
}

impl Run for Check {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let mut code = 0;
        let mut repairable = 0;
        check::all(&store, self.quick, |finding| {
            output::print(&format!("{}: {}\n", finding.object, finding.problem));
            repairable += usize::from(matches!(finding.remedy, Remedy::Repair(..)));
            if !self.repair || !repair(&store, &finding) {
                code = 1;
            }
        })?;
        if repairable > 0 && !self.repair {
            output::say("ctr system check --repair puts in order what can be without a loss");
        }
        Ok(code)
    }
}

/// Does what can be done and says so. Returns whether all is well now.
fn repair(store: &Store, finding: &Finding) -> bool {
    match &finding.remedy {
        Remedy::Repair(words, repair) => match repair(store) {
            Ok(()) => {
                output::print(&format!("  repaired: {words}\n"));
                true
            }
            Err(e) => {
                output::print(&format!("  not repaired: {words}: {}\n", error::message(&e)));
                false
            }
        },
        Remedy::Advice(words) => {
            output::print(&format!("  not repaired: {words}\n"));
            false
        }
    }
}

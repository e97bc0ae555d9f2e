//! `ctr network doctor`.

use std::fmt::Write as _;
use std::io::IsTerminal;

use anyhow::Result;

use crate::cli::output::template;
use crate::cli::{Globals, Run, output};
use crate::network::doctor::{self, Mark, Report};
use crate::store::names;

/// Find what is wrong with the network, and say how to put it right
///
/// It looks at this machine, or with CONTAINER at the network of that container. The exit code is 1 when
/// there is a problem.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr network doctor
  ctr network doctor web
  ctr network doctor --format '{{range .}}{{println .Mark .Text}}{{end}}'")]
pub struct Doctor {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
    /// First make bridges and rules anew that somebody removed
    #[arg(long)]
    repair: bool,
    /// Name or id; without it, the machine is looked at
    #[arg(value_name = "CONTAINER")]
    container: Option<String>,
}

impl Run for Doctor {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let id = self.container.as_deref().map(|name| names::resolve(&store, name)).transpose()?;
        if self.repair {
            doctor::repair(&store)?;
        }
        let report = match id {
            Some(id) => doctor::container(&store, &id)?,
            None => doctor::machine(&store)?,
        };
        let text = match self.format.as_deref().filter(|format| !format.is_empty()) {
            Some(source) => template::render(source, &serde_json::to_value(&report)?)?,
            None => plain(&report, std::io::stdout().is_terminal()),
        };
        output::print(&text);
        Ok(u8::from(report.worst() == Mark::Problem))
    }
}

/// A line for each finding, and one for what to do about it.
fn plain(report: &Report, colour: bool) -> String {
    let width = report.0.iter().map(|finding| finding.about.len()).max().unwrap_or_default();
    let mut text = String::new();
    for finding in &report.0 {
        let mark = finding.mark.as_str();
        // Green, yellow, red: ECMA-48's SGR.
        let shade = match finding.mark {
            Mark::Ok => 32,
            Mark::Warning => 33,
            Mark::Problem => 31,
        };
        let shown = if colour { format!("\x1b[{shade}m{mark:<7}\x1b[0m") } else { format!("{mark:<7}") };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{shown}  {:<width$}  {}", finding.about, finding.text);
        if !finding.fix.is_empty() {
            let _ = writeln!(text, "{:9}{:<width$}  fix: {}", "", "", finding.fix);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::doctor::Finding;

    #[test]
    fn a_line_for_each() {
        let finding = |mark, about: &str, fix: &str| Finding {
            mark,
            about: about.to_owned(),
            text: "text".to_owned(),
            fix: fix.to_owned(),
        };
        let report = Report(vec![finding(Mark::Ok, "kernel", ""), finding(Mark::Problem, "MTU", "less")]);
        let expected = "ok       kernel  text\nproblem  MTU     text\n                 fix: less\n";
        assert_eq!(plain(&report, false), expected);
        assert!(plain(&report, true).starts_with("\x1b[32mok     \x1b[0m  kernel"));
    }
}

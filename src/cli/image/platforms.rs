//! `ctr images --tree`: each image once, with its names and its platforms, laid out as Docker does.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};

use crate::cli::output::units;
use crate::image::overview::{Part, Top};
use crate::store::Id;

const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
const LEGEND: &str = "Info →   U  In Use";
const NONE: &str = "<untagged>";
const GAP: &str = "   ";

/// The whole of what is printed.
pub fn show(tops: &[Top]) -> String {
    let names = |top: &Top| if top.names.is_empty() { vec![NONE.to_owned()] } else { top.names.clone() };
    let of_names = tops.iter().flat_map(names).map(|name| name.chars().count());
    let of_parts = tops.iter().flat_map(|top| &top.parts).map(|part| part.platform.chars().count() + 3);
    let width = of_names.chain(of_parts).chain(["IMAGE".len()]).max().unwrap_or_default();

    let mut text = format!("{WARNING}\n");
    let total = width + GAP.len() * 4 + Id::SHORT + 10 + 12 + 5;
    let _ = writeln!(text, "{LEGEND:>total$}");
    let heading = line("IMAGE", width, &["ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"]);
    let _ = writeln!(text, "{}", if stdout().is_terminal() { format!("\x1b[1m{heading}\x1b[0m") } else { heading });
    for (n, top) in tops.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        let names = names(top);
        let (last, others) = names.split_last().map_or((NONE, &[][..]), |(last, others)| (last.as_str(), others));
        for name in others {
            text.extend([name, "\n"]);
        }
        let sum = |of: fn(&Part) -> u64| top.parts.iter().map(of).sum::<u64>();
        let is_used = top.parts.iter().any(|part| part.is_used);
        let shown = cells(top.id.short(), sum(|p| p.content) + sum(|p| p.unpacked), sum(|p| p.content), is_used);
        let _ = writeln!(text, "{}", line(last, width, &shown.each_ref().map(String::as_str)));
        for (n, part) in top.parts.iter().enumerate() {
            let branch = if n + 1 == top.parts.len() { "└─ " } else { "├─ " };
            let shown = cells(part.id.short(), part.content + part.unpacked, part.content, part.is_used);
            let line = line(&format!("{branch}{}", part.platform), width, &shown.each_ref().map(String::as_str));
            let faint = stdout().is_terminal() && !part.is_here;
            let _ = writeln!(text, "{}", if faint { format!("\x1b[2m{line}\x1b[0m") } else { line });
        }
    }
    text
}

fn cells(id: &str, usage: u64, content: u64, is_used: bool) -> [String; 4] {
    [id.to_owned(), units::size(usage), units::size(content), if is_used { "U" } else { "" }.to_owned()]
}

fn line(name: &str, width: usize, cells: &[&str; 4]) -> String {
    let [id, usage, content, extra] = cells;
    // The last column is centred.
    let extra = format!("{extra:^5}");
    let text = format!("{name:<width$}{GAP}{id:<12}{GAP}{usage:>10}{GAP}{content:>12}{GAP}{extra}");
    text.trim_end().to_owned()
}

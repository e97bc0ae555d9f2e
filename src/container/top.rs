//! What `ps` of this machine tells of a container's processes.

use std::collections::HashSet;
use std::io;
use std::process::{Command, Output, Stdio};

use anyhow::Result;

use crate::container::signal::Running;
use crate::container::{launch, processes};
use crate::error::Failure;
use crate::events;
use crate::store::{Id, Store};

/// A table: the headings, and a row for each process with as many cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Runs `ps` with these options (`-ef` without any) and keeps the container's processes, numbered and
/// named as this machine does.
///
/// # Errors
/// The container does not run; there is no `ps`, or it refuses the options; its output has no column
/// `PID`.
pub fn top(store: &Store, id: &Id, options: &[String]) -> Result<Table> {
    let not_running = || Failure::new(format!("container {id} is not running")).exit(1);
    if !launch::is_over(store, id) {
        return Err(not_running().into());
    }
    let running = Running::find(store, id)?.ok_or_else(not_running)?;
    let pids = processes::of(&running.process);
    if pids.is_empty() {
        return Err(not_running().into());
    }
    // Docker joins the words and takes them apart at blanks again.
    let joined = options.join(" ");
    let words: Vec<&str> = if joined.is_empty() { vec!["-ef"] } else { joined.split(' ').collect() };
    check(&joined)?;
    let numbers = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut output = ps(&words, Some(&numbers))?;
    if !output.status.success() {
        // Some options (f) cannot stand beside -q: all processes then, of which the others are left out.
        output = ps(&words, None)?;
    }
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line =
            text.lines().next().filter(|line| !line.is_empty()).map_or_else(|| output.status.to_string(), Into::into);
        return Err(Failure::new(format!("ps: {line}")).exit(1).into());
    }
    let table = parse(&String::from_utf8_lossy(&output.stdout), &pids.into_iter().collect())?;
    events::of_container(store, id, "top", &[]);
    Ok(table)
}

fn ps(words: &[&str], pids: Option<&str>) -> Result<Output> {
    let numbers = pids.map(|pids| format!("-q{pids}"));
    log::debug!("run ps");
    let ran = Command::new("ps").args(words).args(numbers).stdin(Stdio::null()).output();
    ran.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            Failure::new("the program \"ps\" is not here").hint("install it: procps or procps-ng").exit(1).into()
        }
        _ => anyhow::Error::new(e).context("run \"ps\""),
    })
}

/// A column that is called PID and is none would let other processes be taken for the container's:
/// `-o comm=PID`.
fn check(options: &str) -> Result<()> {
    let mut words = options.split_ascii_whitespace().skip(usize::from(!options.starts_with(char::is_whitespace)));
    let given = words.find_map(|word| {
        let (name, value) = word.split_once('=')?;
        (value.starts_with("PID") && name != "pid").then_some(word)
    });
    match given {
        Some(word) => Err(Failure::new(format!("specifying \"{word}\" is not allowed")).exit(1).into()),
        None => Ok(()),
    }
}

fn parse(text: &str, pids: &HashSet<i32>) -> Result<Table> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let Some(at) = titles.iter().position(|title| title == "PID") else {
        return Err(Failure::new("Couldn't find PID field in ps output").exit(1).into());
    };
    let mut rows = Vec::new();
    let mut is_ours = false;
    for line in lines {
        let cells: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(pid) = cells.get(at) else { continue };
        // A thread (`m`) has a dash, and stands below its process.
        if *pid != "-" {
            let unexpected = |_| Failure::new(format!("Unexpected pid '{pid}': invalid syntax")).exit(1);
            is_ours = pids.contains(&pid.parse::<i32>().map_err(unexpected)?);
        }
        if is_ours {
            rows.push(fitted(&cells, titles.len()));
        }
    }
    Ok(Table { titles, rows })
}

/// What is over goes into the last cell: a command with its arguments.
fn fitted(cells: &[&str], columns: usize) -> Vec<String> {
    let (first, over) = cells.split_at(cells.len().min(columns.saturating_sub(1)));
    first.iter().map(|cell| (*cell).to_owned()).chain([over.join(" ")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_are_left_out() {
        let text = "  PID COMMAND\n    1 init x\n   12 sh -c  sleep 1\n    - -\n   13 other\n    - -\n\n";
        let table = parse(text, &HashSet::from([12])).unwrap();
        assert_eq!(table.titles, ["PID", "COMMAND"]);
        assert_eq!(table.rows, [["12", "sh -c sleep 1"], ["-", "-"]]);
        let error = |text: &str| parse(text, &HashSet::from([12])).unwrap_err().to_string();
        assert_eq!(error("COMMAND\nx\n"), "Couldn't find PID field in ps output");
        assert_eq!(error("PID\nx\n"), "Unexpected pid 'x': invalid syntax");
        assert_eq!(error(""), "Couldn't find PID field in ps output");
        assert_eq!(fitted(&["a"], 3), ["a", ""]);
    }

    #[test]
    fn nothing_else_is_called_pid() {
        assert!(check("-o pid=PID -o comm").is_ok());
        assert!(check("-ef").is_ok());
        let refused = check("-o pid -o comm=PIDX").unwrap_err().to_string();
        assert_eq!(refused, "specifying \"comm=PIDX\" is not allowed");
    }
}

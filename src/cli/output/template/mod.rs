//! `--format`: Go templates over what commands list and inspect, with the functions and the
//! `table` and `json` forms of Docker's command line.
//!
//! The language is read by the crate gotmpl. It is executed here, because a template on a command
//! line needs what the crate has not: the place of a mistake, Go's difference between structs (a
//! wrong field is a mistake) and maps (a missing key is no value), fields in their order, the
//! method `.Label`, and bounds on time, memory and depth. What is expected of it is recorded from
//! Docker's own client: `tests/golden/templates.json`.
//!
//! [`listing`] is for what has rows, [`render`] for what has one object.

mod execute;
mod fmt;
mod functions;
mod names;
mod parse;
mod place;
mod printf;
mod value;

use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;
use gotmpl::Value;

use self::parse::{Mistake, Parsed};
use self::value::{Kind, Object};
use crate::cli::output::{self, table};
use crate::error::Failure;

pub use self::fmt::quoted;

/// A column of a listing: its name in templates, its heading, and its cell for a row.
pub struct Column<T> {
    pub name: &'static str,
    pub heading: &'static str,
    pub cell: fn(&T) -> Value,
}

/// The name of the column that holds a row's labels as a map, for `.Label`. It is in no JSON and
/// cannot be written in a template; nor is it the key of anything: no argument has such a character.
pub const LABEL_MAP: &str = "\0labels";

/// A string as a cell.
pub fn text(text: impl Into<String>) -> Value {
    Value::String(Arc::from(text.into()))
}

/// What a command lists, written as `--format` says.
///
/// `format`: `None`, empty or `table`: a table of the columns named in `default`; `table T`: a
/// table of the template T's cells, which tabs (`\t`) separate; `json`: an object on a line for
/// each row; anything else: the template itself, a line for each row.
///
/// A row's labels are reached by `{{.Label "name"}}`: they come from the column `Labels`
/// (`a=1,b=2`) unless there is a column [`LABEL_MAP`].
///
/// # Errors
/// A template that cannot be parsed, or that names a column which is not there.
pub fn listing<T>(columns: &[Column<T>], default: &[&str], format: Option<&str>, rows: &[T]) -> Result<String> {
    let format = format.map(unescape);
    match format.as_deref() {
        None | Some("" | "table") => Ok(plain_table(columns, default, rows)),
        Some("json") => Ok(rows.iter().map(|row| data(columns, row).json_text() + "\n").collect()),
        Some(source) => match source.strip_prefix("table") {
            Some(_) => {
                // Its place in what was written is kept, for mistakes; the gap is no part of the first cell.
                let written = source;
                let source = &format!("     {}", &source["table".len()..]);
                let gap = source.len() - source.trim_start().len();
                let mut lines = vec![headings(columns, source, written)?];
                lines.extend(render_rows(columns, source, written, rows)?);
                let whole =
                    |line: &str| line.get(gap..).unwrap_or_default().split('\n').map(str::to_owned).collect::<Vec<_>>();
                Ok(table::align(&lines.iter().flat_map(|line| whole(line)).collect::<Vec<_>>()))
            }
            None => Ok(render_rows(columns, source, source, rows)?.iter().flat_map(|line| [line, "\n"]).collect()),
        },
    }
}

/// Whether a listing in this format is a table, whose lines a terminal's width may cut.
#[must_use]
pub fn is_table(format: Option<&str>) -> bool {
    format.is_none_or(|format| format.is_empty() || format.starts_with("table"))
}

/// Whether a listing in this format shows the column: for cells that cost time to make.
#[must_use]
pub fn shows(format: Option<&str>, default: &[&str], column: &str) -> bool {
    match format {
        None | Some("" | "table") => default.contains(&column),
        // Docker's way: `{{json .}}` counts as each column.
        Some(source) => source.contains(&format!(".{column}")) || source.contains("json"),
    }
}

fn plain_table<T>(columns: &[Column<T>], default: &[&str], rows: &[T]) -> String {
    let shown: Vec<&Column<T>> =
        default.iter().filter_map(|name| columns.iter().find(|column| column.name == *name)).collect();
    let mut lines = Vec::with_capacity(rows.len() + 1);
    lines.push(shown.iter().map(|column| column.heading).collect::<Vec<_>>().join("\t"));
    for row in rows {
        lines.push(shown.iter().map(|column| (column.cell)(row).to_string()).collect::<Vec<_>>().join("\t"));
    }
    table::align(&lines)
}

/// A template's dot: the row.
fn data<T>(columns: &[Column<T>], row: &T) -> value::Value {
    let shown = columns.iter().filter(|column| column.name != LABEL_MAP);
    let fields: Vec<(Rc<str>, value::Value)> =
        shown.map(|column| (Rc::from(column.name), value::Value::from_cell(&(column.cell)(row)))).collect();
    let map = columns.iter().find(|column| column.name == LABEL_MAP).map(|column| (column.cell)(row));
    let labels = if let Some(Value::Map(labels)) = map {
        labels.iter().map(|(name, label)| (Rc::from(name.as_ref()), value::Value::from_cell(label))).collect()
    } else {
        let column = fields.iter().find(|(name, _)| &**name == "Labels");
        let all = column.map(|(_, cell)| fmt::sprint(std::slice::from_ref(cell))).unwrap_or_default();
        let pairs = all.split(',').filter_map(|label| label.split_once('='));
        pairs.map(|(name, label)| (Rc::from(name), value::text(label))).collect()
    };
    value::Value::Object(Rc::new(Object { kind: Kind::Row, name: "row", fields, labels: Some(labels) }))
}

/// `written`: the source as the user wrote it, for mistakes; its parts are at the same places.
fn render_rows<T>(columns: &[Column<T>], source: &str, written: &str, rows: &[T]) -> Result<Vec<String>> {
    let template = parse::parse(source, false).map_err(|mistake| syntax(written, &mistake, 1))?;
    if rows.is_empty() {
        // A column that there is not is a mistake even where nothing is listed.
        let fields: Vec<_> =
            columns.iter().map(|column| (Rc::from(column.name), value::text(column.heading))).collect();
        let row = Object { kind: Kind::Row, name: "row", fields, labels: Some(Vec::new()) };
        if let Err(mistake) = execute::execute(&template, &value::Value::Object(Rc::new(row)))
            && mistake.message.contains("can't evaluate field")
        {
            return Err(failed(columns, written, &mistake));
        }
    }
    let rendered = rows
        .iter()
        .map(|row| execute::execute(&template, &data(columns, row)).map_err(|e| failed(columns, written, &e)));
    rendered.collect()
}

/// The first line of `table T`: T with each field replaced by its heading.
fn headings<T>(columns: &[Column<T>], source: &str, written: &str) -> Result<String> {
    let fields = columns.iter().map(|column| (Rc::from(column.name), value::text(column.heading))).collect();
    let names = Object { kind: Kind::Headings, name: "", fields, labels: None };
    let template = parse::parse(source, true).map_err(|mistake| syntax(written, &mistake, 1))?;
    execute::execute(&template, &value::Value::Object(Rc::new(names))).map_err(|e| failed(columns, written, &e))
}

/// What `inspect` and `info` know, as a template shows it, with a newline behind it; `json`: on
/// one line.
///
/// # Errors
/// A template that cannot be parsed (exit code 64, as Docker's), or that names a field which
/// is not there.
pub fn render(source: &str, data: &serde_json::Value) -> Result<String> {
    ObjectTemplate::check(source)?.render(data)
}

/// [`render`], printed; where the template is wrong for the object Docker ends the empty line.
/// `kind`: what the object is, `version` or `info`.
///
/// # Errors
/// As [`render`].
pub fn print(source: &str, kind: &'static str, data: &serde_json::Value) -> Result<u8> {
    let template = ObjectTemplate::check(source)?;
    match template.render_as(kind, data) {
        Ok(text) => output::print(&text),
        Err(failure) => {
            output::print("\n");
            return Err(failure);
        }
    }
    Ok(0)
}

/// A template for objects, checked before the first of them is looked for.
pub struct ObjectTemplate(Option<Parsed>);

impl ObjectTemplate {
    /// # Errors
    /// It cannot be parsed: exit code 64, as Docker's.
    pub fn check(source: &str) -> Result<Self> {
        match source {
            "json" => Ok(Self(None)),
            _ => Ok(Self(Some(parse::parse(source, false).map_err(|mistake| syntax(source, &mistake, 64))?))),
        }
    }

    /// With a newline behind it.
    ///
    /// # Errors
    /// It names a field which is not there, or calls something for what it cannot take.
    pub fn render(&self, data: &serde_json::Value) -> Result<String> {
        self.render_as("", data)
    }

    fn render_as(&self, kind: &'static str, data: &serde_json::Value) -> Result<String> {
        let Some(template) = &self.0 else { return Ok(format!("{data}\n")) };
        // As Docker: what its types cannot satisfy is tried on the JSON itself.
        let outcome = execute::execute(template, &value::Value::of_type(kind, data)).or_else(|mistake| {
            if mistake.is_bound { Err(mistake) } else { execute::execute(template, &value::Value::raw(data)) }
        });
        let text = outcome.map_err(|mistake| {
            let message = format!("template parsing error: template: :{}", at(&template.source, &mistake, true));
            Failure::new(message).hint(pointed(&template.source, mistake.at))
        })?;
        Ok(text + "\n")
    }
}

fn syntax(source: &str, mistake: &Mistake, code: u8) -> anyhow::Error {
    let what = if code == 64 { "template parsing error" } else { "failed to parse template" };
    let message = format!("{what}: template: :{}", at(source, mistake, false));
    Failure::new(message).hint(pointed(source, mistake.at)).exit(code).into()
}

fn failed<T>(columns: &[Column<T>], source: &str, mistake: &Mistake) -> anyhow::Error {
    let message = format!("failed to execute template: template: :{}", at(source, mistake, true));
    let mut hint = pointed(source, mistake.at);
    if mistake.message.contains("can't evaluate field") {
        let names = columns.iter().map(|column| column.name).filter(|name| *name != LABEL_MAP);
        hint = format!("{hint}\n      there are {}", names.collect::<Vec<_>>().join(", "));
    }
    Failure::new(message).hint(hint).into()
}

/// Line, column and what is wrong, as Go has them: columns count from 0, and mistakes in the syntax
/// have none.
fn at(source: &str, mistake: &Mistake, column: bool) -> String {
    let before = source.get(..mistake.at).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let place = if column { format!("{line}:{}", before.len() - start) } else { line.to_string() };
    format!("{place}: {}", mistake.message)
}

/// The line of the template, and below it a caret for the place: for behind `hint: `.
fn pointed(source: &str, offset: usize) -> String {
    let before = source.get(..offset).unwrap_or(source);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = source[start..].lines().next().unwrap_or_default();
    // What a terminal would jump for takes one place.
    let plain = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let column = before[start..].chars().count();
    // Of a long line, the part around the place.
    let from = column.saturating_sub(50);
    let shown: String = plain(line).chars().skip(from).take(100).collect();
    format!("{shown}\n      {:1$}^", "", column - from)
}

/// `\t` and `\n`, which a shell passes on as they are.
fn unescape(format: &str) -> String {
    format.trim().replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests;

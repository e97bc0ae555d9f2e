//! `--format`: Go templates over what commands list and inspect, with the functions and the
//! `table` and `json` forms of Docker's command line.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use gotmpl::{MissingKey, Template, TemplateError, Value};

use crate::cli::output::table;
use crate::error::Failure;

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
    match format.map(unescape).as_deref() {
        None | Some("" | "table") => Ok(plain_table(columns, default, rows)),
        Some("json") => {
            let mut out = String::new();
            for row in rows {
                out.push_str(&json(&data(columns, row)));
                out.push('\n');
            }
            Ok(out)
        }
        Some(source) => match source.strip_prefix("table") {
            Some(source) if source.starts_with([' ', '\t', '{']) => {
                let source = source.trim();
                let mut lines = vec![headings(columns, source)?];
                lines.extend(render_rows(columns, source, rows)?);
                Ok(table::align(&lines))
            }
            _ => {
                let mut out = String::new();
                for line in render_rows(columns, source, rows)? {
                    out.push_str(&line);
                    out.push('\n');
                }
                Ok(out)
            }
        },
    }
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

/// A template's dot.
fn data<T>(columns: &[Column<T>], row: &T) -> Value {
    map(columns.iter().map(|column| (column.name, (column.cell)(row))))
}

fn map<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Map(Arc::new(entries.map(|(name, value)| (Arc::from(name), value)).collect()))
}

fn render_rows<T>(columns: &[Column<T>], source: &str, rows: &[T]) -> Result<Vec<String>> {
    let template = parse(source, functions(), MissingKey::Error, 1)?;
    if rows.is_empty() {
        // A column that there is not is a mistake even where nothing is listed.
        let headings = map(columns.iter().map(|column| (column.name, text(column.heading))));
        if let Err(e @ TemplateError::MissingKey { .. }) = template.execute_to_string(&headings) {
            return Err(refused(source, &e));
        }
    }
    let rendered =
        rows.iter().map(|row| template.execute_to_string(&data(columns, row)).map_err(|e| refused(source, &e)));
    rendered.collect()
}

/// The first line of `table T`: T with each field replaced by its heading.
fn headings<T>(columns: &[Column<T>], source: &str) -> Result<String> {
    let data = map(columns.iter().map(|column| (column.name, text(column.heading))));
    // What shortens or turns a cell leaves its heading alone.
    let mut functions: Functions = functions();
    for name in ["json", "lower", "upper", "title", "split", "join", "pad", "truncate", "println", "slice"] {
        functions.insert(name.into(), Arc::new(|args: &[Value]| Ok(heading(args))));
    }
    // `.Label "x"` is headed x.
    functions.insert(LABEL.into(), Arc::new(|args: &[Value]| Ok(args.get(1).cloned().unwrap_or(Value::Nil))));
    let template = parse(source, functions, MissingKey::Invalid, 1)?;
    template.execute_to_string(&data).map_err(|e| refused(source, &e))
}

/// The heading among a function's arguments: the field; the others are literals.
fn heading(args: &[Value]) -> Value {
    let is_heading = |v: &&Value| v.as_str().is_some_and(|s| !s.is_empty() && !s.chars().any(char::is_lowercase));
    args.iter().find(is_heading).or(args.first()).cloned().unwrap_or(Value::Nil)
}

/// What `inspect` and `info` know, as a template shows it, with a newline behind it; `json`: on
/// one line.
///
/// # Errors
/// A template that cannot be parsed (exit code 64, as Docker's), or that names a field which
/// is not there.
pub fn render(source: &str, data: &serde_json::Value) -> Result<String> {
    if source == "json" {
        return Ok(format!("{data}\n"));
    }
    let template = parse(source, functions(), MissingKey::Error, 64)?;
    let value = value(data);
    match template.execute_to_string(&value) {
        // A label that is not there is no mistake of the template's, as a field's name is.
        Err(TemplateError::MissingKey { key }) if is_key_of_a_map(source, &key) => {
            parse(source, functions(), MissingKey::Invalid, 64)?.execute_to_string(&value)
        }
        other => other,
    }
    .map(|text| text + "\n")
    .map_err(|e| refused(source, &e))
}

/// Whether `.key` stands behind a field that holds names of the user's, not of a schema.
fn is_key_of_a_map(source: &str, key: &str) -> bool {
    const MAPS: [&str; 9] =
        ["Labels", "Attributes", "Annotations", "Networks", "Ports", "Sysctls", "Tmpfs", "Volumes", "ExposedPorts"];
    MAPS.iter().any(|map| source.contains(&format!(".{map}.{key}")))
}

type Functions = BTreeMap<String, gotmpl::ValueFunc>;

/// What `.Label "x"` is turned into: gotmpl has no methods.
const LABEL: &str = "label_";

/// `syntax`: the exit code where it cannot be parsed: Docker's is 64 for objects, 1 for lists.
fn parse(source: &str, functions: Functions, missing: MissingKey, syntax: u8) -> Result<Template> {
    let source_without_methods = source.replace(".Label ", "label_ . ");
    Template::new("")
        .missing_key(missing)
        .funcs(functions)
        .parse(&source_without_methods)
        .map_err(|e| refused_with(source, &e, syntax))
}

fn refused(source: &str, error: &TemplateError) -> anyhow::Error {
    refused_with(source, error, 1)
}

/// The mistake and its place, the template, and what stands at the place.
fn refused_with(source: &str, error: &TemplateError, code: u8) -> anyhow::Error {
    let (message, place) = match error {
        TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. } => {
            (format!("template: :{line}:{col}: {message}"), Some((*line, *col)))
        }
        TemplateError::MissingKey { key } => {
            let place = source.find(&format!(".{key}")).map(|at| {
                let before = &source[..at];
                let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
                (before.matches('\n').count() + 1, column)
            });
            let at = place.map(|(line, col)| format!("{line}:{col}: ")).unwrap_or_default();
            (format!("template: :{at}executing \"\" at <.{key}>: map has no entry for key {key:?}"), place)
        }
        other => (format!("template: {other}"), None),
    };
    let line = place.and_then(|(line, _)| source.lines().nth(line - 1)).unwrap_or(source);
    let at: String = place.map(|(_, col)| line.chars().skip(col - 1).collect()).unwrap_or_default();
    let hint = if at.is_empty() { format!("in {line}") } else { format!("in {line} at {at}") };
    let failure = Failure::new(format!("template parsing error: {message}")).hint(hint);
    failure.exit(code).into()
}

/// `\t` and `\n`, which a shell passes on as they are.
fn unescape(format: &str) -> String {
    format.trim().replace("\\t", "\t").replace("\\n", "\n")
}

/// The functions that Docker adds to Go's own.
fn functions() -> Functions {
    fn word(args: &[Value], at: usize) -> String {
        args.get(at).map(ToString::to_string).unwrap_or_default()
    }
    fn number(args: &[Value], at: usize) -> usize {
        args.get(at).and_then(Value::as_int).and_then(|n| usize::try_from(n).ok()).unwrap_or_default()
    }
    type Function = fn(&[Value]) -> gotmpl::Result<Value>;
    let functions: [(&str, Function); 10] = [
        ("json", |args| Ok(text(json(args.first().unwrap_or(&Value::Nil))))),
        ("lower", |args| Ok(text(word(args, 0).to_lowercase()))),
        ("upper", |args| Ok(text(word(args, 0).to_uppercase()))),
        ("title", |args| Ok(text(title(&word(args, 0))))),
        ("split", |args| {
            let (whole, separator) = (word(args, 0), word(args, 1));
            let parts: Vec<Value> = if separator.is_empty() {
                whole.chars().map(|c| text(c.to_string())).collect()
            } else {
                whole.split(&separator).map(text).collect()
            };
            Ok(Value::from(parts))
        }),
        ("join", |args| match args.first() {
            Some(Value::List(parts)) => {
                Ok(text(parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(&word(args, 1))))
            }
            Some(Value::Nil) | None => Ok(text("")),
            Some(other) => Err(TemplateError::TypeMismatch { expected: "list", got: other.type_name() }),
        }),
        ("pad", |args| {
            let middle = word(args, 0);
            if middle.is_empty() {
                return Ok(text(middle));
            }
            Ok(text(format!("{:2$}{middle}{:3$}", "", "", number(args, 1), number(args, 2))))
        }),
        ("truncate", |args| Ok(text(word(args, 0).chars().take(number(args, 1)).collect::<String>()))),
        ("index", |args| {
            let Some((of, path)) = args.split_first() else {
                return Err(TemplateError::ArgCount { name: "index".into(), expected: 1, got: 0 });
            };
            path.iter().try_fold(of.clone(), |value, at| match &value {
                // Go gives a missing key of a map of strings the empty string.
                Value::Map(m) if m.values().all(|v| v.as_str().is_some()) => Ok(match value.index(at)? {
                    Value::Nil => text(""),
                    found => found,
                }),
                _ => value.index(at),
            })
        }),
        (LABEL, |args| {
            let name = word(args, 1);
            let row = args.first().unwrap_or(&Value::Nil);
            if let Some(Value::Map(labels)) = row.field(LABEL_MAP) {
                return Ok(labels.get(name.as_str()).cloned().unwrap_or_else(|| text("")));
            }
            let labels = row.field("Labels").map(ToString::to_string).unwrap_or_default();
            let found = labels.split(',').find_map(|label| label.strip_prefix(&name)?.strip_prefix('='));
            Ok(text(found.unwrap_or_default()))
        }),
    ];
    functions.into_iter().map(|(name, function)| (name.to_owned(), Arc::new(function) as _)).collect()
}

/// Each word's first letter in upper case, as Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut at_start = true;
    let letter = |c: char| {
        let first = std::mem::replace(&mut at_start, !(c.is_alphanumeric() || c == '_' || c == '\''));
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(letter).collect()
}

/// JSON's values as gotmpl has them.
#[must_use]
pub fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(yes) => Value::Bool(*yes),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(n)) => Value::Uint(n),
            (None, None) => Value::Float(n.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(s) => text(s.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        serde_json::Value::Object(fields) => map(fields.iter().map(|(name, field)| (name.as_str(), value(field)))),
    }
}

/// gotmpl's values as JSON, the way Go writes it.
fn json(value: &Value) -> String {
    to_json(value).to_string()
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(yes) => (*yes).into(),
        Value::Int(n) => (*n).into(),
        Value::Uint(n) => (*n).into(),
        Value::Float(n) => (*n).into(),
        Value::String(s) => s.as_ref().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(fields) => {
            let shown = fields.iter().filter(|(name, _)| name.as_ref() != LABEL_MAP);
            serde_json::Value::Object(shown.map(|(name, field)| (name.to_string(), to_json(field))).collect())
        }
        _ => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    struct Row {
        id: &'static str,
        labels: &'static str,
    }

    const COLUMNS: &[Column<Row>] = &[
        Column { name: "ID", heading: "CONTAINER ID", cell: |row| text(row.id) },
        Column { name: "Labels", heading: "LABELS", cell: |row| text(row.labels) },
    ];
    const ROWS: &[Row] = &[Row { id: "abc", labels: "a=1,b=2" }, Row { id: "def", labels: "" }];

    fn list(format: Option<&str>) -> String {
        listing(COLUMNS, &["ID", "Labels"], format, ROWS).unwrap()
    }

    #[test]
    fn the_default_is_a_table() {
        let expected = "CONTAINER ID   LABELS\nabc            a=1,b=2\ndef            \n";
        assert_eq!(list(None), expected);
        assert_eq!(list(Some("table")), expected);
    }

    #[test]
    fn table_templates_have_headings() {
        let expected = "CONTAINER ID   a\nABC            1\nDEF            \n";
        assert_eq!(list(Some(r#"table {{upper .ID}}\t{{.Label "a"}}"#)), expected);
    }

    #[test]
    fn other_templates_are_lines() {
        assert_eq!(list(Some("{{.ID}}={{.Labels}}")), "abc=a=1,b=2\ndef=\n");
        assert_eq!(
            list(Some("{{json .}}")),
            "{\"ID\":\"abc\",\"Labels\":\"a=1,b=2\"}\n{\"ID\":\"def\",\"Labels\":\"\"}\n"
        );
        assert_eq!(list(Some("json")), list(Some("{{json .}}")));
    }

    #[test]
    fn functions_are_dockers() {
        let data = serde_json::json!({"S": "ab cd", "L": ["x", "y"], "M": {"k": "v"}, "N": 3, "Z": null});
        let cases = [
            ("{{title .S}}", "Ab Cd"),
            ("{{join .L \"-\"}}", "x-y"),
            ("{{index (split .S \" \") 1}}", "cd"),
            ("{{index .M \"k\"}}{{index .M \"none\"}}", "v"),
            ("{{pad .S 1 2}}|", " ab cd  |"),
            ("{{truncate .S 2}}", "ab"),
            ("{{json .M}} {{json .L}} {{len .L}}", "{\"k\":\"v\"} [\"x\",\"y\"] 2"),
            ("{{range .L}}{{println .}}{{end}}", "x\ny\n"),
            ("{{printf \"%03d\" .N}}", "003"),
            ("{{.S | upper}}", "AB CD"),
            ("{{slice .S 0 2}}", "ab"),
            ("{{if eq .N 3}}yes{{else}}no{{end}}", "yes"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &data).unwrap(), format!("{expected}\n"), "{template}");
        }
    }

    #[test]
    fn a_wrong_template_shows_the_place() {
        let failure = render("a {{.Foo", &serde_json::json!({})).unwrap_err();
        assert!(error::message(&failure).starts_with("template parsing error: template: :1:"), "{failure:#}");
        assert_eq!(error::exit_code(&failure), Some(64));
        let failure = render("a {{.Foo}}", &serde_json::json!({"Bar": 1})).unwrap_err();
        let expected =
            "template parsing error: template: :1:5: executing \"\" at <.Foo>: map has no entry for key \"Foo\"";
        assert_eq!(error::message(&failure), expected);
        assert_eq!(error::hint(&failure), Some("in a {{.Foo}} at .Foo}}"));
    }

    #[test]
    fn a_label_may_be_missing() {
        let data = serde_json::json!({"Config": {"Labels": {"a": "1"}}});
        assert_eq!(render("{{.Config.Labels.a}}{{.Config.Labels.b}}", &data).unwrap(), "1<no value>\n");
    }
}

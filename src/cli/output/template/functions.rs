//! What templates can call: Go's own functions, and those that Docker adds.

use std::cmp::Ordering;
use std::rc::Rc;

use super::fmt;
use super::printf;
use super::value::{Kind, Nil, Value, text};

/// What a function says is wrong: Go puts `error calling NAME: ` before it.
pub type Outcome = Result<Value, String>;

/// A function by its name in templates. `and` and `or` are the executor's: they leave out what need
/// not be known.
pub struct Function {
    pub name: &'static str,
    /// How many arguments it takes; `usize::MAX`: any number from the least on.
    pub least: usize,
    pub most: usize,
    /// Which arguments must be of which type.
    pub types: &'static [Type],
    pub call: fn(&[Value]) -> Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Any,
    String,
    Int,
    /// A list of strings.
    Strings,
}

const fn any(name: &'static str, least: usize, most: usize, call: fn(&[Value]) -> Outcome) -> Function {
    Function { name, least, most, types: &[], call }
}

const fn typed(name: &'static str, types: &'static [Type], call: fn(&[Value]) -> Outcome) -> Function {
    Function { name, least: types.len(), most: types.len(), types, call }
}

const MANY: usize = usize::MAX;

/// Go's `text/template`, then Docker's `templates` package.
static FUNCTIONS: [Function; 26] = [
    any("and", 1, MANY, |_| Ok(Value::Missing)),
    any("or", 1, MANY, |_| Ok(Value::Missing)),
    any("call", 1, MANY, |args| Err(format!("non-function of type {}", args[0].type_name()))),
    any("html", 0, MANY, |args| Ok(text(gotmpl::html_escape(&joined(args))))),
    any("index", 1, MANY, index),
    any("slice", 1, MANY, slice),
    any("js", 0, MANY, |args| Ok(text(gotmpl::js_escape(&joined(args))))),
    any("len", 1, 1, len),
    any("not", 1, 1, |args| Ok(Value::Bool(!args[0].is_true()))),
    any("print", 0, MANY, |args| Ok(text(fmt::sprint(args)))),
    any("printf", 1, MANY, |args| printf::sprintf(&string(&args[0]), &args[1..]).map(text)),
    any("println", 0, MANY, |args| Ok(text(fmt::sprintln(args)))),
    any("urlquery", 0, MANY, |args| Ok(text(gotmpl::url_encode(&joined(args))))),
    any("eq", 1, MANY, |args| equal(args).map(Value::Bool)),
    any("ge", 2, 2, |args| ordering(args).map(|order| Value::Bool(order != Ordering::Less))),
    any("gt", 2, 2, |args| ordering(args).map(|order| Value::Bool(order == Ordering::Greater))),
    any("le", 2, 2, |args| ordering(args).map(|order| Value::Bool(order != Ordering::Greater))),
    any("lt", 2, 2, |args| ordering(args).map(|order| Value::Bool(order == Ordering::Less))),
    any("ne", 2, 2, |args| equal(args).map(|same| Value::Bool(!same))),
    typed("json", &[Type::Any], |args| Ok(text(args[0].json_text()))),
    typed("lower", &[Type::String], |args| Ok(text(string(&args[0]).to_lowercase()))),
    typed("upper", &[Type::String], |args| Ok(text(string(&args[0]).to_uppercase()))),
    typed("title", &[Type::String], |args| Ok(text(title(&string(&args[0]))))),
    typed("split", &[Type::String, Type::String], |args| Ok(split(args))),
    typed("join", &[Type::Strings, Type::String], |args| Ok(join(args))),
    typed("pad", &[Type::String, Type::Int, Type::Int], pad),
];

static TRUNCATE: Function = typed("truncate", &[Type::String, Type::Int], truncate);

/// What shortens or turns a cell leaves its heading alone, as Docker's `HeaderFunctions`.
static OF_HEADINGS: [Function; 7] = [
    typed("json", &[Type::String], |args| Ok(args[0].clone())),
    typed("lower", &[Type::String], |args| Ok(args[0].clone())),
    typed("upper", &[Type::String], |args| Ok(args[0].clone())),
    typed("title", &[Type::String], |args| Ok(args[0].clone())),
    typed("split", &[Type::String, Type::String], |args| Ok(args[0].clone())),
    typed("join", &[Type::String, Type::String], |args| Ok(args[0].clone())),
    typed("truncate", &[Type::String, Type::Int], |args| Ok(args[0].clone())),
];

/// `headings`: for the first line of a table.
pub fn find(name: &str, headings: bool) -> Option<&'static Function> {
    let own = if headings { &OF_HEADINGS[..] } else { &[] };
    own.iter().chain(&FUNCTIONS).chain([&TRUNCATE]).find(|function| function.name == name)
}

fn string(value: &Value) -> Rc<str> {
    match value {
        Value::Str(s) | Value::Number(s) => s.clone(),
        other => Rc::from(fmt::sprint(std::slice::from_ref(other))),
    }
}

/// The arguments of the escaping functions: a string as it is, else as `print` has them.
fn joined(args: &[Value]) -> String {
    fmt::sprint(args)
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        Value::Uint(n) => i64::try_from(*n).ok(),
        _ => None,
    }
}

fn len(args: &[Value]) -> Outcome {
    let length = match &args[0] {
        Value::Str(s) | Value::Number(s) => s.len(),
        Value::List(items) => items.len(),
        Value::Object(object) if object.is_map() => object.fields.len(),
        Value::Nil(Nil::List | Nil::Map) => 0,
        Value::Nil(Nil::Pointer) => return Err("len of nil pointer".into()),
        Value::Missing => return Err("len of untyped nil".into()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(args: &[Value]) -> Outcome {
    let mut value = args[0].clone();
    for at in &args[1..] {
        value = match &value {
            Value::List(items) => items[position(at, items.len(), false)?].clone(),
            Value::Str(s) => Value::Uint(s.as_bytes()[position(at, s.len(), false)?].into()),
            Value::Object(object) if object.is_map() => {
                let key = key(at)?;
                // Their keys have a type of their own, so that Docker takes the second way here.
                if object.kind == Kind::Map && matches!(object.name, "Ports" | "PortBindings" | "ExposedPorts") {
                    return Err("value has type string; should be nat.Port".into());
                }
                object.get(&key).unwrap_or_else(|| object.zero())
            }
            Value::Nil(Nil::List) => {
                position(at, 0, false)?;
                Value::Missing
            }
            Value::Nil(Nil::Map) => {
                key(at)?;
                text("")
            }
            Value::Nil(Nil::Pointer) => return Err("index of nil pointer".into()),
            Value::Missing => return Err("index of untyped nil".into()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn key(at: &Value) -> Result<Rc<str>, String> {
    match at {
        Value::Str(key) => Ok(key.clone()),
        Value::Missing | Value::Nil(Nil::Pointer) => Err("value is nil; should be of type string".into()),
        other => Err(format!("value has type {}; should be string", other.type_name())),
    }
}

/// A place in something of this length; `end`: just behind it counts too.
fn position(at: &Value, length: usize, end: bool) -> Result<usize, String> {
    let at = match at {
        Value::Missing | Value::Nil(Nil::Pointer) => return Err("cannot index slice/array with nil".into()),
        other => number(other).ok_or_else(|| format!("cannot index slice/array with type {}", other.type_name()))?,
    };
    let found = usize::try_from(at).ok().filter(|at| *at < length + usize::from(end));
    found.ok_or_else(|| format!("index out of range: {at}"))
}

fn slice(args: &[Value]) -> Outcome {
    let (of, places) = (&args[0], &args[1..]);
    let length = match of {
        Value::Str(_) if places.len() == 3 => return Err("cannot 3-index slice a string".into()),
        Value::Str(s) => s.len(),
        Value::List(items) => items.len(),
        Value::Nil(Nil::List) => 0,
        Value::Missing | Value::Nil(Nil::Pointer) => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if places.len() > 3 {
        return Err(format!("too many slice indexes: {}", places.len()));
    }
    let mut range = [0, length, length];
    for (place, at) in range.iter_mut().zip(places) {
        *place = position(at, length, true)?;
    }
    let [from, to, capacity] = range;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if to > capacity {
        return Err(format!("invalid slice index: {to} > {capacity}"));
    }
    Ok(match of {
        // In the middle of a character: Go has its bytes, which print as what is no character.
        Value::Str(s) => text(String::from_utf8_lossy(&s.as_bytes()[from..to])),
        Value::List(items) => Value::List(Rc::new(items[from..to].to_vec())),
        other => other.clone(),
    })
}

fn equal(args: &[Value]) -> Result<bool, String> {
    let (first, others) = (&args[0], &args[1..]);
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        let same = match (first, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Str(a) | Value::Number(a), Value::Str(b) | Value::Number(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b) == Some(Ordering::Equal),
            (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => whole(first) == whole(other),
            (Value::Missing | Value::Nil(Nil::Pointer), Value::Missing | Value::Nil(Nil::Pointer)) => true,
            (Value::Missing | Value::Nil(Nil::Pointer), _) | (_, Value::Missing | Value::Nil(Nil::Pointer)) => false,
            (Value::List(_) | Value::Object(_) | Value::Nil(_), _) => {
                return Err(not_comparable(first));
            }
            (_, Value::List(_) | Value::Object(_) | Value::Nil(_)) => {
                return Err(not_comparable(other));
            }
            _ => return Err("incompatible types for comparison".into()),
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn not_comparable(value: &Value) -> String {
    format!("non-comparable type {}: {}", fmt::sprint(std::slice::from_ref(value)), value.type_name())
}

fn whole(value: &Value) -> i128 {
    match value {
        Value::Int(n) => (*n).into(),
        Value::Uint(n) => (*n).into(),
        _ => 0,
    }
}

fn ordering(args: &[Value]) -> Result<Ordering, String> {
    match (&args[0], &args[1]) {
        (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => Ok(whole(&args[0]).cmp(&whole(&args[1]))),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).ok_or_else(|| "NaN has no order".to_owned()),
        (Value::Str(a) | Value::Number(a), Value::Str(b) | Value::Number(b)) => Ok(a.cmp(b)),
        (a, b) => {
            let is_basic = |v: &Value| {
                matches!(v, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::Str(_))
            };
            let same = std::mem::discriminant(a) == std::mem::discriminant(b);
            Err(if is_basic(a) && is_basic(b) && !same {
                "incompatible types for comparison".into()
            } else {
                "invalid type for comparison".into()
            })
        }
    }
}

/// Each word's first letter in upper case, as Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut at_start = true;
    let letter = |c: char| {
        let separates = if c.is_ascii() { !c.is_ascii_alphanumeric() && c != '_' } else { c.is_whitespace() };
        let first = std::mem::replace(&mut at_start, separates);
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(letter).collect()
}

fn split(args: &[Value]) -> Value {
    let (whole, separator) = (string(&args[0]), string(&args[1]));
    let parts: Vec<Value> = match &*separator {
        "" => whole.chars().map(|c| text(c.to_string())).collect(),
        separator => whole.split(separator).map(text).collect(),
    };
    Value::List(Rc::new(parts))
}

fn join(args: &[Value]) -> Value {
    let separator = string(&args[1]);
    let plain = |value: &Value| fmt::sprint(std::slice::from_ref(value));
    match &args[0] {
        Value::List(items) => text(items.iter().map(plain).collect::<Vec<_>>().join(&separator)),
        _ => text(""),
    }
}

fn pad(args: &[Value]) -> Outcome {
    let middle = string(&args[0]);
    if middle.is_empty() {
        return Ok(text(""));
    }
    let width = |arg: &Value| {
        let width = number(arg).and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= 1_000_000);
        width.ok_or_else(|| "the width must be from 0 to 1000000".to_owned())
    };
    Ok(text(format!("{:2$}{middle}{:3$}", "", "", width(&args[1])?, width(&args[2])?)))
}

/// Docker's: by bytes.
fn truncate(args: &[Value]) -> Outcome {
    let whole = string(&args[0]);
    let most = number(&args[1]).and_then(|n| usize::try_from(n).ok()).ok_or("the length must not be negative")?;
    Ok(text(String::from_utf8_lossy(&whole.as_bytes()[..most.min(whole.len())])))
}

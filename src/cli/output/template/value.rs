//! What a template works on. Go knows each value's type; ours comes from JSON and from cells, so
//! what JSON leaves open (whether an object is a struct or a map, what a `null` would have been) is
//! told from the names that Docker's API gives its maps and pointers ([`super::names`]).

use std::rc::Rc;

use serde_json::Value as Json;

use super::names::{ALIASES, MAPS, OPTIONAL, OWN, POINTERS};

/// A value as Go's templates see it.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing at all: what a key that a map does not have gives.
    Missing,
    Nil(Nil),
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(Rc<str>),
    /// A number as it is written, which is a string to Go (`json.Number`): in the second try of an
    /// object, see [`Kind::Raw`].
    Number(Rc<str>),
    List(Rc<Vec<Value>>),
    Object(Rc<Object>),
}

/// What kind of thing is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nil {
    /// Of a pointer or an interface: it has no fields and no length.
    Pointer,
    /// Works as an empty one, and is `null` in JSON.
    List,
    Map,
}

/// Named values.
#[derive(Debug, Default)]
pub struct Object {
    pub kind: Kind,
    /// Under which name it was found: Docker's types go by their place.
    pub name: &'static str,
    /// In the order in which a struct is written.
    pub fields: Vec<(Rc<str>, Value)>,
    /// Labels, for the method `.Label "name"` of a listing's rows.
    pub labels: Option<Vec<(Rc<str>, Value)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Has the fields that it has: another name is a mistake.
    #[default]
    Struct,
    /// Has keys of the user's: another one is not there.
    Map,
    /// JSON as it is: what Docker tries a template on that its types could not satisfy. Every key must
    /// be there.
    Raw,
    /// A row of a listing: a struct with Docker's name for it and the method `Label`.
    Row,
    /// The headings of a listing's columns.
    Headings,
}

pub fn text(text: impl AsRef<str>) -> Value {
    Value::Str(Rc::from(text.as_ref()))
}

impl Object {
    pub fn get(&self, name: &str) -> Option<Value> {
        let own = |name: &str| self.fields.iter().find(|(own, _)| **own == *name).map(|(_, value)| value.clone());
        if self.kind != Kind::Struct {
            return own(name);
        }
        own(name).or_else(|| ALIASES.iter().find(|(alias, _)| *alias == name).and_then(|(_, json)| own(json))).or_else(
            || OPTIONAL.iter().find(|(of, own, _)| *of == self.name && *own == name).map(|(_, _, zero)| zero()),
        )
    }

    /// The value that Go gives for `index` of a map without that key: its elements' zero.
    pub fn zero(&self) -> Value {
        if self.kind == Kind::Raw {
            return Value::Missing;
        }
        match self.name {
            "Ports" | "PortBindings" => Value::Nil(Nil::List),
            "Networks" | "Containers" | "Volumes" | "ExposedPorts" | "Runtimes" | "IndexConfigs" => {
                Value::Nil(Nil::Pointer)
            }
            _ => text(""),
        }
    }

    /// Whether it can be walked and has a length.
    pub fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map | Kind::Raw)
    }

    /// In the order in which a map is walked and written: by key.
    pub fn sorted(&self) -> Vec<&(Rc<str>, Value)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields
    }
}

impl Value {
    /// Docker's JSON, with what its names tell of types.
    pub fn from_json(json: &Json) -> Self {
        Self::named("", "", json)
    }

    /// The same for what Docker's client has a type of its own for, called `name` in [`OPTIONAL`].
    pub fn of_type(name: &'static str, json: &Json) -> Self {
        match Self::from_json(json) {
            Self::Object(object) => match Rc::try_unwrap(object) {
                Ok(object) => Self::Object(Rc::new(Object { name, ..object })),
                Err(object) => Self::Object(object),
            },
            other => other,
        }
    }

    /// JSON without its types.
    pub fn raw(json: &Json) -> Self {
        match json {
            Json::Null => Self::Missing,
            Json::Bool(yes) => Self::Bool(*yes),
            Json::Number(n) => Self::Number(Rc::from(n.to_string())),
            Json::String(s) => text(s),
            Json::Array(items) => Self::List(Rc::new(items.iter().map(Self::raw).collect())),
            Json::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (Rc::from(key.as_str()), Self::raw(value))).collect();
                Self::Object(Rc::new(Object { kind: Kind::Raw, name: "-", fields, labels: None }))
            }
        }
    }

    /// `parent`: the name of the object that has it.
    fn named(parent: &'static str, name: &str, json: &Json) -> Self {
        let known = |list: &[&'static str]| list.iter().find(|known| **known == name).copied();
        // The options of a log driver are a map; a container's settings are not.
        let map = known(&MAPS).or_else(|| (parent == "LogConfig").then_some("LogOpts"));
        match json {
            Json::Null if map.is_some() => Self::Nil(Nil::Map),
            Json::Null if known(&POINTERS).is_some() => Self::Nil(Nil::Pointer),
            Json::Null => Self::Nil(Nil::List),
            Json::Bool(yes) => Self::Bool(*yes),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Self::Int(n),
                (None, Some(n)) => Self::Uint(n),
                (None, None) => Self::Float(n.as_f64().unwrap_or_default()),
            },
            Json::String(s) => text(s),
            Json::Array(items) => {
                Self::List(Rc::new(items.iter().map(|item| Self::named(parent, name, item)).collect()))
            }
            Json::Object(fields) => {
                let own = map.or_else(|| known(&OWN));
                let own = own.unwrap_or(if name.is_empty() { "" } else { "-" });
                // What a map holds has names of the user's.
                let of = |key: &str, value| match map {
                    Some(_) => Self::named("-", "-", value),
                    None => Self::named(own, key, value),
                };
                let fields = fields.iter().map(|(key, value)| (Rc::from(key.as_str()), of(key, value)));
                let kind = if map.is_some() { Kind::Map } else { Kind::Struct };
                Self::Object(Rc::new(Object { kind, name: own, fields: fields.collect(), labels: None }))
            }
        }
    }

    /// As Go's `encoding/json` writes it: structs in their order, maps by key.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Missing | Self::Nil(_) => Json::Null,
            Self::Bool(yes) => (*yes).into(),
            Self::Int(n) => (*n).into(),
            Self::Uint(n) => (*n).into(),
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and small")]
            Self::Float(n) if n.fract() == 0.0 && n.abs() < 1e15 => (*n as i64).into(),
            Self::Float(n) => (*n).into(),
            Self::Str(s) => s.as_ref().into(),
            Self::Number(n) => n.parse().map_or(Json::Null, Json::Number),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(object) => {
                let fields = match object.kind {
                    Kind::Map | Kind::Raw | Kind::Row => object.sorted(),
                    _ => object.fields.iter().collect(),
                };
                Json::Object(fields.into_iter().map(|(name, field)| (name.to_string(), field.to_json())).collect())
            }
        }
    }

    /// [`Self::to_json`] as text. Docker writes its rows by way of another encoder, which puts what HTML
    /// would take for its own in escapes.
    pub fn json_text(&self) -> String {
        let text = self.to_json().to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        match self {
            Self::Object(object) if object.kind == Kind::Row => {
                text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
            }
            _ => text,
        }
    }

    /// Go's truth: what is not its type's zero.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Nil(_) => false,
            Self::Bool(yes) => *yes,
            Self::Int(n) => *n != 0,
            Self::Uint(n) => *n != 0,
            Self::Float(n) => *n != 0.0,
            Self::Str(s) | Self::Number(s) => !s.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Object(object) => !object.is_map() || !object.fields.is_empty(),
        }
    }

    /// Go's name of its type, as far as it is known.
    pub fn type_name(&self) -> String {
        match self {
            Self::Missing => "nil".into(),
            Self::Nil(Nil::Pointer) => "*interface {}".into(),
            Self::Nil(Nil::List) => "[]string".into(),
            Self::Nil(Nil::Map) => "map[string]string".into(),
            Self::Bool(_) => "bool".into(),
            Self::Int(_) => "int".into(),
            Self::Uint(_) => "uint".into(),
            Self::Float(_) => "float64".into(),
            Self::Str(_) => "string".into(),
            Self::Number(_) => "json.Number".into(),
            Self::List(items) => match items.first() {
                Some(first) if !matches!(first, Self::Object(_)) => format!("[]{}", first.type_name()),
                _ => "[]interface {}".into(),
            },
            Self::Object(object) if object.kind == Kind::Map => match object.fields.first() {
                None | Some((_, Self::Str(_))) => "map[string]string".into(),
                _ => "map[string]interface {}".into(),
            },
            Self::Object(_) => "map[string]interface {}".into(),
        }
    }

    /// The cells of a listing.
    pub fn from_cell(cell: &gotmpl::Value) -> Self {
        match cell {
            gotmpl::Value::Bool(yes) => Self::Bool(*yes),
            gotmpl::Value::Int(n) => Self::Int(*n),
            gotmpl::Value::Uint(n) => Self::Uint(*n),
            gotmpl::Value::Float(n) => Self::Float(*n),
            gotmpl::Value::String(s) => text(s),
            gotmpl::Value::List(items) => Self::List(Rc::new(items.iter().map(Self::from_cell).collect())),
            gotmpl::Value::Map(fields) => {
                let fields = fields.iter().map(|(name, cell)| (Rc::from(name.as_ref()), Self::from_cell(cell)));
                let fields = fields.collect();
                Self::Object(Rc::new(Object { kind: Kind::Map, name: "-", fields, labels: None }))
            }
            _ => Self::Nil(Nil::Pointer),
        }
    }
}

//! What the words of a template come to: pipelines, commands, fields, functions.

use std::rc::Rc;

use gotmpl::parse::{CommandNode, Expr, Number, PipeNode, SmolStr};

use super::super::functions::{self, Function, Type};
use super::super::place::{Place, of_call, place_of, shown};
use super::super::value::{Kind, Nil, Object, Value, text};
use super::{Result_, Run};

impl Run<'_> {
    /// A pipeline's value, given to its variables.
    pub(super) fn pipe(&mut self, pipe: &PipeNode, dot: &Value) -> Result_<Value> {
        let value = self.pipe_value(pipe, dot)?;
        for name in &pipe.decl {
            if pipe.is_assign {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    pub(super) fn pipe_value(&mut self, pipe: &PipeNode, dot: &Value) -> Result_<Value> {
        self.deeper(pipe.pos, |run| {
            let mut value = None;
            for command in &pipe.commands {
                value = Some(run.command(command, dot, value)?);
            }
            Ok(value.unwrap_or(Value::Missing))
        })
    }

    /// `last`: what the command before it in the pipeline gave.
    fn command(&mut self, command: &CommandNode, dot: &Value, last: Option<Value>) -> Result_<Value> {
        self.step(command.pos)?;
        let (first, args) = (&command.args[0], &command.args[1..]);
        match first {
            Expr::Identifier(_, name) => self.function(name, command, dot, last),
            Expr::Field(_, names) => {
                let place = place_of(first);
                self.fields(dot.clone(), names, &place, args, dot, last)
            }
            Expr::Variable(_, name, names) => {
                let place = place_of(first);
                let value = self.variable(name);
                if names.is_empty() {
                    self.not_a_function(first, args, last.as_ref())?;
                    return Ok(value);
                }
                self.fields(value, names, &place, args, dot, last)
            }
            Expr::Chain(_, inner, names) => {
                let place = place_of(first);
                let value = self.argument(inner, dot)?;
                self.fields(value, names, &place, args, dot, last)
            }
            Expr::Nil(_) => Err(self.mistake(&place_of(first), "nil is not a command")),
            other => {
                self.not_a_function(other, args, last.as_ref())?;
                self.argument(other, dot)
            }
        }
    }

    fn not_a_function(&self, first: &Expr, args: &[Expr], last: Option<&Value>) -> Result_<()> {
        if args.is_empty() && last.is_none() {
            return Ok(());
        }
        let message = format!("can't give argument to non-function {}", shown(first));
        Err(self.mistake(&place_of(first), message))
    }

    fn variable(&self, name: &str) -> Value {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map_or(Value::Missing, |(_, value)| value.clone())
    }

    /// An expression as a function's argument, or as a command of its own.
    fn argument(&mut self, expression: &Expr, dot: &Value) -> Result_<Value> {
        let nothing =
            |place: &Place, run: &mut Self, value, names: &[SmolStr]| run.fields(value, names, place, &[], dot, None);
        Ok(match expression {
            Expr::Dot(_) => dot.clone(),
            Expr::Field(_, names) => nothing(&place_of(expression), self, dot.clone(), names)?,
            Expr::Variable(_, name, names) => {
                let value = self.variable(name);
                nothing(&place_of(expression), self, value, names)?
            }
            Expr::Chain(_, inner, names) => {
                let value = self.argument(inner, dot)?;
                nothing(&place_of(expression), self, value, names)?
            }
            Expr::Pipe(_, pipe) => self.pipe_value(pipe, dot)?,
            Expr::Identifier(pos, name) => {
                let command = CommandNode { pos: *pos, args: vec![expression.clone()] };
                self.function(name, &command, dot, None)?
            }
            Expr::String(_, text) => Value::Str(Rc::from(&**text)),
            Expr::Number(_, Number::Int(n)) => Value::Int(*n),
            Expr::Number(_, Number::Uint(n)) => {
                return Err(self.mistake(&place_of(expression), format!("{n} overflows int")));
            }
            Expr::Number(_, Number::Float(n)) => Value::Float(*n),
            Expr::Bool(_, yes) => Value::Bool(*yes),
            Expr::Nil(_) => Value::Missing,
        })
    }

    /// `.A.B.C` of a value; the last may be a method, and only that may have arguments.
    fn fields(
        &mut self,
        value: Value,
        names: &[SmolStr],
        place: &Place,
        args: &[Expr],
        dot: &Value,
        last: Option<Value>,
    ) -> Result_<Value> {
        let Some((final_name, path)) = names.split_last() else { return Ok(value) };
        let mut value = value;
        for name in path {
            value = self.field(&value, name, place)?;
        }
        let has_args = !args.is_empty() || last.is_some();
        if let Value::Object(object) = &value
            && final_name == "Label"
            && (object.kind == Kind::Headings || object.labels.is_some())
        {
            let mut given = Vec::with_capacity(1);
            for arg in args {
                given.push(self.argument(arg, dot)?);
                self.has_type(&LABEL, 0, given.last(), arg)?;
            }
            given.extend(last);
            return label(object, &given).map_err(|message| self.mistake(place, message));
        }
        let found = self.field(&value, final_name, place)?;
        if has_args {
            let message = match &value {
                Value::Object(object) if matches!(object.kind, Kind::Map | Kind::Headings | Kind::Raw) => {
                    format!("{final_name} is not a method but has arguments")
                }
                Value::Object(object) if object.kind == Kind::Row => {
                    let given = args.len() + usize::from(last.is_some());
                    format!("wrong number of args for {final_name}: want 0 got {given}")
                }
                _ => format!("{final_name} has arguments but cannot be invoked as function"),
            };
            return Err(self.mistake(place, message));
        }
        Ok(found)
    }

    fn field(&self, value: &Value, name: &str, place: &Place) -> Result_<Value> {
        let refuse = |message: String| Err(self.mistake(place, message));
        match value {
            Value::Object(object) => match (object.get(name), object.kind) {
                (Some(found), _) => Ok(found),
                (None, Kind::Map | Kind::Headings) => Ok(Value::Missing),
                (None, Kind::Struct | Kind::Raw) => refuse(format!("map has no entry for key {name:?}")),
                (None, Kind::Row) => refuse(format!("can't evaluate field {name} in type {}", object.name)),
            },
            Value::Missing if self.raw => refuse(format!("nil data; no entry for key {name:?}")),
            Value::Missing | Value::Nil(Nil::Map) => Ok(Value::Missing),
            // What is in an object without a type has none of its own.
            other if self.raw && !matches!(other, Value::Nil(_)) => {
                refuse(format!("can't evaluate field {name} in type interface {{}}"))
            }
            Value::Nil(Nil::Pointer) => refuse(format!("nil pointer evaluating interface {{}}.{name}")),
            other => refuse(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }

    fn function(&mut self, name: &str, command: &CommandNode, dot: &Value, last: Option<Value>) -> Result_<Value> {
        let (first, args) = (&command.args[0], &command.args[1..]);
        let Some(function) = functions::find(name, self.template.headings) else {
            return Err(self.mistake(&place_of(first), format!("{name:?} is not a defined function")));
        };
        let given = args.len() + usize::from(last.is_some());
        if given < function.least || given > function.most {
            let wanted = if function.most == function.least {
                format!("want {}", function.least)
            } else {
                format!("want at least {}", function.least)
            };
            return Err(
                self.mistake(&place_of(first), format!("wrong number of args for {name}: {wanted} got {given}"))
            );
        }
        if matches!(name, "and" | "or") {
            return self.shortened(name == "or", args, dot, last);
        }
        let mut values = Vec::with_capacity(given);
        for (n, arg) in args.iter().enumerate() {
            let value = self.argument(arg, dot)?;
            self.has_type(function, n, Some(&value), arg)?;
            values.push(value);
        }
        if let Some(last) = last {
            self.has_type(function, values.len(), Some(&last), first)?;
            values.push(last);
        }
        // What it may make of these is charged before it is made.
        let bytes: usize = values.iter().map(weight).sum();
        self.spend(bytes, command.pos)?;
        if name == "call" {
            let of = args.first().map_or_else(String::new, |arg| shown(arg) + " ");
            let message = format!("error calling call: non-function {of}of type {}", values[0].type_name());
            return Err(self.mistake(&of_call(command), message));
        }
        let result = (function.call)(&values)
            .map_err(|message| self.mistake(&of_call(command), format!("error calling {name}: {message}")))?;
        self.spend(weight(&result), command.pos)?;
        Ok(result)
    }

    /// The first that decides, or the last.
    fn shortened(&mut self, or: bool, args: &[Expr], dot: &Value, last: Option<Value>) -> Result_<Value> {
        let mut value = Value::Missing;
        for arg in args {
            value = self.argument(arg, dot)?;
            if value.is_true() == or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// Whether an argument has the type that Docker's functions declare. `written`: the argument, or
    /// the function itself where it comes from the pipeline.
    fn has_type(&self, function: &Function, n: usize, value: Option<&Value>, written: &Expr) -> Result_<()> {
        let Some(value) = value else { return Ok(()) };
        let is_string = matches!(value, Value::Str(_));
        let wanted = match function.types.get(n) {
            Some(Type::String) if !is_string => "string",
            Some(Type::Int) if !matches!(value, Value::Int(_)) => "int",
            Some(Type::Strings) if !is_strings(value) || self.raw => "[]string",
            _ if function.name == "printf" && n == 0 && !is_string => "string",
            _ => return Ok(()),
        };
        let constant = matches!(written, Expr::Number(..) | Expr::Bool(..) | Expr::String(..)) && wanted != "[]string";
        let message = match value {
            Value::Missing | Value::Nil(Nil::Pointer) => format!("invalid value; expected {wanted}"),
            _ if constant && wanted == "string" => format!("expected string; found {}", shown(written)),
            _ if constant => format!("expected integer; found {}", shown(written)),
            Value::List(_) if self.raw => format!("wrong type for value; expected {wanted}; got []interface {{}}"),
            value => format!("wrong type for value; expected {wanted}; got {}", value.type_name()),
        };
        Err(self.mistake(&place_of(written), message))
    }
}

fn is_strings(value: &Value) -> bool {
    match value {
        Value::List(items) => items.iter().all(|item| matches!(item, Value::Str(_))),
        Value::Nil(Nil::List) | Value::Missing => true,
        _ => false,
    }
}

/// Docker's method of a listing's rows.
static LABEL: Function =
    Function { name: "Label", least: 1, most: 1, types: &[Type::String], call: |_| Ok(Value::Missing) };

/// About how many bytes a value takes as text: for the bound on what is made.
fn weight(value: &Value) -> usize {
    match value {
        Value::Str(s) => s.len(),
        Value::List(items) => items.iter().map(|item| 16 + weight(item)).sum(),
        Value::Object(object) => object.fields.iter().map(|(name, field)| name.len() + 16 + weight(field)).sum(),
        _ => 16,
    }
}

/// Docker's method `.Label "name"`: empty where there is no such label. As a heading: its last part
/// in words.
fn label(row: &Object, args: &[Value]) -> Result<Value, String> {
    let [name] = args else { return Err(format!("wrong number of args for Label: want 1 got {}", args.len())) };
    let Value::Str(name) = name else {
        return Err(format!("wrong type for value; expected string; got {}", name.type_name()));
    };
    if row.kind == Kind::Headings {
        let end = name.rsplit('.').next().unwrap_or_default();
        return Ok(text(end.replace(['-', '_'], " ")));
    }
    let found = row.labels.iter().flatten().find(|(own, _)| own == name);
    Ok(found.map_or_else(|| text(""), |(_, value)| value.clone()))
}

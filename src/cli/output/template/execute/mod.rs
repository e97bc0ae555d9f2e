//! Executes a template's tree over a value, as Go's `text/template` does, and within bounds: a
//! template comes from the command line, but also from scripts that were given it.

mod evaluate;

use gotmpl::parse::{BranchNode, ListNode, Node, Pos, SmolStr, TemplateNode};

use super::fmt;
use super::parse::{Mistake, Parsed};
use super::place::{Place, last_of_pipe, shown_pipe};
use super::value::{Kind, Nil, Value};

/// How deep templates, blocks and parentheses may stand in each other while it runs: the stack is not
/// without end.
const DEEPEST: usize = 200;
/// Nodes that are executed in all.
const STEPS: usize = 1_000_000;
/// Bytes of text that are made in all, what is thrown away included.
const BYTES: usize = 256 << 20;

/// Executes it.
///
/// # Errors
/// What Go would say, with its place; or that a bound was reached.
pub fn execute(template: &Parsed, data: &Value) -> Result<String, Mistake> {
    let mut run = Run {
        template,
        out: String::new(),
        variables: vec![(SmolStr::new_static("$"), data.clone())],
        name: String::new(),
        depth: 0,
        steps: STEPS,
        bytes: BYTES,
        raw: matches!(data, Value::Object(object) if object.kind == Kind::Raw),
    };
    match run.list(&template.body, data) {
        Ok(()) | Err(Stop::Break | Stop::Continue) => Ok(run.out),
        Err(Stop::Mistake(mistake)) => Err(mistake),
    }
}

enum Stop {
    Break,
    Continue,
    Mistake(Mistake),
}

type Result_<T> = Result<T, Stop>;

/// Characters of an expression that a message shows.
const SHOWN: usize = 200;

struct Run<'a> {
    template: &'a Parsed,
    out: String,
    variables: Vec<(SmolStr, Value)>,
    /// Of the template that is executed: empty for the outermost.
    name: String,
    depth: usize,
    steps: usize,
    bytes: usize,
    /// Whether the data are without types.
    raw: bool,
}

impl Run<'_> {
    fn mistake(&self, place: &Place, message: impl AsRef<str>) -> Stop {
        // Long enough to find the place; what is wrong with it must not drown.
        let shown: String = place.shown.chars().take(SHOWN).collect();
        let more = if shown.len() < place.shown.len() { "..." } else { "" };
        let message = format!("executing {:?} at <{shown}{more}>: {}", self.name, message.as_ref());
        Stop::Mistake(Mistake::new(message, place.offset))
    }

    fn too_much(&self, pos: Pos, what: &str) -> Stop {
        let message = format!("executing {:?}: {what}", self.name);
        Stop::Mistake(Mistake { is_bound: true, ..Mistake::new(message, pos.offset) })
    }

    /// Accounts for work, at a place.
    fn step(&mut self, pos: Pos) -> Result_<()> {
        let too_long = || self.too_much(pos, &format!("the template runs too long: more than {STEPS} steps"));
        self.steps = self.steps.checked_sub(1).ok_or_else(too_long)?;
        Ok(())
    }

    fn spend(&mut self, bytes: usize, pos: Pos) -> Result_<()> {
        let too_long = || self.too_much(pos, &format!("the template makes too much text: more than {BYTES} bytes"));
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(too_long)?;
        Ok(())
    }

    fn deeper<T>(&mut self, pos: Pos, act: impl FnOnce(&mut Self) -> Result_<T>) -> Result_<T> {
        if self.depth >= DEEPEST {
            return Err(self.too_much(pos, &format!("exceeded maximum template depth ({DEEPEST})")));
        }
        self.depth += 1;
        let outcome = act(self);
        self.depth -= 1;
        outcome
    }

    fn write(&mut self, text: &str, pos: Pos) -> Result_<()> {
        self.spend(text.len(), pos)?;
        self.out.push_str(text);
        Ok(())
    }

    fn list(&mut self, list: &ListNode, dot: &Value) -> Result_<()> {
        list.nodes.iter().try_for_each(|node| self.node(node, dot))
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result_<()> {
        match node {
            Node::Text(text) => {
                self.step(text.pos)?;
                self.write(&text.text, text.pos)
            }
            Node::Action(action) => {
                self.step(action.pos)?;
                let value = self.pipe(&action.pipe, dot)?;
                if !action.pipe.decl.is_empty() {
                    return Ok(());
                }
                match value {
                    Value::Str(text) => self.write(&text, action.pos),
                    Value::Missing => self.write("<no value>", action.pos),
                    value => self.write(&fmt::sprint(&[value]), action.pos),
                }
            }
            Node::If(branch) => self.scoped(branch.pos, |run| {
                if run.pipe(&branch.pipe, dot)?.is_true() {
                    run.list(&branch.body, dot)
                } else {
                    run.otherwise(branch, dot)
                }
            }),
            Node::With(branch) => self.scoped(branch.pos, |run| {
                let value = run.pipe(&branch.pipe, dot)?;
                if value.is_true() { run.list(&branch.body, &value) } else { run.otherwise(branch, dot) }
            }),
            Node::Range(branch) => self.scoped(branch.pos, |run| run.range(branch, dot)),
            Node::Template(call) => self.template(call, dot),
            Node::List(list) => self.list(list, dot),
            Node::Break(_) => Err(Stop::Break),
            Node::Continue(_) => Err(Stop::Continue),
            Node::Define(_) => Ok(()),
        }
    }

    /// A block: its variables end with it.
    fn scoped(&mut self, pos: Pos, act: impl FnOnce(&mut Self) -> Result_<()>) -> Result_<()> {
        self.step(pos)?;
        let outside = self.variables.len();
        let outcome = self.deeper(pos, act);
        self.variables.truncate(outside);
        outcome
    }

    fn otherwise(&mut self, branch: &BranchNode, dot: &Value) -> Result_<()> {
        branch.else_body.as_ref().map_or(Ok(()), |list| self.list(list, dot))
    }

    fn range(&mut self, branch: &BranchNode, dot: &Value) -> Result_<()> {
        let over = self.pipe_value(&branch.pipe, dot)?;
        let declared = &branch.pipe.decl;
        if !branch.pipe.is_assign {
            self.variables.extend(declared.iter().map(|name| (name.clone(), over.clone())));
        }
        let count = |n: i64| usize::try_from(n).unwrap_or_default();
        let length = match &over {
            Value::List(items) => items.len(),
            Value::Object(object) if object.is_map() => object.fields.len(),
            Value::Int(_) | Value::Uint(_) if declared.len() > 1 => {
                let place = last_of_pipe(&branch.pipe);
                let message = format!("can't use {} to iterate over more than one variable", fmt::sprint(&[over]));
                return Err(self.mistake(&place, message));
            }
            Value::Int(n) => count(*n),
            Value::Uint(n) => usize::try_from(*n).unwrap_or(usize::MAX),
            Value::Nil(Nil::List | Nil::Map) | Value::Missing => 0,
            other => {
                let message = format!("range can't iterate over {}", fmt::sprint(std::slice::from_ref(other)));
                return Err(self.mistake(&last_of_pipe(&branch.pipe), message));
            }
        };
        if length == 0 {
            return self.otherwise(branch, dot);
        }
        let sorted: Vec<(Value, Value)> = match &over {
            Value::Object(object) => {
                object.sorted().into_iter().map(|(k, v)| (Value::Str(k.clone()), v.clone())).collect()
            }
            _ => Vec::new(),
        };
        let inside = self.variables.len();
        for n in 0..length {
            self.step(branch.pos)?;
            let at = Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
            let (key, item) = match &over {
                Value::List(items) => (at, items[n].clone()),
                Value::Object(_) => sorted[n].clone(),
                _ => (at.clone(), at),
            };
            match &declared[..] {
                [] => {}
                [one] => self.assign(one, item.clone()),
                [first, second, ..] => {
                    self.assign(first, key);
                    self.assign(second, item.clone());
                }
            }
            let outcome = self.list(&branch.body, &item);
            self.variables.truncate(inside);
            match outcome {
                Ok(()) | Err(Stop::Continue) => {}
                Err(Stop::Break) => break,
                Err(mistake) => return Err(mistake),
            }
        }
        Ok(())
    }

    fn template(&mut self, call: &TemplateNode, dot: &Value) -> Result_<()> {
        self.step(call.pos)?;
        let Some(body) = self.template.named.get(call.name.as_str()).cloned() else {
            let argument = call.pipe.as_ref().map_or(String::new(), |pipe| format!(" {}", shown_pipe(pipe)));
            let shown = format!("{{{{template {}{argument}}}}}", fmt::quoted(&call.name));
            let word = self.template.source.get(call.pos.offset..).unwrap_or_default();
            let name = word.find(['"', '`']).filter(|at| *at < 50).unwrap_or_default();
            let place = Place { offset: call.pos.offset + name, shown };
            return Err(self.mistake(&place, format!("template {:?} not defined", call.name.as_str())));
        };
        let data = match &call.pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Missing,
        };
        let variables = std::mem::replace(&mut self.variables, vec![(SmolStr::new_static("$"), data.clone())]);
        let name = std::mem::replace(&mut self.name, call.name.to_string());
        let outcome = self.deeper(call.pos, |run| run.list(&body, &data));
        // Where it went wrong, the message has the name already.
        self.variables = variables;
        self.name = name;
        outcome
    }

    fn assign(&mut self, name: &SmolStr, value: Value) {
        if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *slot = value;
        }
    }
}

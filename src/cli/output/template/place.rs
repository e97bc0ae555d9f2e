//! Where a mistake is, as Go has it: of the parts of a template the one that was looked at last, and
//! how it is written.

use gotmpl::parse::{CommandNode, Expr, Number, PipeNode, SmolStr};

use super::fmt;

/// A place: where it is, and how what stands there is written.
#[derive(Debug, Clone)]
pub struct Place {
    pub offset: usize,
    pub shown: String,
}

/// Go places a chain at its second name.
pub fn place_of(expression: &Expr) -> Place {
    let pos = expression.pos().offset;
    let offset = match expression {
        Expr::Field(_, names) if names.len() > 1 => pos + 1 + names[0].len(),
        Expr::Variable(_, name, names) if !names.is_empty() => pos + name.len(),
        // What was looked at last, when the fields of the outcome are.
        Expr::Chain(_, inner, _) => return last_place(inner),
        _ => pos,
    };
    Place { offset, shown: shown(expression) }
}

fn last_place(expression: &Expr) -> Place {
    match expression {
        Expr::Pipe(_, pipe) => last_of_pipe(pipe),
        other => place_of(other),
    }
}

/// The last that a pipeline looks at.
pub fn last_of_pipe(pipe: &PipeNode) -> Place {
    let last = pipe.commands.last().and_then(|command| command.args.last());
    last.map_or_else(|| Place { offset: pipe.pos.offset, shown: String::new() }, last_place)
}

/// A function with its arguments.
pub fn of_call(command: &CommandNode) -> Place {
    let shown = command.args.iter().map(shown).collect::<Vec<_>>().join(" ");
    Place { offset: command.args[0].pos().offset, shown }
}

/// An expression as Go writes it.
pub fn shown(expression: &Expr) -> String {
    let path = |names: &[SmolStr]| names.iter().flat_map(|name| [".", name.as_str()]).collect::<String>();
    match expression {
        Expr::Dot(_) => ".".into(),
        Expr::Field(_, names) => path(names),
        Expr::Variable(_, name, names) => format!("{name}{}", path(names)),
        Expr::Identifier(_, name) => name.to_string(),
        Expr::String(_, text) => fmt::quoted(text),
        Expr::Number(_, Number::Int(n)) => n.to_string(),
        Expr::Number(_, Number::Uint(n)) => n.to_string(),
        Expr::Number(_, Number::Float(n)) => format!("{n:?}"),
        Expr::Bool(_, yes) => yes.to_string(),
        Expr::Nil(_) => "nil".into(),
        Expr::Pipe(_, pipe) => format!("({})", shown_pipe(pipe)),
        Expr::Chain(_, inner, names) => format!("{}{}", shown(inner), path(names)),
    }
}

pub fn shown_pipe(pipe: &PipeNode) -> String {
    let declared = match (&pipe.decl[..], pipe.is_assign) {
        ([], _) => String::new(),
        (names, assign) => {
            let names = names.iter().map(SmolStr::as_str).collect::<Vec<_>>().join(", ");
            format!("{names} {} ", if assign { "=" } else { ":=" })
        }
    };
    let command = |c: &CommandNode| c.args.iter().map(shown).collect::<Vec<_>>().join(" ");
    declared + &pipe.commands.iter().map(command).collect::<Vec<_>>().join(" | ")
}

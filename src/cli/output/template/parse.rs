//! From a template's text to its tree. The crate gotmpl reads the language; what Go refuses
//! while it parses, and gotmpl only later or never, is looked for here: blocks without an end,
//! ends without a block, functions and variables that there are not.

use std::collections::HashMap;
use std::rc::Rc;

use gotmpl::TemplateError;
use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, Parser, PipeNode, is_empty_tree};

use super::functions;

/// A template, ready to be executed.
#[derive(Debug)]
pub struct Parsed {
    pub source: String,
    pub body: Rc<ListNode>,
    /// Of `define` and `block`.
    pub named: HashMap<String, Rc<ListNode>>,
    /// Whether functions leave their argument as it is: for a table's headings.
    pub headings: bool,
}

/// What is wrong, and where: a byte of the source.
#[derive(Debug)]
pub struct Mistake {
    pub message: String,
    pub at: usize,
    /// Whether it is only too much.
    pub is_bound: bool,
}

impl Mistake {
    pub fn new(message: impl Into<String>, at: usize) -> Self {
        Self { message: message.into(), at, is_bound: false }
    }
}

/// Behind every template, to see where it comes to lie: in no block, if all are closed.
const END: &str = "\u{1}end of the template\u{1}";

/// # Errors
/// The mistake that Go finds while it parses, mostly in its words.
pub fn parse(source: &str, headings: bool) -> Result<Parsed, Mistake> {
    // Without the mark first: inside of an action it would be a mistake of its own.
    Parser::new(source, "{{", "}}").map_err(|error| mistake(source, &error))?;
    let ended = format!("{source}{END}");
    let parser = Parser::new(&ended, "{{", "}}").map_err(|error| mistake(&ended, &error))?;
    let (mut body, defined) = parser.parse().map_err(|error| mistake(&ended, &error))?;
    match body.nodes.last_mut() {
        Some(Node::Text(text)) if text.text.ends_with(END) => {
            let kept = text.text.strip_suffix(END).unwrap_or_default();
            text.text = kept.into();
        }
        // gotmpl stops at an end that ends nothing, and ends what has no end.
        _ => return Err(unbalanced(source)),
    }
    let mut named: HashMap<String, Rc<ListNode>> = HashMap::new();
    for define in defined {
        let is_empty = define.body.nodes.iter().all(is_empty_tree);
        let check = Check { source, headings, variables: vec!["$".into()], loops: 0 };
        check.run(&define.body)?;
        match named.get(define.name.as_str()) {
            Some(_) if is_empty => {}
            Some(other) if !other.nodes.iter().all(is_empty_tree) => {
                let message = format!("template: multiple definition of template {:?}", define.name.as_str());
                return Err(Mistake::new(message, define.pos.offset));
            }
            _ => {
                named.insert(define.name.to_string(), Rc::new(define.body));
            }
        }
    }
    Check { source, headings, variables: vec!["$".into()], loops: 0 }.run(&body)?;
    Ok(Parsed { source: source.to_owned(), body: Rc::new(body), named, headings })
}

/// Where blocks do not match: an open one is still open behind the last text; else there is one end
/// too many, behind what was read.
fn unbalanced(source: &str) -> Mistake {
    // The blocks' words in the order in which they stand.
    let mut open: Vec<usize> = Vec::new();
    let mut rest = 0;
    while let Some(from) = source[rest..].find("{{").map(|at| rest + at) {
        let to = source[from..].find("}}").map_or(source.len(), |at| from + at);
        let word = source[from + 2..to].trim_start_matches("- ").trim_start();
        let word: &str = word.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        match word {
            "if" | "range" | "with" | "define" | "block" => open.push(from),
            "end" if open.pop().is_none() => return Mistake::new("unexpected {{end}}", from + 2),
            "else" if open.is_empty() => return Mistake::new("unexpected {{else}}", from + 2),
            _ => {}
        }
        rest = (to + 2).min(source.len());
    }
    Mistake::new("unexpected EOF", source.len())
}

/// gotmpl's error in Go's words, where they are known.
fn mistake(source: &str, error: &TemplateError) -> Mistake {
    let (TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. }) = error
    else {
        return Mistake::new(error.to_string(), 0);
    };
    let start: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let column = source[start..].char_indices().nth(col.saturating_sub(1)).map_or(source.len() - start, |(at, _)| at);
    let mut at = (start + column).min(source.strip_suffix(END).unwrap_or(source).len());
    // The token that gotmpl names by its kind: `expected closing delimiter, got Field (".x")`.
    let token = message.rsplit_once(" (").and_then(|(_, token)| token.strip_suffix(')'));
    // The first word of the action.
    let word = source[..at].rfind("{{").map(|from| source[from + 2..].trim_start_matches("- ").trim_start());
    let word = word.and_then(|rest| rest.split(|c: char| !c.is_ascii_alphabetic()).next()).unwrap_or_default();
    let character = message.strip_prefix("unexpected character: '").and_then(|rest| rest.chars().next());
    let message = match message.as_str() {
        "empty command" if matches!(word, "if" | "range" | "with") => format!("missing value for {word}"),
        "empty command" if !source[at..].starts_with('|') => "missing value for command".into(),
        "unexpected token: Else" => "expected end; found {{else}}".into(),
        "unterminated string" => "unterminated quoted string".into(),
        "unterminated raw string" => "unterminated raw quoted string".into(),
        "unexpected token: Eof" => "unexpected EOF".into(),
        _ if message.ends_with(" expects a string name") => {
            // gotmpl is past it by now.
            let clause = message.split(' ').next().unwrap_or_default();
            at = source[..at].rfind(clause).map_or(at, |from| from + clause.len());
            let rest = source[at..].trim_start();
            let name = rest.split([' ', '}']).next().filter(|name| !name.is_empty());
            format!("unexpected {:?} in {clause} clause", name.unwrap_or("}}"))
        }
        "empty command" if source[at..].starts_with('|') => "unexpected \"|\" in command".into(),
        _ if message.ends_with("variables outside a range pipeline") => "too many declarations in command".into(),
        _ if character.is_some() => format!("unexpected {:?} in command", character.unwrap_or_default().to_string()),
        _ if message.starts_with("expected RightParen") => "unclosed left paren".into(),
        _ if token == Some("\")\"") => "unexpected right paren".into(),
        _ if message.starts_with("expected ") && token.is_some() => {
            format!("unexpected {} in command", token.unwrap_or_default())
        }
        other => other.to_owned(),
    };
    Mistake::new(message, at)
}

/// Looks for functions and variables that there are not, and for words out of place.
struct Check<'a> {
    source: &'a str,
    headings: bool,
    variables: Vec<String>,
    /// How many `range` there are around.
    loops: usize,
}

impl Check<'_> {
    fn run(mut self, list: &ListNode) -> Result<(), Mistake> {
        self.list(list)
    }

    fn list(&mut self, list: &ListNode) -> Result<(), Mistake> {
        list.nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &Node) -> Result<(), Mistake> {
        match node {
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) | Node::With(branch) => self.branch(branch, 0),
            Node::Range(branch) => self.branch(branch, 1),
            Node::Template(call) => call.pipe.as_ref().map_or(Ok(()), |pipe| self.pipe(pipe)),
            Node::Break(pos) if self.loops == 0 => Err(Mistake::new("{{break}} outside {{range}}", pos.offset)),
            Node::Continue(pos) if self.loops == 0 => Err(Mistake::new("{{continue}} outside {{range}}", pos.offset)),
            Node::List(list) => self.list(list),
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    /// Variables of the head are the block's.
    fn branch(&mut self, branch: &BranchNode, loops: usize) -> Result<(), Mistake> {
        let outside = self.variables.len();
        self.pipe(&branch.pipe)?;
        let inside = self.variables.len();
        self.loops += loops;
        self.list(&branch.body)?;
        self.loops -= loops;
        self.variables.truncate(inside);
        branch.else_body.as_ref().map_or(Ok(()), |list| self.list(list))?;
        self.variables.truncate(outside);
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), Mistake> {
        for (stage, command) in pipe.commands.iter().enumerate() {
            self.command(command)?;
            let is_value = matches!(
                &command.args[0],
                Expr::Bool(..) | Expr::Dot(_) | Expr::Nil(_) | Expr::Number(..) | Expr::String(..)
            );
            if stage > 0 && is_value {
                let message = format!("non executable command in pipeline stage {}", stage + 1);
                return Err(Mistake::new(message, command.args[0].pos().offset));
            }
        }
        for name in &pipe.decl {
            if pipe.is_assign && !self.variables.iter().any(|known| known == name.as_str()) {
                return Err(Mistake::new(format!("undefined variable {:?}", name.as_str()), pipe.pos.offset));
            }
            if !pipe.is_assign {
                self.variables.push(name.to_string());
            }
        }
        Ok(())
    }

    fn command(&mut self, command: &CommandNode) -> Result<(), Mistake> {
        for arg in &command.args[1..] {
            let at = arg.pos().offset;
            let before = self.source.get(..at).and_then(|text| text.chars().next_back());
            if !before.is_some_and(char::is_whitespace) {
                let what = if matches!(arg, Expr::Dot(_) | Expr::Field(..)) {
                    "<.>".to_owned()
                } else {
                    format!("{:?}", self.source.get(at..at + 1).unwrap_or_default())
                };
                return Err(Mistake::new(format!("unexpected {what} in operand"), at));
            }
        }
        command.args.iter().try_for_each(|arg| self.expression(arg))
    }

    fn expression(&mut self, expression: &Expr) -> Result<(), Mistake> {
        match expression {
            Expr::Identifier(pos, name) if functions::find(name, self.headings).is_none() => {
                Err(Mistake::new(format!("function {:?} not defined", name.as_str()), pos.offset))
            }
            Expr::Variable(pos, name, _) if !self.variables.iter().any(|known| known == name.as_str()) => {
                Err(Mistake::new(format!("undefined variable {:?}", name.as_str()), pos.offset))
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            _ => Ok(()),
        }
    }
}

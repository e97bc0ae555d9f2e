//! `ctr inspect`.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::cli::options::pending;
use crate::cli::output::template;
use crate::cli::{Globals, Run, network, output};
use crate::container::size::Sizes;
use crate::container::{inspect, start};
use crate::error::{self, Failure};
use crate::image;
use crate::network::names as networks;
use crate::store::{Store, names};

/// Show all that is known of containers, images and networks
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr inspect web
  ctr inspect -f '{{.State.Pid}} {{.State.StartedAt}}' web
  ctr inspect -f '{{json .Config.Env}}' --type image busybox")]
pub struct InspectCommand {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
    /// Sizes of containers too
    #[arg(short, long)]
    size: bool,
    /// Only container, image or network
    #[arg(long, value_name = "type")]
    r#type: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

impl Run for InspectCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let kind = Kind::check(self.r#type.as_deref().unwrap_or_default())?;
        show(globals, &self.names, self.format.as_deref(), self.size, kind)
    }
}

/// Show all that is known of containers
#[derive(Debug, clap::Parser)]
pub struct ContainerInspect {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
    /// Sizes too
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

impl Run for ContainerInspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        show(globals, &self.names, self.format.as_deref(), self.size, Kind::Container)
    }
}

/// Show all that is known of images
#[derive(Debug, clap::Parser)]
pub struct ImageInspect {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

impl Run for ImageInspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        show(globals, &self.names, self.format.as_deref(), false, Kind::Image)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Container,
    Image,
    Network,
}

impl Kind {
    fn check(text: &str) -> Result<Self> {
        match text {
            "" | "all" => Ok(Self::Any),
            "container" => Ok(Self::Container),
            "image" => Ok(Self::Image),
            "network" => Ok(Self::Network),
            "volume" | "secret" | "plugin" | "node" | "service" | "task" | "config" => {
                pending::refused(&format!("--type {text}"))
            }
            _ => Err(Failure::new(format!("{text:?} is not a valid value for --type")).exit(1).into()),
        }
    }
}

fn show(globals: &Globals, names: &[String], format: Option<&str>, size: bool, kind: Kind) -> Result<u8> {
    let store = globals.store()?;
    print(format, names, |name| one(&store, name, size, kind))
}

/// Prints what each name stands for, and says which stand for nothing; the exit code.
///
/// # Errors
/// The format is wrong.
pub fn print(format: Option<&str>, names: &[String], find: impl Fn(&str) -> Result<Value>) -> Result<u8> {
    let mut found = Vec::with_capacity(names.len());
    let mut code = 0;
    for name in names {
        match find(name) {
            Ok(object) => found.push(object),
            Err(failure) => {
                output::say(&error::render(&failure));
                code = 1;
            }
        }
    }
    let text = match format.filter(|format| !format.is_empty()) {
        None => pretty(&found)?,
        Some("json") => Value::from(found).to_string() + "\n",
        Some(source) => found.iter().map(|object| template::render(source, object)).collect::<Result<String>>()?,
    };
    output::print(&text);
    Ok(code)
}

fn one(store: &Store, name: &str, size: bool, kind: Kind) -> Result<Value> {
    if kind == Kind::Network {
        return network::one(store, name, false);
    }
    if kind != Kind::Image {
        match names::resolve(store, name) {
            Ok(id) => {
                let size = if size { Some(Sizes::enter(store)?.of(&start::config(store, &id)?)) } else { None };
                return inspect::inspect(store, &id, size);
            }
            // Ambiguous, or no such container: with any kind, it may be an image.
            Err(failure) if kind == Kind::Container => return Err(failure),
            Err(_) => {}
        }
    }
    match image::inspect(store, name)? {
        Some(image) => Ok(image),
        // Docker's order: containers, images, networks.
        None if kind == Kind::Any && networks::resolve(store, name).is_ok() => network::one(store, name, false),
        None if kind == Kind::Image => Err(Failure::new(format!("No such image: {name}")).into()),
        None => Err(Failure::new(format!("No such object: {name}")).into()),
    }
}

/// JSON indented by four, as Docker prints it; an empty list has no line of its own.
fn pretty(objects: &[Value]) -> Result<String> {
    if objects.is_empty() {
        return Ok("[]\n".into());
    }
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    objects.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format))?;
    Ok(String::from_utf8(out)? + "\n")
}

//! `ctr inspect`.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::cli::options::pending;
use crate::cli::output::template::ObjectTemplate;
use crate::cli::{Globals, Run, complete, network, output, secret};
use crate::container::size::Sizes;
use crate::container::{inspect, start};
use crate::error::{self, Failure};
use crate::image::platform::Platform;
use crate::image::{self, no_such_image};
use crate::network::names as networks;
use crate::store::{Store, names};

/// Show all that is known of containers, images, networks and secrets
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
    /// Only container, image, network or secret
    #[arg(long, value_name = "type", add = complete::Kind::Words(&["container", "image", "network", "secret"]))]
    r#type: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

impl Run for InspectCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let kinds = kinds(self.r#type.as_deref())?;
        show(globals, &self.names, self.format.as_deref(), self.size, kinds)
    }
}

/// Show all that is known of containers
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr container inspect web
  ctr container inspect -f '{{.State.ExitCode}}' job")]
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
        show(globals, &self.names, self.format.as_deref(), self.size, kinds(Some("container"))?)
    }
}

/// Show all that is known of images
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr image inspect busybox
  ctr image inspect -f '{{json .Config.Cmd}}' busybox")]
pub struct ImageInspect {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
    /// The image for this platform of those that a name leads to, "os[/arch[/variant]]"
    #[arg(long, value_name = "os/arch")]
    platform: Option<Platform>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

impl Run for ImageInspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let platform = self.platform.as_ref();
        print(self.format.as_deref(), &self.names, |name| {
            image::inspect(&store, name, platform)?.ok_or_else(|| no_such_image(name).into())
        })
    }
}

/// A kind of object that can be asked for.
struct Kind {
    /// As `--type` has it.
    name: &'static str,
    /// The object of that name; `None`: there is none. `true`: with sizes.
    find: fn(&Store, &str, bool) -> Result<Option<Value>>,
    /// Docker's sentence where there is none.
    absent: fn(&str) -> String,
}

/// In Docker's order: an object of the first kind that has one is what a name means.
static KINDS: &[Kind] = &[
    Kind { name: "container", find: container, absent: |name| format!("No such container: {name}") },
    Kind {
        name: "image",
        find: |store, name, _| image::inspect(store, name, None),
        absent: |name| no_such_image(name).to_string(),
    },
    Kind { name: "network", find: network, absent: |name| format!("network {name} not found") },
    Kind {
        name: "secret",
        find: |store, name, _| there(secret::one(store, name), &format!("secret {name} not found")),
        absent: |name| format!("secret {name} not found"),
    },
];

/// Docker's others, which ctr does not have, or not yet.
const ABSENT: [&str; 6] = ["config", "node", "plugin", "service", "task", "volume"];

/// The kinds that `--type` asks for; all without it.
fn kinds(given: Option<&str>) -> Result<&'static [Kind]> {
    let Some(given) = given else { return Ok(KINDS) };
    if let Some(at) = KINDS.iter().position(|kind| kind.name == given) {
        return Ok(&KINDS[at..=at]);
    }
    if ABSENT.contains(&given) {
        return pending::refused(&format!("--type {given}"));
    }
    let what = if given.is_empty() { "type is empty".to_owned() } else { format!("unknown type: {given:?}") };
    let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    let names = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    Err(Failure::new(format!("{what}: must be one of {names}")).exit(1).into())
}

fn show(globals: &Globals, names: &[String], format: Option<&str>, size: bool, kinds: &[Kind]) -> Result<u8> {
    let store = globals.store()?;
    print(format, names, |name| one(&store, name, size, kinds))
}

/// Prints what each name stands for, then says which stand for nothing; the exit code. Docker prints
/// `[]` where it found nothing, and an empty line where a template was to show it.
///
/// # Errors
/// The format is wrong.
pub fn print(format: Option<&str>, names: &[String], find: impl Fn(&str) -> Result<Value>) -> Result<u8> {
    let template = match format.filter(|format| !matches!(*format, "" | "json")) {
        Some(source) => Some(ObjectTemplate::check(source)?),
        None => None,
    };
    let mut found = Vec::with_capacity(names.len());
    let mut text = String::new();
    let mut failures = Vec::new();
    for name in names {
        let object = find(name).and_then(|object| {
            if let Some(template) = &template {
                text.push_str(&template.render(&object)?);
            } else {
                found.push(object);
            }
            Ok(())
        });
        failures.extend(object.err());
    }
    output::print(&match (&template, format) {
        (Some(_), _) if text.is_empty() => "\n".to_owned(),
        (Some(_), _) => text,
        (None, Some("json")) => Value::from(found).to_string() + "\n",
        (None, _) => pretty(&found)?,
    });
    for failure in &failures {
        output::say(&error::render(failure));
    }
    Ok(u8::from(!failures.is_empty()))
}

fn one(store: &Store, name: &str, size: bool, kinds: &[Kind]) -> Result<Value> {
    for kind in kinds {
        if let Some(found) = (kind.find)(store, name, size)? {
            return Ok(found);
        }
    }
    let absent = match kinds {
        [kind] => (kind.absent)(name),
        _ => format!("No such object: {name}"),
    };
    Err(Failure::new(absent).into())
}

fn container(store: &Store, name: &str, size: bool) -> Result<Option<Value>> {
    let found = names::resolve(store, name).and_then(|id| {
        let size = if size { Some(Sizes::enter(store)?.of(&start::config(store, &id)?)) } else { None };
        inspect::inspect(store, &id, size)
    });
    there(found, "No such container")
}

fn network(store: &Store, name: &str, _size: bool) -> Result<Option<Value>> {
    match networks::resolve(store, name) {
        Ok(_) => network::one(store, name, false).map(Some),
        // The networks that are always there are made when they are first asked for.
        Err(_) if matches!(name, "bridge" | "host" | "none") => network::one(store, name, false).map(Some),
        Err(failure) if error::message(&failure).ends_with("not found") => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What is said to be missing is not there; anything else that went wrong is to be known.
fn there(found: Result<Value>, missing: &str) -> Result<Option<Value>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(failure) if error::message(&failure).starts_with(missing) => Ok(None),
        Err(failure) => Err(failure),
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

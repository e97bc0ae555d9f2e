//! Which events are wanted: `--filter` of `events`, by Docker's rules (moby, `daemon/events/filter.go`,
//! and its documentation): values of one name are alternatives, those of `label` must all be there.

use super::Event;
use crate::error::Failure;

/// Filters, checked.
#[derive(Debug, Default)]
pub struct Filters(Vec<(Name, Vec<String>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Event,
    Image,
    Label,
    Scope,
    Type,
    /// The beginning of an actor's id or name: of one of a type, or for `daemon` and its like of any.
    Actor(&'static str),
}

impl Name {
    fn of(text: &str) -> Option<Self> {
        const ACTORS: [&str; 9] =
            ["container", "daemon", "network", "plugin", "volume", "node", "service", "secret", "config"];
        Some(match text {
            "event" => Self::Event,
            "image" => Self::Image,
            "label" => Self::Label,
            "scope" => Self::Scope,
            "type" => Self::Type,
            _ => Self::Actor(ACTORS.into_iter().find(|name| *name == text)?),
        })
    }
}

impl Filters {
    /// # Errors
    /// A name that there is not.
    pub fn check(given: &[(String, String)]) -> Result<Self, Failure> {
        let mut filters: Vec<(Name, Vec<String>)> = Vec::new();
        for (text, value) in given {
            let name = Name::of(text).ok_or_else(|| Failure::new(format!("invalid filter '{text}'")))?;
            match filters.iter_mut().find(|(other, _)| *other == name) {
                Some((_, values)) => values.push(value.clone()),
                None => filters.push((name, vec![value.clone()])),
            }
        }
        Ok(Self(filters))
    }

    /// Whether the event is one of those wanted.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.0.iter().all(|(name, values)| name.matches(values, event))
    }
}

impl Name {
    fn matches(self, values: &[String], event: &Event) -> bool {
        let attributes = &event.actor.attributes;
        let is = |text: &str| values.iter().any(|value| value == text);
        let begins = |text: &str| values.iter().any(|value| text.starts_with(value.as_str()));
        let attribute = |name: &str| attributes.get(name).map(String::as_str).unwrap_or_default();
        match self {
            // The command stands behind a colon in these: then the beginning is enough, for all given.
            Self::Event if ["health_status", "exec_create", "exec_start"].iter().any(|name| is(name)) => {
                begins(&event.action)
            }
            Self::Event => is(&event.action),
            Self::Type => is(&event.kind),
            Self::Scope => is(&event.scope),
            Self::Label => values.iter().all(|label| match label.split_once('=') {
                Some((name, value)) => attributes.get(name).is_some_and(|own| own == value),
                None => attributes.contains_key(label),
            }),
            Self::Image => {
                let name = attribute(if event.kind == "image" { "name" } else { "image" });
                let mut forms = [&event.actor.id, name, without_tag(&event.actor.id), without_tag(name)].into_iter();
                forms.any(|form| !form.is_empty() && is(form))
            }
            Self::Actor(_) => begins(&event.actor.id) || begins(attribute("name")),
        }
    }
}

/// `localhost:5000/busybox:1` without `:1`; an id, `sha256:…`, is none.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') && repository != "sha256" => repository,
        _ => name,
    }
}

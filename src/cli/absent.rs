//! Docker's commands that ctr does not have yet: said by name, so that nobody takes a command that
//! works with Docker for a mistyped one.

/// Whole commands, with all that stands behind their word.
const COMMANDS: &[&str] =
    &["build", "builder", "buildx", "checkpoint", "compose", "context", "plugin", "swarm", "trust", "volume"];

/// Commands of groups that ctr has.
const GROUPED: &[(&str, &[&str])] = &[("image", &["build"])];

/// The name of the absent command that these first words of a command line mean.
#[must_use]
pub fn command(first: &str, second: Option<&str>) -> Option<String> {
    if COMMANDS.contains(&first) {
        return Some(first.to_owned());
    }
    let (_, names) = GROUPED.iter().find(|(group, _)| *group == first)?;
    let name = second.filter(|name| names.contains(name))?;
    Some(format!("{first} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ctr_has_is_not_called_absent() {
        for name in COMMANDS {
            assert!(crate::cli::tree().find_subcommand(name).is_none(), "{name}");
        }
        for (group, names) in GROUPED {
            let tree = crate::cli::tree();
            let group = tree.find_subcommand(group).expect("a group of ctr");
            assert!(names.iter().all(|name| group.find_subcommand(name).is_none()), "{group}");
        }
    }

    #[test]
    fn groups_are_told_apart() {
        assert_eq!(command("build", Some("a:b")).as_deref(), Some("build"));
        assert_eq!(command("image", Some("build")).as_deref(), Some("image build"));
        assert_eq!(command("container", Some("foo")), None);
        assert_eq!(command("container", None), None);
        assert_eq!(command("foo", None), None);
    }
}

//! `--change`: Dockerfile instructions applied to an image's configuration.

mod health;

use serde_json::{Map, Value, json};

use crate::error::Failure;

/// Applies instructions to a configuration's `config` object, as those of one Dockerfile: an
/// `ENTRYPOINT` takes away a `CMD` that was there before them.
///
/// # Errors
/// An instruction that is unknown here, or that has no sense.
pub fn apply(config: &mut Map<String, Value>, instructions: &[String]) -> Result<(), Failure> {
    let mut has_command = false;
    for instruction in instructions {
        match apply_one(config, instruction)?.as_str() {
            "CMD" => has_command = true,
            "ENTRYPOINT" if !has_command => drop(config.remove("Cmd")),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the instruction's word.
fn apply_one(config: &mut Map<String, Value>, instruction: &str) -> Result<String, Failure> {
    let instruction = instruction.trim();
    if instruction.is_empty() {
        return Err(Failure::new("an empty --change"));
    }
    let invalid = |why: String| Failure::new(format!("invalid change {instruction:?}: {why}"));
    let (word, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    let rest = rest.trim();
    let word = word.to_uppercase();
    if rest.is_empty() && !matches!(word.as_str(), "CMD" | "ENTRYPOINT") {
        return Err(Failure::new(format!("invalid change {instruction:?}: {word} needs an argument")));
    }
    match word.as_str() {
        "CMD" => set(config, "Cmd", command(config, rest)),
        "ENTRYPOINT" => set(config, "Entrypoint", command(config, rest)),
        "ENV" => {
            for (name, value) in pairs(instruction, rest)? {
                set_env(config, &name, &value);
            }
        }
        "LABEL" => {
            for (name, value) in pairs(instruction, rest)? {
                members(config, "Labels").insert(name, Value::String(value));
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                if !is_port(&port) {
                    return Err(Failure::new(format!("invalid change {instruction:?}: invalid port {port:?}")));
                }
                members(config, "ExposedPorts").insert(port, json!({}));
            }
        }
        "VOLUME" => {
            let paths = json_words(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            for path in paths {
                members(config, "Volumes").insert(path, json!({}));
            }
        }
        "USER" => set(config, "User", rest.into()),
        "WORKDIR" => {
            let old = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
            let path = std::path::Path::new("/").join(old).join(rest);
            set(config, "WorkingDir", path.to_string_lossy().into_owned().into());
        }
        "STOPSIGNAL" => set(config, "StopSignal", rest.into()),
        "HEALTHCHECK" => set(config, "Healthcheck", health::parse(rest).map_err(invalid)?),
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_uppercase();
            match trigger.as_str() {
                "ONBUILD" => return Err(invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into())),
                "FROM" | "MAINTAINER" => return Err(invalid(format!("{trigger} isn't allowed as an ONBUILD trigger"))),
                _ => {}
            }
            let mut triggers = config.get("OnBuild").and_then(Value::as_array).cloned().unwrap_or_default();
            triggers.push(rest.into());
            set(config, "OnBuild", triggers.into());
        }
        "SHELL" => match json_words(rest) {
            Some(words) if !words.is_empty() => set(config, "Shell", words.into()),
            _ => return Err(invalid("SHELL requires the arguments to be in JSON form".into())),
        },
        _ => return Err(invalid(format!("{word} is not a valid change command"))),
    }
    Ok(word)
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// The object `key`, made when it is missing.
fn members<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(members) => members,
        _ => unreachable!("made an object above"),
    }
}

/// Sets a variable, in the place of an older one of that name.
fn set_env(config: &mut Map<String, Value>, name: &str, value: &str) {
    let mut env: Vec<Value> = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let entry = Value::String(format!("{name}={value}"));
    let same = |e: &Value| e.as_str().and_then(|e| e.split_once('=')).is_some_and(|(n, _)| n == name);
    match env.iter_mut().find(|e| same(e)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
    set(config, "Env", env.into());
}

/// The words of `["a", "b"]`; otherwise the shell's.
fn command(config: &Map<String, Value>, text: &str) -> Value {
    match json_words(text) {
        Some(words) => words.into(),
        None if text.is_empty() => Value::Array(Vec::new()),
        None => {
            let shell = config.get("Shell").and_then(Value::as_array).filter(|shell| !shell.is_empty()).cloned();
            let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            words.push(text.into());
            words.into()
        }
    }
}

fn json_words(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn is_port(text: &str) -> bool {
    let Some((ports, protocol)) = text.split_once('/') else { return false };
    let number = |n: &str| n.parse::<u16>().is_ok_and(|n| n > 0);
    matches!(protocol, "tcp" | "udp" | "sctp") && ports.splitn(2, '-').all(number)
}

/// `name=value …` with quotes and backslashes, or `name value` to the end of the line.
fn pairs(instruction: &str, text: &str) -> Result<Vec<(String, String)>, Failure> {
    let words = words(text);
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if value.is_empty() {
            return Err(Failure::new(format!("invalid change {instruction:?}: {name:?} has no value")));
        }
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::new(format!("invalid change {instruction:?}: {word:?} is not name=value"))),
    };
    words.iter().map(pair).collect()
}

/// Splits at blanks outside quotes; quotes go away, backslashes quote the next character.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Value {
        let mut config = Map::new();
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        apply(&mut config, &changes).expect("good changes");
        Value::Object(config)
    }

    #[test]
    fn instructions_say_what_they_say_in_a_dockerfile() {
        assert_eq!(changed(&[r#"CMD ["sh", "-c", "x"]"#]), json!({"Cmd": ["sh", "-c", "x"]}));
        assert_eq!(changed(&["cmd echo $A"]), json!({"Cmd": ["/bin/sh", "-c", "echo $A"]}));
        assert_eq!(changed(&["ENTRYPOINT []"]), json!({"Entrypoint": []}));
        assert_eq!(changed(&["ENV A=1 B=\"x y\" C=a\\ b", "ENV A 2 3"]), json!({"Env": ["A=2 3", "B=x y", "C=a b"]}));
        assert_eq!(changed(&["LABEL a='b=c'"]), json!({"Labels": {"a": "b=c"}}));
        assert_eq!(changed(&["EXPOSE 80 53/udp"]), json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}));
        assert_eq!(changed(&["WORKDIR /a", "WORKDIR b"]), json!({"WorkingDir": "/a/b"}));
        assert_eq!(changed(&["ONBUILD RUN a", "onbuild RUN b"]), json!({"OnBuild": ["RUN a", "RUN b"]}));
        let shell = json!({"Shell": ["/bin/bash", "-c"], "Cmd": ["/bin/bash", "-c", "x"]});
        assert_eq!(changed(&[r#"SHELL ["/bin/bash", "-c"]"#, "CMD x"]), shell);
        assert_eq!(changed(&["HEALTHCHECK NONE"]), json!({"Healthcheck": {"Test": ["NONE"]}}));
    }

    #[test]
    fn a_new_entrypoint_takes_the_old_command_away() {
        let mut config = Map::from_iter([("Cmd".to_owned(), json!(["old"]))]);
        apply(&mut config, &["ENTRYPOINT [\"e\"]".to_owned()]).expect("good");
        assert_eq!(Value::Object(config), json!({"Entrypoint": ["e"]}));
        assert_eq!(changed(&["CMD [\"c\"]", "ENTRYPOINT [\"e\"]"]), json!({"Cmd": ["c"], "Entrypoint": ["e"]}));
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = ["", "FOO bar", "ENV", "ENV A", "EXPOSE x", "EXPOSE 70000", "HEALTHCHECK x", "LABEL =x", "SHELL sh"];
        for bad in bad.into_iter().chain(["ONBUILD FROM x", "ONBUILD onbuild RUN x"]) {
            assert!(apply(&mut Map::new(), &[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }
}

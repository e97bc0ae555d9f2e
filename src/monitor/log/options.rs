//! `--log-driver` and `--log-opt`, checked, with Docker's names, defaults and errors (moby,
//! `daemon/logger`).

use std::collections::BTreeMap;

use anyhow::Result;
use gotmpl::{MissingKey, Template, Value};
use regex::Regex;

use super::Names;
use super::file::Limits;
use crate::container::config::{ContainerConfig, LogConfig};
use crate::error::Failure;

/// A log driver with its options, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Docker's file format.
    JsonFile(Limits),
    /// Frames in files, rotated and compressed unless told otherwise.
    Local(Limits),
    Journald,
    /// No log.
    None,
}

/// Options that add something to each record.
const EXTRA: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

impl Driver {
    /// From what `--log-driver` and `--log-opt` say.
    ///
    /// # Errors
    /// An unknown driver, an unknown option, an option's bad value, in Docker's words.
    pub fn check(config: &LogConfig) -> Result<Self> {
        let options = &config.config;
        let known: &[&str] = match config.r#type.as_str() {
            "json-file" | "" | "local" => &["max-size", "max-file", "compress"],
            "journald" => &[],
            "none" => return if options.is_empty() { Ok(Self::None) } else { no_options() },
            other => return Err(Failure::new(format!("logger: no log driver named '{other}' is registered")).into()),
        };
        check_mode(options)?;
        let is_local = config.r#type == "local";
        for name in options.keys() {
            let name = name.as_str();
            let known = known.contains(&name) || name == "mode" || !is_local && EXTRA.contains(&name);
            if !known {
                let driver = if config.r#type.is_empty() { "json-file" } else { &config.r#type };
                return Err(Failure::new(if is_local {
                    format!("unknown log opt '{name}' for log driver {driver}")
                } else {
                    format!("unknown log opt '{name}' for {driver} log driver")
                })
                .into());
            }
        }
        let uninitialized = |why| Failure::new(format!("failed to initialize logging driver: {why}"));
        check_extra(options).map_err(uninitialized)?;
        Ok(match config.r#type.as_str() {
            "journald" => Self::Journald,
            "local" => Self::Local(local(options).map_err(uninitialized)?),
            _ => Self::JsonFile(json_file(options).map_err(uninitialized)?),
        })
    }
}

fn no_options<T>() -> Result<T> {
    Err(Failure::new("invalid logging opts for driver none").into())
}

fn check_mode(options: &BTreeMap<String, String>) -> Result<()> {
    match options.get("mode").map(String::as_str) {
        None | Some("" | "blocking") => {}
        // Nothing here waits for a reader or for a network; what would be left out is not.
        Some("non-blocking") => {
            return Err(Failure::new("the log option \"mode=non-blocking\" is not supported yet").into());
        }
        Some(mode) => return Err(Failure::new(format!("logger: logging mode not supported: {mode}")).into()),
    }
    if options.contains_key("max-buffer-size") {
        let message = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
        return Err(Failure::new(message).into());
    }
    Ok(())
}

fn check_extra(options: &BTreeMap<String, String>) -> Result<(), String> {
    for name in ["labels-regex", "env-regex"] {
        regex(options, name)?;
    }
    if let Some(tag) = options.get("tag") {
        Template::new("log-tag").parse(tag).map_err(|e| format!("template: log-tag: {e}"))?;
    }
    Ok(())
}

fn regex(options: &BTreeMap<String, String>, name: &str) -> Result<Option<Regex>, String> {
    let text = options.get(name).filter(|text| !text.is_empty());
    let parsed = text.map(|text| Regex::new(text).map_err(|_| format!("error parsing regexp: `{text}`")));
    parsed.transpose()
}

fn json_file(options: &BTreeMap<String, String>) -> Result<Limits, String> {
    let mut limits = Limits { size: 0, files: 1, compress: false };
    if let Some(text) = options.get("max-size") {
        limits.size = bytes(text, 1000)?;
        if limits.size == 0 {
            return Err("max-size must be a positive number".into());
        }
    }
    if let Some(text) = options.get("max-file") {
        limits.files = count(text)?.ok_or("max-file cannot be less than 1")?;
    }
    if let Some(text) = options.get("compress") {
        limits.compress = boolean(text)?;
        if limits.compress && (limits.files == 1 || limits.size == 0) {
            return Err("compress cannot be true when max-file is less than 2 or max-size is not set".into());
        }
    }
    Ok(limits)
}

fn local(options: &BTreeMap<String, String>) -> Result<Limits, String> {
    let mut limits = Limits { size: 20 << 20, files: 5, compress: true };
    if let Some(text) = options.get("max-size") {
        limits.size = bytes(text, 1024).map_err(|why| format!("invalid value for max-size: {text}: {why}"))?;
        if limits.size == 0 {
            return Err("max size should be a positive number".into());
        }
    }
    if let Some(text) = options.get("max-file") {
        let files = count(text).map_err(|why| format!("invalid value for max-file: {text}: {why}"))?;
        limits.files = files.ok_or("max file count cannot be less than 1")?;
    }
    if let Some(text) = options.get("compress") {
        limits.compress = boolean(text).map_err(|why| format!("error reading compress log option: {why}"))?;
    }
    if limits.compress && limits.files == 1 {
        return Err("compression cannot be enabled when max file count is 1".into());
    }
    Ok(limits)
}

/// `10m`, `1.5GB`, `512`: json-file counts in powers of 1000, local in those of 1024 (go-units'
/// `FromHumanSize` and `RAMInBytes`).
fn bytes(text: &str, unit: u32) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let digits = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' ')).ok_or_else(invalid)? + 1;
    let (number, suffix) = text.split_at(digits);
    let lower = suffix.to_ascii_lowercase();
    let power = match lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    let number: f64 = number.trim_end().parse().map_err(|_| invalid())?;
    let bytes = number * f64::from(unit).powi(power);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    if (0.0..9e18).contains(&bytes) { Ok(bytes as u64) } else { Err(invalid()) }
}

/// `None`: less than one.
fn count(text: &str) -> Result<Option<u32>, String> {
    let number: i64 = text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?;
    Ok(u32::try_from(number).ok().filter(|number| *number > 0))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// What the options add to each record: the labels and variables that they name. The tag is not
/// among them.
pub(super) fn attributes(config: &ContainerConfig) -> BTreeMap<String, String> {
    let options = &config.host_config.log_config.config;
    let listed = |name: &str| options.get(name).map(|text| text.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let mut found = BTreeMap::new();
    let mut pick = |kind: &str, pairs: &mut dyn Iterator<Item = (&str, &str)>| {
        let names = listed(kind);
        let pattern = regex(options, &format!("{kind}-regex")).ok().flatten();
        for (name, value) in pairs {
            if names.contains(&name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name)) {
                found.insert(name.to_owned(), value.to_owned());
            }
        }
    };
    pick("labels", &mut config.config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    pick("env", &mut config.config.env.iter().filter_map(|variable| variable.split_once('=')));
    found
}

/// The tag: the option's template, or `default`.
pub(super) fn tag(config: &ContainerConfig, of: &Names<'_>, default: &str) -> Result<String> {
    let options = &config.host_config.log_config.config;
    let source = options.get("tag").map(String::as_str).filter(|tag| !tag.is_empty()).unwrap_or(default);
    let id = config.id.as_str();
    let image = of.image_id.strip_prefix("sha256:").unwrap_or(of.image_id);
    let fields = [
        ("ID", &id[..12]),
        ("FullID", id),
        ("Name", of.name),
        ("ImageID", image.get(..12).unwrap_or(image)),
        ("ImageFullID", of.image_id),
        ("ImageName", config.config.image.as_str()),
        ("DaemonName", "ctr"),
    ];
    let fields = fields.map(|(name, value)| (name.into(), Value::String(value.into())));
    let data = Value::Map(std::sync::Arc::new(fields.into_iter().collect()));
    let template = Template::new("log-tag").missing_key(MissingKey::Error);
    let text = template.parse(source).and_then(|template| template.execute_to_string(&data));
    text.map_err(|e| Failure::new(format!("failed to initialize logging driver: template: log-tag: {e}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(driver: &str, pairs: &[(&str, &str)]) -> Result<Driver, String> {
        let config = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Driver::check(&LogConfig { r#type: driver.to_owned(), config }).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_and_sizes_are_docker_s() {
        let json = |size, files, compress| Ok(Driver::JsonFile(Limits { size, files, compress }));
        let local = |size, files, compress| Ok(Driver::Local(Limits { size, files, compress }));
        assert_eq!(check("", &[]), json(0, 1, false));
        assert_eq!(check("json-file", &[("max-size", "10m"), ("max-file", "3")]), json(10_000_000, 3, false));
        assert_eq!(check("json-file", &[("max-file", "3")]), json(0, 3, false));
        assert_eq!(
            check("json-file", &[("max-size", "1.5kB"), ("max-file", "2"), ("compress", "T")]),
            json(1500, 2, true)
        );
        assert_eq!(check("local", &[]), local(20 << 20, 5, true));
        assert_eq!(check("local", &[("max-size", "1k"), ("max-file", "1"), ("compress", "0")]), local(1024, 1, false));
        assert_eq!(check("journald", &[("tag", "{{.Name}}"), ("mode", "blocking")]), Ok(Driver::Journald));
        assert_eq!(check("none", &[]), Ok(Driver::None));
    }

    #[test]
    fn errors_are_docker_s() {
        let unset = "failed to initialize logging driver: ";
        for (driver, option, message) in [
            ("json-file", ("foo", "1"), "unknown log opt 'foo' for json-file log driver"),
            ("journald", ("max-size", "1"), "unknown log opt 'max-size' for journald log driver"),
            ("local", ("labels", "a"), "unknown log opt 'labels' for log driver local"),
            ("none", ("max-size", "1"), "invalid logging opts for driver none"),
            ("nosuch", ("a", "b"), "logger: no log driver named 'nosuch' is registered"),
            ("json-file", ("max-size", "0"), "max-size must be a positive number"),
            ("json-file", ("max-size", "-1"), "invalid size: '-1'"),
            ("json-file", ("max-size", "1x"), "invalid suffix: 'x'"),
            ("json-file", ("max-file", "0"), "max-file cannot be less than 1"),
            ("json-file", ("max-file", "x"), "strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                "json-file",
                ("compress", "true"),
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            ("json-file", ("compress", "y"), "strconv.ParseBool: parsing \"y\": invalid syntax"),
            ("json-file", ("env-regex", "("), "error parsing regexp: `(`"),
            ("local", ("max-file", "1"), "compression cannot be enabled when max file count is 1"),
            ("json-file", ("mode", "slow"), "logger: logging mode not supported: slow"),
            (
                "json-file",
                ("max-buffer-size", "1m"),
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
        ] {
            let said = check(driver, &[option]).expect_err(message);
            assert_eq!(said.strip_prefix(unset).unwrap_or(&said), message);
        }
    }
}

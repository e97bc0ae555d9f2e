//! An image's configuration below what the user asked for: Docker's rules, field by field.

use anyhow::Result;
use oci_spec::image::ImageConfiguration;

use super::environment::{self, Inherited};
use super::{Request, bad, lines};
use crate::container::config::{Config, Empty};

impl Request {
    /// Lays the image's configuration under the request's; without an image, only checks it.
    ///
    /// # Errors
    /// Neither gives a command.
    pub fn complete(&mut self, image: Option<&ImageConfiguration>) -> Result<()> {
        merge(&mut self.config, image.and_then(|image| image.config().as_ref()), &self.inherited)
    }
}

fn merge(config: &mut Config, image: Option<&oci_spec::image::Config>, inherited: &Inherited) -> Result<()> {
    let none = oci_spec::image::Config::default();
    let image = image.unwrap_or(&none);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let list = |value: &Option<Vec<String>>| value.clone().filter(|words| !words.is_empty());

    if config.user.is_empty() {
        config.user = text(image.user());
    }
    if config.working_dir.is_empty() {
        config.working_dir = text(image.working_dir());
    }
    if config.stop_signal.is_none() {
        config.stop_signal = image.stop_signal().clone().filter(|signal| !signal.is_empty());
    }
    // One's own entry point takes the image's command away: it was meant for the image's.
    if let Some(words) = &config.entrypoint {
        if words.iter().all(String::is_empty) {
            config.entrypoint = None;
        }
    } else {
        if config.cmd.is_none() {
            config.cmd = list(image.cmd());
        }
        config.entrypoint = list(image.entrypoint());
    }
    if config.entrypoint.is_none() && config.cmd.is_none() {
        return bad("no command specified");
    }
    // The user's come first, the image's that they do not name behind them.
    let own = lines::last_of_each(std::mem::take(&mut config.env));
    let is_named = |variable: &String| own.iter().any(|own| own.split('=').next() == variable.split('=').next());
    let mut below = inherited.of(&list(image.env()).unwrap_or_default());
    below.retain(|variable| !is_named(variable));
    let all = own.into_iter().chain(below);
    config.env =
        all.filter(|variable| variable.contains('=') || environment::EVERY.contains(&variable.as_str())).collect();
    for (name, value) in image.labels().iter().flatten() {
        config.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    for port in image.exposed_ports().iter().flatten() {
        let port = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        config.exposed_ports.insert(port, Empty {});
    }
    // Until there are volumes, what is written to these paths stays in the container's own layer.
    config.volumes.extend(image.volumes().iter().flatten().map(|path| (path.clone(), Empty {})));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::ConfigBuilder;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&w| w.to_owned()).collect()
    }

    fn image() -> oci_spec::image::Config {
        ConfigBuilder::default()
            .env(words(&["PATH=/bin", "A=image", "B=image"]))
            .cmd(words(&["-c"]))
            .entrypoint(words(&["entry"]))
            .user("u".to_owned())
            .working_dir("/w".to_owned())
            .exposed_ports(words(&["80", "53/udp"]))
            .build()
            .unwrap()
    }

    #[test]
    fn what_the_user_says_wins() {
        let mut config = Config { env: words(&["A=own", "B"]), user: "me".into(), ..Config::default() };
        merge(&mut config, Some(&image()), &Inherited::default()).unwrap();
        assert_eq!(config.env, ["A=own", "PATH=/bin"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("me", "/w"));
        assert_eq!((config.entrypoint.unwrap(), config.cmd.unwrap()), (words(&["entry"]), words(&["-c"])));
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    }

    #[test]
    fn a_command_keeps_the_images_entry_point() {
        let mut config = Config { cmd: Some(words(&["x"])), ..Config::default() };
        merge(&mut config, Some(&image()), &Inherited::default()).unwrap();
        assert_eq!((config.entrypoint.unwrap(), config.cmd.unwrap()), (words(&["entry"]), words(&["x"])));
    }

    #[test]
    fn an_entry_point_takes_the_images_command_away() {
        let mut config = Config { entrypoint: Some(words(&["own"])), ..Config::default() };
        merge(&mut config, Some(&image()), &Inherited::default()).unwrap();
        assert_eq!((config.entrypoint.unwrap(), config.cmd), (words(&["own"]), None));

        let mut reset = Config { entrypoint: Some(words(&[""])), ..Config::default() };
        assert_eq!(
            merge(&mut reset, Some(&image()), &Inherited::default()).unwrap_err().to_string(),
            "no command specified"
        );
        let mut reset = Config { entrypoint: Some(words(&[""])), cmd: Some(words(&["x"])), ..Config::default() };
        merge(&mut reset, Some(&image()), &Inherited::default()).unwrap();
        assert_eq!((reset.entrypoint, reset.cmd.unwrap()), (None, words(&["x"])));
    }

    #[test]
    fn no_image_needs_a_command() {
        assert!(merge(&mut Config::default(), None, &Inherited::default()).is_err());
    }
}

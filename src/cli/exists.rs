//! `ctr container exists` and its like: the answer is the exit code, 0 or 1, and 125 where it cannot
//! be told.

use anyhow::Result;

use crate::cli::{Globals, Run, engine_failure};
use crate::image;
use crate::image::reference::Reference;
use crate::network::names as networks;
use crate::secret;
use crate::store::names;

macro_rules! command {
    ($(#[$doc:meta])* $name:ident, $value:literal, $group:literal, $example:literal, $exists:expr) => {
        $(#[$doc])*
        #[derive(Debug, clap::Parser)]
        #[command(after_help = concat!(
            "Examples:\n  ctr ", $group, " exists ", $example, " || echo none\n\n",
            "Exit code: 0 if there is one, 1 if there is none, 125 when it cannot be told. Nothing is printed."
        ))]
        pub struct $name {
            /// Name or id
            #[arg(required = true, value_name = $value)]
            name: String,
        }

        impl Run for $name {
            fn run(self, globals: &Globals) -> Result<u8> {
                let exists: fn(&Globals, &str) -> Result<bool> = $exists;
                engine_failure(exists(globals, &self.name).map(|is_there| u8::from(!is_there)))
            }
        }
    };
}

command!(
    /// Tell whether there is such a container
    Container,
    "CONTAINER",
    "container",
    "web",
    |globals, name| Ok(names::resolve(&globals.store()?, name).is_ok())
);
command!(
    /// Tell whether there is such an image
    Image,
    "IMAGE",
    "image",
    "busybox:1.36",
    |globals, name| {
        let found = image::find(&globals.store()?, name);
        // What can be no image's name is none's.
        if name.parse::<Reference>().is_err() { Ok(found.is_ok_and(|it| it.is_some())) } else { Ok(found?.is_some()) }
    }
);
command!(
    /// Tell whether there is such a network
    Network,
    "NETWORK",
    "network",
    "front",
    |globals, name| Ok(networks::PREDEFINED.contains(&name) || networks::resolve(&globals.store()?, name).is_ok())
);
command!(
    /// Tell whether there is such a secret
    Secret,
    "SECRET",
    "secret",
    "key",
    |globals, name| Ok(secret::find(&globals.store()?, name).is_ok())
);

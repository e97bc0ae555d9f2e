//! `ctr secret create`.

use std::fs::File;
use std::io::stdin;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cli::complete::Kind;
use crate::cli::options::lines;
use crate::cli::{Globals, Run, output};
use crate::error::{Failure, exit};
use crate::secret::{self, New};

/// Keep a file's content, or what is read, as a secret for containers
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr secret create [OPTIONS] SECRET FILE|-",
    after_help = "Examples:
  ctr secret create key ./key.pem
  printf %s \"$PASSWORD\" | ctr secret create password -
  ctr secret create --env password PASSWORD     the variable's value
  ctr run --secret key,mode=0400 --secret password,type=env app"
)]
pub struct Create {
    /// Where it is kept: file is the only driver
    #[arg(short, long, value_name = "name", default_value = "file", hide_default_value = true)]
    driver: String,
    /// Options of the driver
    #[arg(long, visible_alias = "driver-opts", value_name = "name=value")]
    driver_opt: Vec<String>,
    /// FILE is the name of a variable here
    #[arg(long)]
    env: bool,
    /// One that has the name already will do
    #[arg(long)]
    ignore: bool,
    /// Labels
    #[arg(short, long, value_name = "name[=value]", value_parser = lines::label)]
    label: Vec<String>,
    /// Put it in the place of one that has the name
    #[arg(long)]
    replace: bool,
    /// Its name
    #[arg(required = true, value_name = "SECRET", add = Kind::Nothing)]
    name: String,
    /// Where the content is; -: standard input
    #[arg(required = true, value_name = "FILE|-")]
    file: PathBuf,
}

impl Run for Create {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.driver != "file" {
            return Err(Failure::new(format!("the option \"--driver {}\" is not supported yet", self.driver))
                .hint("file keeps secrets below the storage root, readable by you alone")
                .exit(exit::ENGINE)
                .into());
        }
        if self.ignore && self.replace {
            bail!("--ignore and --replace cannot be given together");
        }
        let store = globals.store()?;
        if self.ignore
            && let Some(there) = secret::list(&store)?.into_iter().find(|secret| secret.name == self.name)
        {
            output::print(&format!("{}\n", there.id));
            return Ok(0);
        }
        let content = self.content()?;
        let new = New {
            name: self.name,
            content,
            labels: self.label.iter().map(|text| lines::pair(text)).collect(),
            options: self.driver_opt.iter().map(|text| lines::pair(text)).collect(),
            replace: self.replace,
        };
        output::print(&format!("{}\n", secret::create(&store, new)?.id));
        Ok(0)
    }
}

impl Create {
    fn content(&self) -> Result<Vec<u8>> {
        if self.env {
            let value = std::env::var_os(&self.file).ok_or_else(|| {
                Failure::new(format!("cannot find secret data in environment variable {:?}", self.file))
            })?;
            return secret::read(&*value.into_vec());
        }
        if self.file.as_os_str() == "-" {
            return secret::read(stdin().lock());
        }
        let file = File::open(&self.file).with_context(|| format!("open {}", self.file.display()))?;
        secret::read(file)
    }
}

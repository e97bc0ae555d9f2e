//! `ctr completion`.

use anyhow::Result;

use crate::cli::complete::Kind;
use crate::cli::{Globals, Run, output};
use crate::error::Failure;

/// Shells and their scripts, which ask `ctr __complete` and know nothing of ctr's commands themselves.
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("../../completions/ctr.bash")),
    ("zsh", include_str!("../../completions/_ctr")),
    ("fish", include_str!("../../completions/ctr.fish")),
];

/// Print the script that completes ctr's command line in a shell
///
/// At each TAB the script asks ctr itself, and so offers commands, flags, their values, and the names of
/// containers, images, networks and secrets that there are. For "alias docker=ctr", bash needs the line
/// "complete -F _ctr docker" too; zsh and fish see through aliases.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  source <(ctr completion bash)         in ~/.bashrc
  source <(ctr completion zsh)          in ~/.zshrc, behind compinit
  ctr completion fish | source          in ~/.config/fish/config.fish

For all users it is written to /usr/share/bash-completion/completions/ctr,
/usr/share/zsh/vendor-completions/_ctr or /usr/share/fish/vendor_completions.d/ctr.fish.")]
pub struct Completion {
    /// bash, zsh or fish
    #[arg(required = true, value_name = "SHELL", add = Kind::Words(&["bash", "fish", "zsh"]))]
    shell: String,
}

impl Run for Completion {
    fn run(self, _: &Globals) -> Result<u8> {
        let script = SCRIPTS.iter().find(|(shell, _)| *shell == self.shell).map(|(_, script)| script);
        let unknown =
            || Failure::new(format!("no completion for the shell {:?}", self.shell)).hint("bash, zsh or fish");
        output::print(script.ok_or_else(unknown)?);
        Ok(0)
    }
}

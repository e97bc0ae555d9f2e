//! The integration tests: the real binary against the real kernel, as root and as an ordinary
//! user. A file for each command, and one for each thing that the engine must withstand.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says on standard error why it was skipped"
)]
#![allow(clippy::format_collect, clippy::format_push_string, reason = "tests are read more often than they run")]

mod support;

mod archives;
mod attach;
mod attacks;
mod bad_input;
mod bed;
mod commit;
mod completion;
mod copy_attacks;
mod cp;
mod crash;
mod diff;
mod disk_full;
mod events;
mod exec;
mod exists;
mod export;
mod golden;
mod help;
mod history;
mod hostile_layers;
mod image_files;
mod image_stores;
mod images;
mod info;
mod init;
mod inspect;
mod interactive;
mod keyring;
mod limits;
mod load;
mod logging;
mod login;
mod logs;
mod man;
mod manifest;
mod many;
mod million;
mod network;
mod network_commands;
mod network_doctor;
mod odd_hosts;
mod options;
mod pause;
mod policy;
mod prune;
mod ps;
mod pull;
mod pull_again;
mod push;
mod registries_conf;
mod registry_attacks;
mod registry_redirects;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod secret;
mod start;
mod stats;
mod stop;
mod streams;
mod system_check;
mod system_df;
mod system_prune;
mod system_reset;
mod tag;
mod tls;
mod top;
mod unshare;
mod update;
mod userns;
mod wait;

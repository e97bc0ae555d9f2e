//! The life of a container, as commands drive it: made, started, watched, ended, removed.
//!
//! Called by `cli` (and later `compose`, `build`, `systemd`); calls `image` for the layers,
//! `monitor` for what runs, `store` for the records. Nothing here prints.

pub mod accounts;
pub mod attach;
pub mod bind;
pub mod commit;
pub mod config;
pub mod create;
pub mod exec;
pub mod files;
pub mod heal;
pub mod ids;
mod image_files;
pub mod inspect;
mod launch;
pub mod list;
pub mod logs;
pub mod mounts;
pub mod name;
pub mod network;
pub mod pause;
pub mod processes;
pub mod remove;
pub mod rename;
pub mod restart;
pub mod secret;
pub mod signal;
pub mod size;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
pub mod watch;

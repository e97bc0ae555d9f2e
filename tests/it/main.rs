//! The integration tests: the real binary against the real kernel, as root and as an ordinary
//! user. A file for each command, and one for each thing that the engine must withstand.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says on standard error why it was skipped"
)]
#![allow(clippy::needless_pass_by_value, reason = "closures of tests read better so")]

mod support;
mod version;

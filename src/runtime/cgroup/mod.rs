//! Cgroups.

#[derive(Debug)]
pub struct Cgroup {}

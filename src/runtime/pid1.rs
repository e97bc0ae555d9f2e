//! The container's init (`--init`): the first process of its pid namespace, which has the duties
//! that a program that knows nothing of them would neglect.

/// `argv[0]` of this process; `main` dispatches on it.
pub const NAME: &str = "ctr-init";

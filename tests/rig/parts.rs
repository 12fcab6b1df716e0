//! Unit tests of what the rig relies on: a checker that cannot fail, or a proxy that breaks nothing, is worth
//! nothing.

#[allow(dead_code, reason = "the rig prints more of it than tests look at")]
mod checker;
#[allow(dead_code, reason = "the rig uses all of it")]
#[path = "../it/support/tcpfault.rs"]
mod tcpfault;

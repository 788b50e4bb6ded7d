//! The command `cygnet-lab`.

fn main() {}

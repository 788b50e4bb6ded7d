//! Configuration: files in, one checked model out.

pub mod model;

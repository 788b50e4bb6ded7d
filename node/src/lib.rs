//! The program `cygnet` as a library: configuration, balancing, moving bytes, control, command line.

pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod health;
pub mod pen;
pub mod plan;
pub mod proxy;
pub mod run;

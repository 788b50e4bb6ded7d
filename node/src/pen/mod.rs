//! Pen's front end: its options, commands, files and answers, as Pen 0.34 has them, over the data path of this house.
//!
//! This half is pure. [`Pen`] is the state that options and commands change; What needs the kernel comes in through [`Surroundings`] (figures, names, files) and
//! goes out as [`Effect`]s. What differs from Pen, and why, is in `docs/pen-compatibility.md`.

mod answers;
mod model;

pub use answers::{
    ClientFigures, ConnectionFigures, Effect, Facts, Files, Names, Outcome, ServerFigures, Surroundings,
};
pub use model::*;

//! The whole of the pure part against what Pen 0.34.1 answered.

mod any_input;
mod commands;
mod pages;
mod start;
mod written;

use super::fixture::World;
use super::options::{self, Parsed, Start, Stop};
use super::{Pen, ServerId};

/// The words of a command line, parted by spaces.
fn arguments(line: &str) -> Vec<String> {
    line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn parse(arguments: &[String], world: &World) -> Result<Start, Stop> {
    match options::parse("pen", arguments, world.around()) {
        Parsed::Start(start) => start.finish(world.around()),
        Parsed::Stop(stop) => Err(stop),
    }
}

/// A balancer that has started with this command line.
fn started(line: &str, world: &World) -> Pen {
    parse(&arguments(line), world).unwrap_or_else(|stop| panic!("{line}: {stop:?}")).pen
}

fn answer(pen: &mut Pen, line: &str, world: &World) -> String {
    pen.command(line, world.around()).answer
}

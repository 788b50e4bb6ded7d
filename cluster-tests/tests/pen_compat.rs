//! Pen's front end beside the pen of Debian: the same command lines, commands and clients, and the same answers, byte for
//! byte, except where a reason is given. The tables are data: `pen_compat/options.txt`, and the table of commands that the
//! unit tests use too.

#[path = "pen_compat/servers.rs"]
mod servers;
#[path = "pen_compat/stage.rs"]
mod stage;
#[path = "pen_compat/table.rs"]
mod table;

use anyhow::{Result, ensure};
use cygnet_lab::enter;

use servers::Servers;
use stage::{Program, Stage};
use table::{Case, Row};

const OPTIONS: &str = include_str!("pen_compat/options.txt");
const COMMANDS: &str = include_str!("../../node/src/pen/tests/commands.txt");

/// Runs one case with one program: what it said.
fn transcript(program: Program, case: &Case, servers: &mut Servers) -> Result<String> {
    let mut stage = Stage::new(program)?;
    let mut said = String::new();
    for step in &case.steps {
        said += &format!("> {step}\n");
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        match word {
            "down" => servers.stop(rest),
            "up" => servers.start(rest)?,
            _ => said += &stage.step(word, rest)?,
        }
    }
    Ok(said)
}

/// Only what was said, without the steps.
fn answers(transcript: &str) -> String {
    transcript.lines().filter(|line| !line.starts_with("> ")).map(|line| format!("{line}\n")).collect()
}

/// What is wrong with a case, if anything is.
fn compare(case: &Case, servers: &mut Servers) -> Option<String> {
    let run = |program, servers: &mut Servers| {
        transcript(program, case, servers).unwrap_or_else(|error| format!("{error:#}\n"))
    };
    let (pens, ours) = (run(Program::Pen, servers), run(Program::Ours, servers));
    let told = |what: &str, expected: &str| {
        let same = expected.lines().zip(ours.lines()).take_while(|(one, other)| one == other).count();
        let from = |text: &str| text.lines().skip(same).fold(String::new(), |all, line| all + line + "\n");
        Some(format!("=== {}: {what}\n{}--- ours:\n{}", case.name, from(expected), from(&ours)))
    };
    match &case.ours {
        None if pens == ours => None,
        None => told("pen:", &pens),
        Some(_) if pens == ours => told("the reason to differ is gone", ""),
        Some(expected) if answers(&ours) == *expected => None,
        Some(expected) => told("expected:", expected),
    }
}

#[test]
fn options_and_files_and_signals_do_what_they_do_in_pen() -> Result<()> {
    enter::lab(|| {
        let mut servers = Servers::start_all()?;
        let only = std::env::var("PEN_CASE").unwrap_or_default();
        let cases = table::cases(OPTIONS)?;
        let chosen = cases.iter().filter(|case| case.name.contains(&only));
        let wrong: Vec<_> = chosen.filter_map(|case| compare(case, &mut servers)).collect();
        ensure!(cases.len() > 60, "{} cases", cases.len());
        ensure!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        Ok(())
    })
}

/// Gives all commands of the table to one program; what is not as in the table.
fn replay(program: Program, expected: impl Fn(&Row) -> String) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for session in table::sessions(COMMANDS)? {
        let mut stage = Stage::new(program)?;
        stage.step("pen", &session.options)?;
        for row in &session.rows {
            let answer = stage.answer(&row.command)?;
            let expected = expected(row);
            if answer != expected {
                wrong.push(format!("> {}\n{answer}instead of\n{expected}", row.command));
            }
            if stage.has_ended()? {
                break;
            }
        }
    }
    Ok(wrong)
}

#[test]
fn the_table_of_commands_is_what_the_real_pen_answers() -> Result<()> {
    enter::lab(|| {
        let wrong = replay(Program::Pen, |row| row.pens.clone())?;
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

#[test]
fn the_table_of_commands_is_what_our_pen_answers() -> Result<()> {
    enter::lab(|| {
        let wrong = replay(Program::Ours, |row| row.ours.clone().unwrap_or_else(|| row.pens.clone()))?;
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

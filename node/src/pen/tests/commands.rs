//! `commands.txt`: what Pen 0.34.1 answers, line by line, and what we answer where we differ.
//!
//! `= OPTIONS` starts a balancer, `> COMMAND` gives it a command. `|` is a line of Pen's answer, `~` a last line without
//! its newline. `!` and `?` are the same of ours, where it is another one; `#` above it says why.

use super::*;
use crate::pen::penctl_words;

pub(super) const TABLE: &str = include_str!("commands.txt");

#[derive(Debug, Default)]
struct Row {
    command: String,
    pens: String,
    ours: Option<String>,
    reason: bool,
}

impl Row {
    fn take(&mut self, line: &str) {
        let Some(mark) = line.get(..1) else { return };
        let rest = &line[1..];
        match mark {
            "|" => self.pens += &format!("{rest}\n"),
            "~" => self.pens += rest,
            "!" => *self.ours.get_or_insert_default() += &format!("{rest}\n"),
            "?" => *self.ours.get_or_insert_default() += rest,
            "#" => self.reason = true,
            _ => panic!("not a line of the table: {line:?}"),
        }
    }
}

/// The options of each session, with its commands.
fn sessions() -> Vec<(String, Vec<Row>)> {
    let mut sessions: Vec<(String, Vec<Row>)> = Vec::new();
    for line in TABLE.lines() {
        if let Some(options) = line.strip_prefix("= ") {
            sessions.push((options.to_owned(), Vec::new()));
        } else if let Some(command) = line.strip_prefix("> ") {
            let row = Row { command: command.to_owned(), ..Row::default() };
            sessions.last_mut().expect("a session").1.push(row);
        } else if let Some(row) = sessions.last_mut().and_then(|(_, rows)| rows.last_mut()) {
            row.take(line);
        }
    }
    sessions
}

fn filled_in(text: &str) -> String {
    let time = "2026-11-22 21:53:21";
    let text = text.replace("{time}", time).replace("{pid}", "1828").replace("{control}", "/run/pen.ctl");
    text.replace("{missing}", "entity not found")
}

#[test]
fn every_command_is_answered_as_pen_does_or_for_a_reason_otherwise() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (options, rows) in sessions() {
        let before = World { lacks_countries: true, ..World::default() };
        let mut pen = started(&format!("-f -u root -C /run/pen.ctl {options}"), &before);
        let world = World { is_running: true, ..before };
        for row in rows {
            let answer = answer(&mut pen, &row.command, &world);
            let expected = filled_in(row.ours.as_ref().unwrap_or(&row.pens));
            if answer != expected {
                wrong.push(format!("> {}\n{answer}instead of\n{expected}", row.command));
            }
            if row.ours.is_some() && !row.reason {
                wrong.push(format!("> {}: no reason for our own answer", row.command));
            }
            checked += 1;
        }
    }
    assert!(checked > 180, "{checked} rows");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_answer_of_our_own_is_one_that_penctl_fails_on_or_a_value() {
    for (_, rows) in sessions() {
        for row in rows {
            let Some(ours) = row.ours else { continue };
            let value = row.command.starts_with("log ") || row.command.starts_with("servers");
            assert!(value || penctl_words::is_refusal(ours.as_bytes()), "{}: {ours}", row.command);
        }
    }
}

//! The tables as text.

use anyhow::{Context, Result, bail};

/// A case of `options.txt`.
#[derive(Debug, Default)]
pub(crate) struct Case {
    /// What it is about.
    pub(crate) name: String,
    /// Its steps, in order.
    pub(crate) steps: Vec<String>,
    /// What ours says, where it says something else on purpose.
    pub(crate) ours: Option<String>,
}

/// A balancer that is given commands.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Its command line.
    pub(crate) options: String,
    /// The commands.
    pub(crate) rows: Vec<Row>,
}

/// A command and its answers.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) command: String,
    pub(crate) pens: String,
    pub(crate) ours: Option<String>,
}

/// Reads `options.txt`.
pub(crate) fn cases(text: &str) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("case ") {
            cases.push(Case { name: name.to_owned(), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().context("a step before the first case")?;
        if line.starts_with("why ") {
            case.ours = Some(String::new());
        } else if let Some(ours) = line.strip_prefix("ours") {
            let Some(expected) = &mut case.ours else { bail!("{}: `ours` without a reason", case.name) };
            *expected += &format!("{}\n", ours.strip_prefix(' ').unwrap_or(ours));
        } else {
            case.steps.push(line.to_owned());
        }
    }
    Ok(cases)
}

/// Reads the table of commands (its marks are explained beside the unit tests).
pub(crate) fn sessions(text: &str) -> Result<Vec<Session>> {
    let mut sessions: Vec<Session> = Vec::new();
    for line in text.lines() {
        if let Some(options) = line.strip_prefix("= ") {
            sessions.push(Session { options: options.to_owned(), rows: Vec::new() });
            continue;
        }
        let Some(session) = sessions.last_mut() else { bail!("{line}: before the first session") };
        if let Some(command) = line.strip_prefix("> ") {
            session.rows.push(Row { command: command.to_owned(), ..Row::default() });
        } else if let (Some(row), Some(rest)) = (session.rows.last_mut(), line.get(1..)) {
            match &line[..1] {
                "|" => row.pens += &format!("{rest}\n"),
                "~" => row.pens += rest,
                "!" => *row.ours.get_or_insert_default() += &format!("{rest}\n"),
                "?" => *row.ours.get_or_insert_default() += rest,
                _ => {}
            }
        }
    }
    Ok(sessions)
}

/// Splits a line into words, as a shell does with double quotes.
pub(crate) fn words(line: &str) -> Vec<String> {
    let quoted = line.split('"').enumerate();
    quoted
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// `\r`, `\n` and `\xNN` as the bytes that they stand for.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (byte, length) = match rest.as_bytes().get(at + 1) {
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'x') => {
                let digits = rest.get(at + 2..at + 4);
                (digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(b'?'), 4)
            }
            _ => (b'\\', 1),
        };
        bytes.push(byte);
        rest = rest.get(at + length..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The other way.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let escaped = |byte: &u8| match byte {
        b'\r' => "\\r".to_owned(),
        b'\n' => "\\n".to_owned(),
        b' '..=b'~' => char::from(*byte).to_string(),
        other => format!("\\x{other:02x}"),
    };
    bytes.iter().map(escaped).collect()
}

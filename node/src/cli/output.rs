//! Writing for people and for programs: tables, JSON, colour.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::control::types::{ApiError, Reply};

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people
    #[default]
    Table,
    /// Tables with more columns
    Wide,
    /// JSON with a stable schema, for errors too
    Json,
}

/// The colours that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Good,
    Warning,
    Bad,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

/// Where a command writes.
pub(super) struct Screen<'s> {
    pub(super) format: Format,
    pub(super) colour: bool,
    pub(super) out: &'s mut dyn Write,
    pub(super) err: &'s mut dyn Write,
}

impl Screen<'_> {
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes an answer as one JSON document.
    pub(super) fn json<T: Serialize>(&mut self, body: &T) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self.out, &Reply::new(body))?;
        writeln!(self.out)
    }

    /// Writes one line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", printable(text))
    }

    pub(super) fn paint(&self, text: &str, colour: Option<Colour>) -> String {
        match colour {
            Some(colour) if self.colour => format!("\x1b[{}m{}\x1b[0m", colour.code(), printable(text)),
            _ => printable(text),
        }
    }

    /// Writes a table: columns two spaces apart, no borders.
    pub(super) fn table(&mut self, table: &Table) -> io::Result<()> {
        let shown: Vec<usize> = (0..table.columns.len())
            .filter(|&at| !table.columns[at].wide || self.format == Format::Wide)
            .collect();
        let width = |at: usize| {
            let cells = table
                .rows
                .iter()
                .filter_map(|row| row.get(at))
                .map(|cell| printable(&cell.text).chars().count());
            cells.chain([table.columns[at].head.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
        let head: Vec<Cell> = table.columns.iter().map(|column| Cell::from(column.head)).collect();
        for row in std::iter::once(&head).chain(&table.rows) {
            let mut line = String::new();
            for &at in &shown {
                let Some(Cell { text, colour }) = row.get(at) else { continue };
                let padding = " ".repeat(widths[at].saturating_sub(printable(text).chars().count()));
                let painted = self.paint(text, *colour);
                let (before, after) =
                    if table.columns[at].right { (padding, String::new()) } else { (String::new(), padding) };
                line.push_str(&format!("{before}{painted}{after}  "));
            }
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Writes a failure: as JSON where answers go, or as text beside them.
    pub(super) fn failure(&mut self, error: &ApiError) -> io::Result<()> {
        if self.is_json() {
            return self.json(error);
        }
        writeln!(self.err, "error: {}", printable(&error.error))?;
        for problem in &error.problems {
            writeln!(self.err, "  {}", printable(&problem.to_string()))?;
        }
        if error.remedy.is_empty() { Ok(()) } else { writeln!(self.err, "  {}", printable(&error.remedy)) }
    }
}

/// What others wrote (comments, reasons, names) must not steer the terminal.
pub(super) fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    if text.contains(char::is_control) { text.chars().map(escape).collect() } else { text.to_owned() }
}

struct Column {
    head: &'static str,
    right: bool,
    wide: bool,
}

/// One field of a table.
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub(super) fn coloured(text: impl ToString, colour: Colour) -> Self {
        Self { text: text.to_string(), colour: Some(colour) }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), colour: None }
    }
}

/// A table under construction.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Heads in capitals with their units. A head that starts with `>` is set to the right (numbers), one with `+` is only
    /// shown by `-o wide`; both: `+>`.
    pub(super) fn new(heads: &[&'static str]) -> Self {
        let column = |head: &&'static str| {
            let (head, wide) = head.strip_prefix('+').map_or((*head, false), |head| (head, true));
            let (head, right) = head.strip_prefix('>').map_or((head, false), |head| (head, true));
            Column { head, right, wide }
        };
        Self { columns: heads.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }
}

/// The word for something that is not there.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A moment, in UTC.
pub(super) fn moment(unix_ms: u64) -> String {
    /// The end of the year 9999, where the notation ends.
    const PRINTABLE_MAX_MS: u64 = 253_402_300_799_000;
    let since = std::time::Duration::from_millis(unix_ms.min(PRINTABLE_MAX_MS));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

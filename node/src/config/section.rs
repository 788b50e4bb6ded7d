//! One TOML table, read key by key. Each reader notes what is wrong and goes on, so that one run shows everything.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Fault, Report, did_you_mean};

/// How many syntax errors are worth showing: the parser recovers, but its later findings are often echoes.
const SYNTAX_ERRORS_MAX: usize = 10;

/// A table of the document, with its place and its name in messages.
pub(super) struct Section<'d> {
    table: &'d DeTable<'d>,
    span: Range<usize>,
    path: String,
}

/// What a key said.
pub(super) enum Given<T> {
    /// Nothing.
    Absent,
    /// Something that is wrong; it has been reported.
    Bad,
    /// A good value.
    Good(T),
}

impl<T> Given<T> {
    /// The value, or the default for an absent key; `None` for a bad one.
    pub(super) fn or(self, default: T) -> Option<T> {
        match self {
            Self::Absent => Some(default),
            Self::Bad => None,
            Self::Good(value) => Some(value),
        }
    }

    /// `Some(None)` for an absent key, `None` for a bad one.
    pub(super) fn optional(self) -> Option<Option<T>> {
        match self {
            Self::Absent => Some(None),
            Self::Bad => None,
            Self::Good(value) => Some(Some(value)),
        }
    }
}

/// Reads the text as TOML; syntax errors are noted and end the work, since what follows them would be guesswork.
pub(super) fn document<'d>(text: &'d str, report: &mut Report<'_>) -> Option<Spanned<DeTable<'d>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
        let at = error.span().unwrap_or(0..0);
        let what = format!("not valid TOML: {}", error.message().replace('\n', " "));
        report.add(&at, "", Fault::new(what, "strings stand in double quotes, tables in [brackets]"));
    }
    errors.is_empty().then_some(document)
}

impl<'d> Section<'d> {
    pub(super) fn root(document: &'d Spanned<DeTable<'d>>) -> Self {
        Self { table: document.get_ref(), span: 0..0, path: String::new() }
    }

    /// The full name of a key of this table.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a fault at the value of `key`, or at the table's head when the key is absent.
    pub(super) fn fault(&self, report: &mut Report<'_>, key: &str, fault: Fault) {
        let at = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        report.add(&at, self.key(key), fault);
    }

    /// Notes a fault of the table as a whole.
    pub(super) fn fault_here(&self, report: &mut Report<'_>, fault: Fault) {
        report.add(&self.span, self.path.clone(), fault);
    }

    /// Refuses every key that is not among `known`.
    pub(super) fn refuse_unknown(&self, report: &mut Report<'_>, known: &[&str]) {
        for (key, _) in self.table {
            if known.contains(&key.get_ref().as_ref()) || report.is_full() {
                continue;
            }
            let remedy = match did_you_mean(key.get_ref(), known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            report.add(&key.span(), self.key(&shortened(key.get_ref())), Fault::new("unknown key", remedy));
        }
    }

    /// Reads a key with `parse`.
    pub(super) fn given<T>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        parse: impl FnOnce(&DeValue<'d>) -> Result<T, Fault>,
    ) -> Given<T> {
        let Some(value) = self.table.get(key) else { return Given::Absent };
        match parse(value.get_ref()) {
            Ok(value) => Given::Good(value),
            Err(fault) => {
                report.add(&value.span(), self.key(key), fault);
                Given::Bad
            }
        }
    }

    /// Reads a key that must be there; `example` shows how it looks.
    pub(super) fn required<T>(
        &self,
        report: &mut Report<'_>,
        key: &str,
        example: &str,
        parse: impl FnOnce(&DeValue<'d>) -> Result<T, Fault>,
    ) -> Option<T> {
        match self.given(report, key, parse) {
            Given::Good(value) => Some(value),
            Given::Bad => None,
            Given::Absent => {
                report.add(
                    &self.span,
                    self.key(key),
                    Fault::new("missing", format!("add `{key} = {example}`")),
                );
                None
            }
        }
    }

    /// The elements of an array, each with its place; a single value counts as an array of one.
    pub(super) fn list(&self, key: &str) -> Vec<&'d Spanned<DeValue<'d>>> {
        match self.table.get(key) {
            None => Vec::new(),
            Some(value) => match value.get_ref() {
                DeValue::Array(elements) => elements.iter().collect(),
                _ => vec![value],
            },
        }
    }

    /// Whether the key is there, whatever it says.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A table inside this one.
    pub(super) fn table(&self, report: &mut Report<'_>, key: &str) -> Option<Self> {
        let value = self.table.get(key)?;
        let path = self.key(key);
        if let DeValue::Table(table) = value.get_ref() {
            return Some(Section { table, span: value.span(), path });
        }
        let remedy = format!("write it as [{}]", section_head(&path));
        report.add(&value.span(), path, wrong_type("a table", value.get_ref(), &remedy));
        None
    }

    /// The tables of `[[key]]`, named after their `label` key in messages. More than `max` are refused.
    pub(super) fn tables(&self, report: &mut Report<'_>, key: &str, label: &str, max: usize) -> Vec<Self> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let remedy = format!("write each as [[{}]]", section_head(&self.key(key)));
        let DeValue::Array(elements) = value.get_ref() else {
            report.add(
                &value.span(),
                self.key(key),
                wrong_type("a list of tables", value.get_ref(), &remedy),
            );
            return Vec::new();
        };
        if elements.len() > max {
            let what = format!("{} of them, and {max} is the limit", elements.len());
            report.add(&value.span(), self.key(key), Fault::new(what, "split them over several clusters"));
        }
        let mut sections = Vec::new();
        for (index, element) in elements.iter().enumerate().take(max) {
            if let DeValue::Table(table) = element.get_ref() {
                let name = table.get(label).and_then(|name| name.get_ref().as_str());
                let name = name.map_or_else(|| format!("#{}", index + 1), shortened);
                let path = format!("{}[{name}]", self.key(key));
                sections.push(Section { table, span: element.span(), path });
            } else {
                let fault = wrong_type("a table", element.get_ref(), &remedy);
                report.add(&element.span(), self.key(key), fault);
            }
        }
        sections
    }

    /// The tables of `[key.NAME]` with their names.
    pub(super) fn named_tables(&self, report: &mut Report<'_>, key: &str) -> Vec<(String, Self)> {
        let Some(all) = self.table(report, key) else { return Vec::new() };
        let mut sections = Vec::new();
        for (name, value) in all.table {
            let path = format!("{}[{}]", all.path, shortened(name.get_ref()));
            if let DeValue::Table(table) = value.get_ref() {
                sections.push((name.get_ref().to_string(), Section { table, span: value.span(), path }));
            } else {
                let remedy = format!("write [{key}.NAME] with the keys below it");
                report.add(&value.span(), path, wrong_type("a table", value.get_ref(), &remedy));
            }
        }
        sections
    }
}

/// `service[web].server` -> `service.server`: how the table's head is written.
fn section_head(path: &str) -> String {
    path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

/// "expected X, not Y".
pub(super) fn wrong_type(expected: &str, got: &DeValue<'_>, remedy: &str) -> Fault {
    let got = match got.type_str() {
        kind @ ("integer" | "array") => format!("an {kind}"),
        kind => format!("a {kind}"),
    };
    Fault::new(format!("expected {expected}, not {got}"), remedy)
}

/// A foreign text, fit to stand in a message: control characters escaped, cut when long.
pub(crate) fn shortened(text: &str) -> String {
    /// Characters of a foreign text shown in a message.
    const SHOWN_MAX: usize = 64;
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// What must be unique within a file, and who has it.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<(&'static str, String), String>);

impl Taken {
    /// Notes that the object of `section` has this value of `key`, or tells who has it already.
    pub(super) fn free(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        value: &str,
    ) -> Result<(), Fault> {
        match self.0.entry((key, value.to_owned())) {
            Entry::Vacant(free) => {
                free.insert(section.path.clone());
                Ok(())
            }
            Entry::Occupied(taken) => {
                let what = format!("{value} is taken by the {} above", section_kind(taken.get()));
                Err(Fault::new(what, format!("give each its own {key}")))
            }
        }
    }

    /// Notes that the object of `section` has this value of `key`; a value that an earlier one has is a fault.
    pub(super) fn claim(
        &mut self,
        section: &Section<'_>,
        report: &mut Report<'_>,
        key: &'static str,
        value: Option<String>,
    ) {
        let fault = value.and_then(|value| self.free(section, key, &value).err());
        fault.into_iter().for_each(|fault| section.fault(report, key, fault));
    }
}

/// `service[web].server[s1]` -> `server s1`.
fn section_kind(path: &str) -> String {
    let last = path.rsplit_once("].").map_or(path, |(_, last)| last);
    let last =
        last.rsplit_once('.').map_or(last, |(before, after)| if before.contains('[') { last } else { after });
    last.trim_end_matches(']').replacen('[', " ", 1)
}

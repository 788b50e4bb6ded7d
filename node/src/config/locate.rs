//! Finding things in a text that was read before: the line of a key, the kind of a file.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, position};

/// Which of the two files a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The node's own file.
    Node,
    /// The cluster's file.
    Cluster,
}

/// Guesses from the keys at the top which file a text is; the cluster's when nothing speaks for the node's.
#[must_use]
pub fn file_kind(text: &str) -> FileKind {
    let node = [
        "name",
        "state_dir",
        "api",
        "workers",
        "source",
        "interface",
        "priority",
        "countries",
        "storage",
        "cluster",
    ];
    let (document, _) = DeTable::parse_recoverable(text);
    let document = document.get_ref();
    let has = |key: &&str| document.get(*key).is_some();
    let vip_table = document.get("vip").is_some_and(|vip| vip.get_ref().is_table());
    if vip_table || node.iter().any(has) { FileKind::Node } else { FileKind::Cluster }
}

/// Gives a problem without a line its line: if it is about the file called `known_as`, it is looked up in `text` and
/// called `file` from now on. A key that is not in the text leaves the problem at the nearest table around it.
pub fn locate(problem: &mut Problem, known_as: &str, file: &str, text: &str) {
    if problem.line > 0 || problem.file != known_as {
        return;
    }
    file.clone_into(&mut problem.file);
    let (document, _) = DeTable::parse_recoverable(text);
    if let Some(at) = find(document.get_ref(), &problem.key) {
        (problem.line, problem.column) = position(text, at.start);
    }
}

/// Follows a path such as `service[web].server[s1].address` as far as it goes.
fn find(document: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (mut table, mut found) = (document, None);
    for step in steps(path) {
        let (key, label) =
            step.split_once('[').map_or((step, None), |(key, rest)| (key, rest.strip_suffix(']')));
        let Some(value) = table.get(key).and_then(|value| element(value, label)) else { break };
        found = Some(value.span());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found
}

/// The value itself, the list element whose `name` is the label, or the table below the label.
fn element<'v, 'd>(value: &'v Spanned<DeValue<'d>>, label: Option<&str>) -> Option<&'v Spanned<DeValue<'d>>> {
    let Some(label) = label else { return Some(value) };
    match value.get_ref() {
        DeValue::Array(elements) => elements.iter().find(|element| {
            let name = element.get_ref().get("name").and_then(|name| name.get_ref().as_str());
            name == Some(label)
        }),
        DeValue::Table(table) => table.get(label),
        _ => None,
    }
}

/// Splits a path at the dots that stand outside brackets (names may have dots).
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    path.split(move |c| {
        inside = (inside || c == '[') && c != ']';
        c == '.' && !inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[[service]]\nname = \"a.b\"\n[[service]]\nname = \"web\"\n[[service.server]]\nname = \"s1\"\naddress = \"x\"\n";

    fn located(key: &str) -> (usize, usize) {
        let (key, what) = (key.to_owned(), String::new());
        let mut problem =
            Problem { file: "known".into(), line: 0, column: 0, key, remedy: what.clone(), what };
        locate(&mut problem, "known", "c.toml", TEXT);
        assert_eq!(problem.file, "c.toml");
        (problem.line, problem.column)
    }

    #[test]
    fn a_key_is_found_by_its_path_or_by_what_is_around_it() {
        assert_eq!(located("service[web].server[s1].address"), (7, 11));
        assert_eq!(located("service[web].server[s1].weight"), (5, 1));
        assert_eq!(located("service[a.b].listen"), (1, 1));
        assert_eq!(located("interface"), (0, 0));
        assert_eq!(located(""), (0, 0));
    }

    #[test]
    fn the_kind_of_a_file_shows_in_its_keys() {
        assert_eq!(file_kind("name = \"lb1\""), FileKind::Node);
        assert_eq!(file_kind("[vip.www]\npriority = 1"), FileKind::Node);
        assert_eq!(file_kind("[[vip]]\nname = \"www\""), FileKind::Cluster);
        assert_eq!(file_kind(TEXT), FileKind::Cluster);
        assert_eq!(file_kind(""), FileKind::Cluster);
    }
}

//! `[roles]` in the node's file: who may use the API.

use toml::de::DeValue;

use super::model::{ApiRoles, Whom};
use super::problem::{Fault, Report};
use super::section::{Section, shortened, wrong_type};

/// Most names of one role: each request goes through them.
const ROLES_MAX: usize = 64;
/// Longest name of a user or group, bytes (LOGIN_NAME_MAX of Linux, with its closing zero, is 256; useradd(8) allows 32).
const ACCOUNT_BYTES_MAX: usize = 255;

/// `[roles]`; absent: the socket's mode decides.
pub(super) fn roles(root: &Section<'_>, report: &mut Report<'_>) -> Option<Option<ApiRoles>> {
    if !root.has("roles") {
        return Some(None);
    }
    let section = root.table(report, "roles")?;
    section.refuse_unknown(report, &["operators", "readers"]);
    let mut list = |key: &str| {
        let elements = section.list(key);
        if elements.len() > ROLES_MAX {
            let what = format!("{} names, and {ROLES_MAX} is the limit", elements.len());
            section.fault(report, key, Fault::new(what, "name a group"));
        }
        let mut all = Vec::new();
        for element in elements.into_iter().take(ROLES_MAX) {
            match whom(element.get_ref()) {
                Ok(whom) => all.push(whom),
                Err(fault) => report.add(&element.span(), section.key(key), fault),
            }
        }
        all
    };
    Some(Some(ApiRoles { operators: list("operators"), readers: list("readers") }))
}

/// `alice`, `@group`, or `*`.
fn whom(value: &DeValue<'_>) -> Result<Whom, Fault> {
    let remedy = "write a user (\"alice\"), a group (\"@netops\") or \"*\" for everybody on this machine";
    let text = value.as_str().ok_or_else(|| wrong_type("a string", value, remedy))?;
    let (name, is_group) = match text.strip_prefix('@') {
        Some(group) => (group, true),
        None => (text, false),
    };
    if name == "*" && !is_group {
        return Ok(Whom::Everybody);
    }
    let fits = !name.is_empty()
        && name.len() <= ACCOUNT_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits || name.contains(['@', '*', ':', '/']) {
        return Err(Fault::new(format!("\"{}\" is no user or group", shortened(text)), remedy));
    }
    Ok(if is_group { Whom::Group(name.to_owned()) } else { Whom::User(name.to_owned()) })
}

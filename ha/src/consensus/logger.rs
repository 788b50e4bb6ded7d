//! Raft's own log lines (`slog`), handed on to `tracing`.

use std::fmt::{Arguments, Write};

use slog::{Drain, KV, Key, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

/// A logger for one node. Raft speaks of normal elections as information and of peers that are down as warnings;
/// both are details here, for what matters becomes an event.
pub(super) fn logger() -> Logger {
    Logger::root(Tracing, o!())
}

struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", "{}{}", record.msg(), pairs(record));
            }
            Level::Warning | Level::Info if tracing::enabled!(target: "raft", tracing::Level::DEBUG) => {
                tracing::debug!(target: "raft", "{}{}", record.msg(), pairs(record));
            }
            Level::Debug | Level::Trace if tracing::enabled!(target: "raft", tracing::Level::TRACE) => {
                tracing::trace!(target: "raft", "{}{}", record.msg(), pairs(record));
            }
            _ => {}
        }
        Ok(())
    }
}

fn pairs(record: &Record<'_>) -> String {
    let mut text = Text(String::new());
    // A pair that cannot be shown is left out.
    let _ = record.kv().serialize(record, &mut text);
    text.0
}

struct Text(String);

impl Serializer for Text {
    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}

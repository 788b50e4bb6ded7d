//! How long the services' certificates still count: shown, and told once each time that the end comes nearer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use cygnet_ha::events::{EventLog, Severity};

use crate::control::status::{CERTIFICATES_SHOWN, CertificateFacts, age};
use crate::proxy::tls::{Lifetime, Stage};

/// A service, and the file of a certificate that it shows.
type Key = (String, PathBuf);

/// The certificates as they were looked at last.
#[derive(Debug, Default)]
pub(crate) struct Certificates(Mutex<HashMap<Key, (Lifetime, Stage)>>);

impl Certificates {
    /// These are the certificates now. What was not told of yet is.
    pub(super) fn look(&self, events: &EventLog, found: Vec<(String, PathBuf, Lifetime)>) {
        for (severity, subject, what) in self.take(unix_s(), found) {
            events.record(severity, &subject, what, "renew it; a new file is in use within seconds");
        }
    }

    /// Severity, subject and text of what is to be told.
    fn take(&self, now: i64, found: Vec<(String, PathBuf, Lifetime)>) -> Vec<(Severity, String, String)> {
        let mut known = self.known();
        let mut new = HashMap::with_capacity(found.len());
        let mut told = Vec::new();
        for (service, file, lifetime) in found {
            let stage = lifetime.stage(now);
            let key = (service, file);
            // One that was renewed begins anew.
            let before = known
                .get(&key)
                .filter(|(same, _)| *same == lifetime)
                .map_or(Stage::Good, |(_, before)| *before);
            if stage > before {
                let (severity, how) = match stage {
                    Stage::Good | Stage::Soon => (Severity::Warning, ends_in(lifetime, now)),
                    Stage::Urgent => (Severity::Alert, ends_in(lifetime, now)),
                    Stage::Ended => (Severity::Alert, "has ended: clients refuse it".to_owned()),
                };
                let what = format!("the certificate {} {how}", key.1.display());
                told.push((severity, format!("service {}", key.0), what));
            }
            new.insert(key, (lifetime, stage));
        }
        *known = new;
        told
    }

    /// Those of a service that end first.
    pub(super) fn of(&self, service: &str) -> Vec<CertificateFacts> {
        let now = unix_s();
        let known = self.known();
        let mut facts: Vec<CertificateFacts> = known
            .iter()
            .filter(|((of, _), _)| of == service)
            .map(|((_, file), (lifetime, _))| CertificateFacts {
                file: file.display().to_string(),
                not_after: lifetime.ends,
                left_s: lifetime.ends.saturating_sub(now),
                stage: lifetime.stage(now),
            })
            .collect();
        facts.sort_by(|one, other| (one.not_after, &one.file).cmp(&(other.not_after, &other.file)));
        facts.truncate(CERTIFICATES_SHOWN);
        facts
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, (Lifetime, Stage)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ends_in(lifetime: Lifetime, now: i64) -> String {
    let left = u64::try_from(lifetime.ends.saturating_sub(now)).unwrap_or(0);
    format!("ends in {}", age(left.saturating_mul(1000)))
}

fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn found(ends: i64) -> Vec<(String, PathBuf, Lifetime)> {
        vec![("web".to_owned(), PathBuf::from("web.crt"), Lifetime { begins: 0, ends })]
    }

    #[test]
    fn each_step_towards_the_end_is_told_once_and_a_renewed_certificate_begins_anew() {
        let certificates = Certificates::default();
        let mut told = Vec::new();
        for hour in 0..(91 * 24) {
            told.extend(certificates.take(hour * 3600, found(90 * DAY)));
        }
        let texts: Vec<&str> = told.iter().map(|(_, _, what)| what.as_str()).collect();
        let expected = [
            "the certificate web.crt ends in 21d0h",
            "the certificate web.crt ends in 3d0h",
            "the certificate web.crt has ended: clients refuse it",
        ];
        assert_eq!(texts, expected);
        let severities: Vec<Severity> = told.iter().map(|(severity, ..)| *severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Alert, Severity::Alert]);
        assert_eq!(told[0].1, "service web");
        assert!(certificates.take(91 * DAY, found(180 * DAY)).is_empty());
        assert_eq!(certificates.take(179 * DAY, found(180 * DAY)).len(), 1);
    }

    #[test]
    fn those_that_end_first_are_shown_and_their_number_is_bounded() {
        let certificates = Certificates::default();
        let many = (0..40).map(|n| {
            let lifetime = Lifetime { begins: 0, ends: 40 - n };
            ("web".to_owned(), PathBuf::from(format!("{n}.crt")), lifetime)
        });
        certificates.take(0, many.collect());
        let shown = certificates.of("web");
        assert_eq!((shown.len(), shown[0].file.as_str()), (CERTIFICATES_SHOWN, "39.crt"));
        assert!(shown[0].left_s < 0 && shown[0].stage == Stage::Ended);
        assert!(certificates.of("other").is_empty());
    }
}

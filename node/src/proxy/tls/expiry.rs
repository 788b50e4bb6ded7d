//! How long a certificate still counts, and when somebody should be told. Pure: time comes in.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::X509Ref;
use serde::{Deserialize, Serialize};

const DAY: i64 = 86_400;

/// So long before the end somebody is told: whatever renews certificates should have done it a week ago, by the custom of
/// renewing when a third of 90 days is left. s.
pub const SOON: i64 = 21 * DAY;

/// So long before the end it is an alert: a weekend, and somebody has to do it by hand. s.
pub const URGENT: i64 = 3 * DAY;

/// A certificate that lives for less than nine weeks is told of when this part of its life is left.
const SOON_PART: i64 = 3;
/// And it is an alert with this part.
const URGENT_PART: i64 = 10;

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Far.
    Good,
    /// Within [`SOON`].
    Soon,
    /// Within [`URGENT`].
    Urgent,
    /// Passed: clients refuse it.
    Ended,
}

/// From when until when a certificate counts, s since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Its first second.
    pub begins: i64,
    /// Its last one.
    pub ends: i64,
}

impl Lifetime {
    /// That of a certificate together with those that it rests on: the shortest.
    ///
    /// # Errors
    /// If the library cannot read a time.
    pub(super) fn of<'a>(
        certificate: &X509Ref,
        chain: impl IntoIterator<Item = &'a X509Ref>,
    ) -> Result<Self, ErrorStack> {
        let mut all = Self { begins: unix(certificate.not_before())?, ends: unix(certificate.not_after())? };
        for member in chain {
            let ends = unix(member.not_after())?;
            if ends < all.ends {
                all = Self { begins: unix(member.not_before())?, ends };
            }
        }
        Ok(all)
    }

    /// How near the end is.
    #[must_use]
    pub fn stage(&self, now: i64) -> Stage {
        let (life, left) = (self.ends.saturating_sub(self.begins), self.ends.saturating_sub(now));
        match () {
            () if left < 0 => Stage::Ended,
            () if left <= URGENT.min(life / URGENT_PART) => Stage::Urgent,
            () if left <= SOON.min(life / SOON_PART) => Stage::Soon,
            () => Stage::Good,
        }
    }
}

fn unix(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * DAY + i64::from(since.secs))
}

#[cfg(test)]
mod tests {
    use super::super::tests::pki::Pki;
    use super::*;

    #[test]
    fn somebody_is_told_three_weeks_before_the_end_and_again_three_days_before() {
        let year = Lifetime { begins: 0, ends: 365 * DAY };
        let stage = |left: i64| year.stage(year.ends - left);
        assert_eq!((stage(21 * DAY + 1), stage(21 * DAY)), (Stage::Good, Stage::Soon));
        assert_eq!((stage(3 * DAY + 1), stage(3 * DAY)), (Stage::Soon, Stage::Urgent));
        assert_eq!((stage(0), stage(-1)), (Stage::Urgent, Stage::Ended));
        assert!(Stage::Good < Stage::Soon && Stage::Urgent < Stage::Ended);
    }

    #[test]
    fn a_certificate_that_lives_for_days_is_not_told_of_all_its_life() {
        let short = Lifetime { begins: 0, ends: 6 * DAY };
        assert_eq!(short.stage(3 * DAY), Stage::Good);
        assert_eq!(short.stage(4 * DAY), Stage::Soon);
        assert_eq!(short.stage(6 * DAY - 3600), Stage::Urgent);
        let absurd = Lifetime { begins: i64::MAX, ends: i64::MIN };
        assert_eq!(absurd.stage(0), Stage::Ended);
    }

    #[test]
    fn what_it_rests_on_may_end_before_it() {
        let pki = Pki::new();
        let (leaf, day) = (pki.leaf("a.test").certificate, Asn1Time::days_from_now(30).unwrap());
        let alone = Lifetime::of(&leaf, []).unwrap();
        assert!((unix(&day).unwrap() - alone.ends).abs() < 60);
        assert_eq!(alone.ends - alone.begins, 31 * DAY);
        let short = super::super::tests::pki::short_lived();
        assert!(Lifetime::of(&leaf, [&*short]).unwrap().ends < alone.ends);
        assert_eq!(Lifetime::of(&short, [&*leaf]).unwrap(), Lifetime::of(&short, []).unwrap());
    }
}

use cygnet_ha::consensus::{TicketKeyAge, TicketStatus};
use cygnet_ha::vip::{Mode, Role};

use super::fake::{facts, vip};
use crate::control::status::{CertificateFacts, Facts, Status, Verdict, age};
use crate::proxy::tls::Stage;

fn judged(change: impl FnOnce(&mut Facts)) -> (Verdict, String, Vec<String>) {
    let mut facts = facts();
    change(&mut facts);
    let status = Status::of(facts);
    (status.verdict, status.summary, status.reasons.into_iter().map(|reason| reason.what).collect())
}

#[test]
fn a_pair_that_is_well_is_ok() {
    let (verdict, summary, reasons) = judged(|_| ());
    assert_eq!(verdict, Verdict::Ok);
    assert_eq!(summary, "active=lb1 standby=lb2(ready) quorum=2/2 config=v41 in sync");
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[test]
fn a_node_that_has_left_the_agreement_says_why_and_does_not_blame_the_others() {
    let (verdict, _, reasons) = judged(|facts| {
        facts.quorum.reached = false;
        facts.quorum.stopped = Some("the disk is full".to_owned());
    });
    assert_eq!(verdict, Verdict::Degraded);
    let told = "lb1 takes no part in the cluster any more: the disk is full; traffic goes on";
    assert_eq!(reasons, [told]);
}

#[test]
fn a_ticket_key_that_nobody_can_replace_degrades() {
    let key = TicketKeyAge { number: 7, age_ms: 3 * 3_600_000 };
    let tickets = TicketStatus { wanted: true, current: Some(key), ..TicketStatus::default() };
    let fresh = judged(|facts| facts.tickets = Some(tickets.clone()));
    assert_eq!(fresh.0, Verdict::Ok);
    let late = judged(|facts| facts.tickets = Some(TicketStatus { late: true, ..tickets.clone() }));
    assert_eq!(
        (late.0, late.2),
        (Verdict::Degraded, vec!["session tickets are sealed with key 7 for 3h0m already".to_owned()])
    );
}

#[test]
fn a_certificate_is_told_of_before_it_ends_degrades_in_its_last_days_and_is_down_after_them() {
    let with = |stage, left_s| {
        judged(|facts| {
            let file = "/etc/cygnet/web.crt".to_owned();
            facts.services[0].certificates = vec![CertificateFacts { file, not_after: 0, left_s, stage }];
        })
    };
    let day = 86_400;
    assert_eq!(with(Stage::Good, 99 * day).2.len(), 0);
    let (verdict, _, reasons) = with(Stage::Soon, 20 * day + 3600);
    assert_eq!(verdict, Verdict::Ok);
    assert_eq!(reasons, ["service web: the certificate /etc/cygnet/web.crt ends in 20d1h"]);
    assert_eq!(with(Stage::Urgent, 2 * day).0, Verdict::Degraded);
    let (verdict, _, reasons) = with(Stage::Ended, -1);
    assert_eq!(verdict, Verdict::Down);
    assert_eq!(reasons, ["service web: the certificate /etc/cygnet/web.crt has ended: clients refuse it"]);
}

#[test]
fn a_lost_peer_degrades_and_its_last_word_counts_no_more() {
    let (verdict, summary, reasons) = judged(|facts| {
        facts.members[1].connected = false;
        facts.members[1].heard_age_ms = Some(12_000);
        facts.quorum.reached = false;
        facts.quorum.connected = 1;
    });
    assert_eq!(verdict, Verdict::Degraded);
    assert_eq!(summary, "active=lb1 standby=lb2(unreachable) quorum=1/2 config=v41 unknown on lb2");
    assert_eq!(
        reasons,
        [
            "no quorum: 1 of 2 voters connected, 2 needed; traffic goes on, changes are refused",
            "lb2 is not connected (last heard 12s ago)",
            "vip www (192.0.2.100) has no standby that is ready",
        ]
    );
}

#[test]
fn a_peer_that_was_never_heard_is_said_to_be_so() {
    let (.., reasons) = judged(|facts| {
        facts.members[1].connected = false;
        facts.members[1].heard_age_ms = None;
        facts.members[1].report = None;
    });
    assert_eq!(reasons[0], "lb2 is not connected (never heard)");
}

#[test]
fn a_standby_that_is_not_ready_degrades() {
    let (verdict, summary, reasons) = judged(|facts| facts.members[1].report.as_mut().unwrap().ready = false);
    assert_eq!(verdict, Verdict::Degraded);
    assert!(summary.contains("standby=lb2(not ready)"), "{summary}");
    assert_eq!(reasons, ["vip www (192.0.2.100) has no standby that is ready"]);
}

#[test]
fn an_older_configuration_on_a_peer_degrades_but_not_on_a_witness() {
    let behind = |facts: &mut Facts| facts.members[1].report.as_mut().unwrap().config_version = 40;
    let (verdict, summary, reasons) = judged(behind);
    assert_eq!(verdict, Verdict::Degraded);
    assert!(summary.ends_with("config=v41 behind on lb2"), "{summary}");
    assert_eq!(reasons, ["lb2 runs config v40, not v41"]);
    let (verdict, ..) = judged(|facts| {
        behind(facts);
        facts.members[1].witness = true;
    });
    assert_eq!(verdict, Verdict::Ok);
}

#[test]
fn a_configuration_that_does_not_run_here_degrades() {
    let (verdict, summary, reasons) = judged(|facts| {
        facts.config.committed = 42;
        facts.config.problem = Some("no interface for vip www".into());
        facts.members[1].report.as_mut().unwrap().config_version = 42;
    });
    assert_eq!(verdict, Verdict::Degraded);
    assert!(summary.ends_with("config=v41 behind v42"), "{summary}");
    assert_eq!(reasons, ["config v42 does not run here: no interface for vip www"]);
}

#[test]
fn a_node_without_a_configuration_says_what_comes_next() {
    let (verdict, summary, reasons) = judged(|facts| {
        (facts.config.running, facts.config.committed) = (0, 0);
        facts.vips.clear();
        facts.services.clear();
        facts.members[1].report.as_mut().unwrap().roles.clear();
    });
    assert_eq!(verdict, Verdict::Degraded);
    assert!(summary.contains("config=v0"), "{summary}");
    assert_eq!(reasons, ["no configuration was ever applied"]);
}

#[test]
fn two_holders_are_down() {
    let (verdict, _, reasons) =
        judged(|facts| facts.vips[0].rivals = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()]);
    assert_eq!(verdict, Verdict::Down);
    assert_eq!(reasons, ["vip www (192.0.2.100) has several holders: 10.0.0.1, 10.0.0.2"]);
}

#[test]
fn an_address_without_a_holder_is_down_and_comes_first() {
    let (verdict, summary, reasons) = judged(|facts| {
        facts.ready = false;
        facts.ready_reason = "starting".into();
        facts.vips[0].role = Role::Standby;
        facts.vips[0].holder = None;
    });
    assert_eq!(verdict, Verdict::Down);
    assert!(summary.starts_with("active=none standby=lb1(not ready),lb2(ready)"), "{summary}");
    assert_eq!(
        reasons,
        ["vip www (192.0.2.100) has no holder", "lb1 is not ready to hold addresses: starting"]
    );
}

#[test]
fn an_active_role_without_the_address_is_down() {
    let (verdict, _, reasons) = judged(|facts| facts.vips[0].address_present = false);
    assert_eq!(verdict, Verdict::Down);
    assert_eq!(reasons, ["vip www (192.0.2.100) is active here, but the address is not on eth0"]);
}

#[test]
fn a_role_that_is_down_here_degrades_while_the_peer_holds_the_address() {
    let (verdict, _, reasons) = judged(|facts| {
        facts.vips[0].role = Role::Down;
        facts.vips[0].reason = "eth0 is down".into();
        facts.vips[0].holder = Some("10.0.0.2".parse().unwrap());
        facts.members[1].report.as_mut().unwrap().roles.insert("www".into(), Role::Active);
    });
    assert_eq!(verdict, Verdict::Degraded);
    assert_eq!(
        reasons,
        [
            "vip www (192.0.2.100) is down here: eth0 is down",
            "vip www (192.0.2.100) has no standby that is ready"
        ]
    );
}

#[test]
fn a_watched_address_needs_no_standby_of_ours() {
    let (verdict, ..) = judged(|facts| {
        facts.vips[0].mode = Mode::Watch;
        facts.members[1].report.as_mut().unwrap().roles.clear();
    });
    assert_eq!(verdict, Verdict::Ok);
}

#[test]
fn a_single_node_was_never_meant_to_have_a_standby() {
    let (verdict, summary, _) = judged(|facts| {
        facts.members.pop();
        facts.quorum.connected = 1;
        facts.quorum.voters = 1;
        facts.quorum.needed = 1;
    });
    assert_eq!(verdict, Verdict::Ok);
    assert_eq!(summary, "active=lb1 standby=none quorum=1/1 config=v41 in sync");
}

#[test]
fn addresses_spread_over_both_nodes_are_named() {
    let (_, summary, _) = judged(|facts| {
        let mut mail = vip();
        mail.name = "mail".into();
        mail.role = Role::Standby;
        facts.vips.push(mail);
        facts.members[1].report.as_mut().unwrap().roles.insert("mail".into(), Role::Active);
    });
    assert!(summary.starts_with("active=lb1(www),lb2(mail) standby=none"), "{summary}");
}

#[test]
fn a_failed_server_degrades_and_no_server_is_down() {
    let (verdict, _, reasons) = judged(|facts| {
        facts.services[0].servers_usable = 1;
        facts.services[0].servers_failed = vec!["s2".into()];
    });
    assert_eq!(verdict, Verdict::Degraded);
    assert_eq!(reasons, ["service web: 1 of 2 servers failed (s2)"]);
    let (verdict, _, reasons) = judged(|facts| {
        facts.services[0].servers_usable = 0;
        facts.services[0].servers_drained = 1;
        facts.services[0].servers_failed = vec!["s2".into()];
    });
    assert_eq!(verdict, Verdict::Down);
    assert_eq!(reasons, ["service web has no usable server (1 drained, 1 failed)"]);
}

#[test]
fn a_drained_server_is_the_operators_wish() {
    let (verdict, ..) = judged(|facts| {
        facts.services[0].servers_usable = 1;
        facts.services[0].servers_drained = 1;
    });
    assert_eq!(verdict, Verdict::Ok);
}

#[test]
fn a_service_that_does_not_listen_is_down() {
    let (verdict, _, reasons) =
        judged(|facts| facts.services[0].listen_problems = vec!["192.0.2.100:80: address in use".into()]);
    assert_eq!(verdict, Verdict::Down);
    assert_eq!(reasons, ["service web does not listen: 192.0.2.100:80: address in use"]);
}

#[test]
fn a_witness_judges_by_the_words_of_the_others() {
    let (verdict, summary, _) = judged(|facts| {
        facts.members.swap(0, 1);
        let mut witness = facts.members[1].clone();
        witness.name = "w1".into();
        witness.witness = true;
        facts.members[1].here = false;
        let mut report = facts.members[0].report.clone().unwrap();
        report.roles.insert("www".into(), Role::Active);
        facts.members[1].report = Some(report);
        facts.members.push(witness);
        (facts.node, facts.ready) = ("w1".into(), false);
        facts.vips.clear();
        facts.services.clear();
    });
    assert_eq!(verdict, Verdict::Ok);
    assert_eq!(summary, "active=lb1 standby=lb2(ready) quorum=2/2 config=v41 in sync");
}

#[test]
fn an_age_shows_its_two_largest_units() {
    let ages = [0, 999, 1000, 61_000, 3_600_000, 90_061_000].map(age);
    assert_eq!(ages, ["0ms", "999ms", "1s", "1m1s", "1h0m", "1d1h"]);
    assert!(!age(u64::MAX).is_empty());
}

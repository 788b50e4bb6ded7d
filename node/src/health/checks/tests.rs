use proptest::prelude::*;

use super::*;
use crate::config::model::{CheckKind, Talk};

const SECOND: Duration = Duration::from_secs(1);
const PASSED: Outcome = Outcome::Passed(Duration::from_millis(1));

fn failed() -> Outcome {
    Outcome::Failed("connection refused".into())
}

fn check(interval: Duration) -> Arc<Check> {
    Arc::new(Check { interval, ..Check::new(CheckKind::Tcp(Talk::default())) })
}

fn wanted(server: usize, port: u16, check: &Arc<Check>) -> Wanted {
    Wanted {
        service: "web".into(),
        server: Arc::from(format!("s{server}")),
        address: std::net::SocketAddr::from(([10, 0, 0, 1], port)).into(),
        check: Arc::clone(check),
    }
}

/// Goes on to when something is due; the tickets.
fn turn(checks: &mut Checks, now: &mut Time) -> Vec<Ticket> {
    *now = checks.next().expect("something is due").max(*now);
    checks.start(*now)
}

#[test]
fn a_server_is_asked_soon_and_then_at_most_an_interval_after_the_last_time() {
    let (mut checks, mut now) = (Checks::new(7), Time(5));
    checks.configure(now, [wanted(1, 80, &check(2 * SECOND))]);
    let first = turn(&mut checks, &mut now);
    assert!(first.len() == 1 && now.since(Time(5)) <= FIRST_WITHIN);
    assert_eq!(checks.next(), None, "one at a time");
    assert!(checks.result(now, &first[0], PASSED).is_some_and(|flip| flip.up && flip.first));
    for _ in 0..100 {
        let before = now;
        let tickets = turn(&mut checks, &mut now);
        let gap = now.since(before);
        assert!(gap <= 2 * SECOND && gap >= Duration::from_millis(1800), "{gap:?}");
        assert_eq!(checks.result(now + Duration::from_millis(300), &tickets[0], PASSED), None);
    }
}

#[test]
fn servers_and_nodes_do_not_march_in_step() {
    let moments = |seed| {
        let (mut checks, mut now) = (Checks::new(seed), Time::ZERO);
        checks.configure(now, (0..50).map(|n| wanted(n, 80, &check(SECOND))));
        let mut moments = BTreeSet::new();
        for _ in 0..500 {
            for ticket in turn(&mut checks, &mut now) {
                moments.insert(now);
                checks.result(now, &ticket, PASSED);
            }
        }
        moments
    };
    let (one, other) = (moments(1), moments(2));
    assert!(one.len() > 490, "{} different moments", one.len());
    assert!(one.intersection(&other).count() < 5);
}

#[test]
fn a_server_that_wavers_is_asked_faster() {
    let (mut checks, mut now) = (Checks::new(7), Time::ZERO);
    let fast = Check { fast_interval: Some(SECOND / 10), ..(*check(10 * SECOND)).clone() };
    checks.configure(now, [wanted(1, 80, &Arc::new(fast))]);
    let mut gap = |checks: &mut Checks, outcome| {
        let tickets = turn(checks, &mut now);
        let before = now;
        checks.result(now, &tickets[0], outcome);
        checks.next().map(|next| next.since(before)).unwrap()
    };
    assert!(gap(&mut checks, PASSED) > 8 * SECOND);
    assert!(gap(&mut checks, failed()) <= SECOND / 10);
    assert!(gap(&mut checks, failed()) <= SECOND / 10);
    assert!(gap(&mut checks, failed()) > 8 * SECOND, "it is down now");
    assert!(gap(&mut checks, PASSED) <= SECOND / 10);
    assert!(gap(&mut checks, PASSED) > 8 * SECOND, "and up again");
    let figures = checks.figures("web", "s1", now).unwrap();
    assert_eq!((figures.passed, figures.failed, figures.flips), (3, 3, 2));
}

#[test]
fn a_late_result_of_a_server_that_has_moved_counts_for_nobody() {
    let (mut checks, mut now) = (Checks::new(7), Time::ZERO);
    let every = check(SECOND);
    checks.configure(now, [wanted(1, 80, &every)]);
    let tickets = turn(&mut checks, &mut now);
    checks.configure(now, [wanted(1, 81, &every)]);
    assert_eq!(checks.result(now, &tickets[0], failed()), None);
    assert_eq!(checks.state("web", "s1"), Some(State::Unknown));
    let tickets = turn(&mut checks, &mut now);
    assert!(checks.result(now, &tickets[0], failed()).is_some());
    checks.configure(now, [wanted(1, 81, &check(60 * SECOND))]);
    assert_eq!(checks.state("web", "s1"), Some(State::Down), "another interval changes no verdict");
    assert!(checks.next().unwrap().since(now) <= SECOND);
    checks.configure(now, []);
    assert_eq!((checks.state("web", "s1"), checks.next()), (None, None));
    assert!(checks.is_empty());
}

#[test]
fn no_more_than_the_bound_is_in_flight_and_everybody_gets_a_turn() {
    let (mut checks, mut now) = (Checks::new(7), Time::ZERO);
    let servers = 3 * PROBES_AT_ONCE;
    checks.configure(now, (0..servers).map(|n| wanted(n, 80, &check(SECOND))));
    now = now + SECOND;
    let mut asked = BTreeSet::new();
    for _ in 0..3 {
        let tickets = checks.start(now);
        assert_eq!(tickets.len(), PROBES_AT_ONCE);
        assert_eq!((checks.start(now).len(), checks.next()), (0, None));
        now = now + SECOND;
        for ticket in &tickets {
            asked.insert(ticket.server.to_string());
            checks.result(now, ticket, failed());
        }
    }
    assert_eq!(asked.len(), servers);
    assert_eq!(checks.not_up().len(), servers);
}

#[derive(Clone, Debug)]
enum Step {
    Configure(Vec<(usize, u16, u64)>),
    Wait(u64),
    Answer(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let servers = prop::collection::vec((0..6_usize, 80..82_u16, 1..4_u64), 0..6);
    prop_oneof![
        1 => servers.prop_map(Step::Configure),
        4 => (0..3_000_u64).prop_map(Step::Wait),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(which, passes)| Step::Answer(which, passes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: a server has one check due or one in flight, never both or neither; tickets
    /// that are out are counted; the set of those that are due has nobody twice and no strangers.
    #[test]
    fn nobody_is_lost_and_nobody_is_asked_twice(steps in prop::collection::vec(step(), 1..120)) {
        let (mut checks, mut now) = (Checks::new(3), Time::ZERO);
        let mut out: Vec<Ticket> = Vec::new();
        for step in steps {
            match step {
                Step::Configure(servers) => {
                    let mut seen = BTreeSet::new();
                    let servers = servers.into_iter().filter(|(n, ..)| seen.insert(*n));
                    let wanted = servers.map(|(n, port, s)| wanted(n, port, &check(Duration::from_secs(s))));
                    checks.configure(now, wanted.collect::<Vec<_>>());
                }
                Step::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    out.extend(checks.start(now));
                }
                Step::Answer(which, passes) if !out.is_empty() => {
                    let ticket = out.swap_remove(which % out.len());
                    checks.result(now, &ticket, if passes { PASSED } else { failed() });
                }
                Step::Answer(..) => {}
            }
            prop_assert_eq!(checks.in_flight, out.len());
            let due: BTreeSet<_> = checks.targets.iter().filter_map(|(key, t)| Some((t.due?, key.clone()))).collect();
            prop_assert_eq!(&due, &checks.due);
            for (key, target) in &checks.targets {
                let flying = out.iter().filter(|ticket| ticket.server == key.1 && ticket.serial == target.serial).count();
                prop_assert_eq!(flying, usize::from(target.due.is_none()));
            }
        }
    }
}

#[test]
fn a_server_that_the_process_before_found_down_begins_so_and_comes_up_by_its_checks() {
    let check = check(SECOND);
    let mut checks = Checks::new(7).believing_down(vec![("web".into(), "s1".into())]);
    let mut now = Time::ZERO;
    checks.configure(now, [wanted(1, 80, &check), wanted(2, 80, &check)]);
    assert_eq!(
        (checks.state("web", "s1"), checks.state("web", "s2")),
        (Some(State::Down), Some(State::Unknown))
    );
    let mut rises = 0;
    while checks.state("web", "s1") == Some(State::Down) {
        for ticket in turn(&mut checks, &mut now) {
            rises += u32::from(&*ticket.server == "s1");
            checks.result(now, &ticket, PASSED);
        }
    }
    assert_eq!(rises, check.rise);
    // It is believed once: the same server under another address is asked as any other.
    checks.configure(now, [wanted(1, 81, &check)]);
    assert_eq!(checks.state("web", "s1"), Some(State::Unknown));
}

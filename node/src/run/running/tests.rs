use cygnet_ha::consensus::Applied;
use cygnet_ha::state::{Admin, Command, Kind, PutConfig, SetServer, State};
use tokio::sync::watch;

use super::super::replica::Replica;
use super::*;
use crate::config::parse_node;
use crate::plan;

const NODE: &str = r#"name = "lb1"
source = "10.0.0.1"
[cluster]
name = "demo"
insecure = true
[[cluster.member]]
id = 1
name = "lb1"
address = "10.0.0.1:7300"
"#;

const TWO_ADDRESSES: &str = r#"[[service]]
name = "web"
listen = ["10.0.0.1:80", "10.0.0.1:81"]
[[service.server]]
name = "s1"
address = "10.1.0.11:8080"
"#;

/// Runs here only if 10.0.0.1 is not the node's source.
const VIRTUAL_SOURCE: &str = r#"[[vip]]
name = "www"
address = "10.0.0.1"
protocol = "vrrp3"
id = 51
mode = "watch"
"#;

fn node() -> NodeConfig {
    parse_node(NODE, "node.toml").unwrap()
}

/// The log, and what it hands over.
struct Log {
    state: State,
    replica: Replica,
    replicated: watch::Receiver<Arc<Replicated>>,
}

impl Log {
    fn new() -> Self {
        let (replica, replicated) = Replica::new(None, None);
        Self { state: State::default(), replica, replicated }
    }

    fn apply(&mut self, kind: Kind) -> Arc<Replicated> {
        self.state.apply(self.state.index() + 1, &Command::new(kind)).unwrap();
        self.replica.config(&self.state);
        Arc::clone(&self.replicated.borrow())
    }

    fn put(&mut self, text: &str) -> Arc<Replicated> {
        self.apply(Kind::PutConfig(PutConfig { text: text.to_owned(), ..PutConfig::default() }))
    }

    fn drain(&mut self) -> Arc<Replicated> {
        let (service, server) = ("web".to_owned(), "s1".to_owned());
        self.apply(Kind::SetServer(SetServer { service, server, state: Admin::Drain as i32 }))
    }
}

fn runs(verdict: Verdict) -> Checked {
    match verdict {
        Verdict::Runs(checked) => checked,
        Verdict::Known => panic!("known"),
        Verdict::Refused(problem) => panic!("refused: {problem}"),
    }
}

fn running(replicated: &Arc<Replicated>) -> Running {
    let checked = runs(judge(&node(), replicated, &Running::default()));
    Running {
        made_from: Arc::clone(replicated),
        version: replicated.version(),
        cluster: Arc::new(checked.cluster),
        ..Running::default()
    }
}

fn problem(last: u16) -> ListenProblem {
    let address = ListenAt::tcp(([10, 0, 0, 1], last).into());
    let text = format!("{address}: taken");
    ListenProblem { service: "web".into(), address, text }
}

#[test]
fn nothing_is_judged_before_the_first_configuration() {
    let replicated = Replicated::default();
    assert!(matches!(judge(&node(), &replicated, &Running::default()), Verdict::Known));
    let (ready, reason) = Running::default().readiness(None);
    assert!(!ready);
    assert_eq!(reason, "no configuration has been applied yet");
}

#[test]
fn a_version_is_judged_once_and_a_drain_is_no_reason_to_judge_it_again() {
    let mut log = Log::new();
    let running = running(&log.put(TWO_ADDRESSES));
    let drained = log.drain();
    assert!(matches!(judge(&node(), &drained, &running), Verdict::Known));
    assert_eq!(drained.admin("web", "s1"), plan::Admin::Drain);
}

#[test]
fn a_version_that_does_not_run_here_is_refused_once_and_the_next_one_gets_its_chance() {
    let mut log = Log::new();
    let mut running = running(&log.put(TWO_ADDRESSES));
    let bad = log.put(VIRTUAL_SOURCE);
    let Verdict::Refused(problem) = judge(&node(), &bad, &running) else { panic!("it cannot run") };
    assert!(problem.contains("\"10.0.0.1\" is virtual (vip www)"), "{problem}");
    running.made_from = bad;
    running.problem = Some(problem);
    assert!(running.readiness(None).0, "the old one goes on");
    assert!(matches!(judge(&node(), &log.drain(), &running), Verdict::Known));
    assert_eq!(runs(judge(&node(), &log.put(TWO_ADDRESSES), &running)).cluster.services.len(), 1);
}

#[test]
fn a_node_whose_first_configuration_does_not_run_is_not_ready_and_says_so() {
    let mut log = Log::new();
    let made_from = log.put(VIRTUAL_SOURCE);
    let running = Running { made_from, problem: Some("no".to_owned()), ..Running::default() };
    assert_eq!(running.readiness(None), (false, "configuration v1 does not run here".to_owned()));
}

#[test]
fn a_node_is_ready_while_one_listener_is_open_and_no_worker_hangs() {
    let mut running = running(&Log::new().put(TWO_ADDRESSES));
    assert_eq!(running.readiness(None), (true, "listening on 2 of 2 addresses".to_owned()));
    running.listen_problems = vec![problem(80)];
    assert_eq!(running.readiness(None), (true, "listening on 1 of 2 addresses".to_owned()));
    assert_eq!(running.readiness(Some(1)), (false, "worker 1 hangs".to_owned()));
    running.listen_problems.push(problem(81));
    assert_eq!(running.readiness(None), (false, "no service can listen".to_owned()));
    assert_eq!(running.listen_problems_of("web").len(), 2);
    assert!(running.listen_problems_of("other").is_empty());
}

#[test]
fn a_listen_problem_is_news_once() {
    let (first, second) = (problem(80), problem(81));
    assert_eq!(news(&[], std::slice::from_ref(&first)), [&first]);
    assert!(news(std::slice::from_ref(&first), std::slice::from_ref(&first)).is_empty());
    let both = [first.clone(), second.clone()];
    assert_eq!(news(std::slice::from_ref(&first), &both), [&second]);
}

#[test]
fn a_source_is_lost_when_it_was_there_or_when_the_reason_is_another() {
    let sources = |source: Result<&str, &str>| {
        let source = source.map(|address| Start::At(address.parse().unwrap())).map_err(str::to_owned);
        Sources::from([(("web".to_owned(), "s1".to_owned()), source)])
    };
    let (here, gone) = (sources(Ok("10.0.0.1")), sources(Err("no route")));
    assert_eq!(lost(&here, &gone), [("web", "s1", "no route")]);
    assert_eq!(lost(&Sources::new(), &gone).len(), 1);
    assert_eq!(lost(&gone, &sources(Err("no address"))).len(), 1);
    assert!(lost(&gone, &gone).is_empty());
    assert!(lost(&gone, &here).is_empty());
}

#[test]
fn a_worker_hangs_when_it_does_not_turn_in_three_looks_and_a_pause_of_all_blames_nobody() {
    let mut pulse = Pulse::default();
    pulse.look([Time(1), Time(1)]);
    for turn in 2..5 {
        assert_eq!(pulse.still(), None);
        pulse.look([Time(turn), Time(1)]);
    }
    assert_eq!(pulse.still(), Some(1));
    pulse.look([Time(6), Time(6)]);
    assert_eq!(pulse.still(), None, "it turns again");
    // The machine slept: one look comes before the workers have turned, the next one after.
    pulse.look([Time(6), Time(6)]);
    assert_eq!(pulse.still(), None);
    pulse.look([Time(90), Time(90)]);
    assert_eq!(pulse.still(), None);
}

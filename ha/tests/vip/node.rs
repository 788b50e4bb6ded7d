//! A node: the driver, told what to do by lines on its input, telling what it sees by lines on its output.

use std::io::{BufRead, Write};
use std::net::IpAddr;
use std::time::Duration;

use cygnet_ha::events::EventLog;
use cygnet_ha::vip::driver::{DriverSettings, VipHandle};
use cygnet_ha::vip::{Mode, Protocol, VipSettings};
use cygnet_netlink::guard::Guard;

use crate::lab::{VIP, VIP_LINK_LOCAL, VIP_SIX, VIP_TWO};

/// Holds the first settings of the node; without it `node_process` does nothing.
pub(crate) const SETTINGS: &str = "CYGNET_TEST_NODE";

/// `hold 150 100 preempt`: mode, priority, interval in ms, preempt or not; then `v2 PASSWORD` for VRRP version 2, `carp PASSWORD`, `six` for
/// the IPv6 address, `two` and `two-six` for two addresses; `peers=A,B` for unicast. Nothing: no address.
fn parse(text: &str) -> Vec<VipSettings> {
    let (peers, words): (Vec<&str>, Vec<&str>) =
        text.split_whitespace().partition(|word| word.starts_with("peers="));
    let peers = peers.iter().flat_map(|list| list["peers=".len()..].split(','));
    let [mode, priority, interval_ms, preempt, ref more @ ..] = words[..] else { return Vec::new() };
    let (protocol, addresses, password) = match more {
        ["v2"] => (Protocol::Vrrp2, vec![VIP], None),
        ["v2", password] => (Protocol::Vrrp2, vec![VIP], Some((*password).to_owned())),
        ["carp", password] => (Protocol::Carp, vec![VIP], Some((*password).to_owned())),
        ["six"] => (Protocol::Vrrp3, vec![VIP_SIX], None),
        ["two"] => (Protocol::Vrrp3, vec![VIP, VIP_TWO], None),
        ["two-six"] => (Protocol::Vrrp3, vec![VIP_LINK_LOCAL, VIP_SIX], None),
        _ => (Protocol::Vrrp3, vec![VIP], None),
    };
    vec![VipSettings {
        mode: if mode == "watch" { Mode::Watch } else { Mode::Hold },
        priority: priority.parse().expect("a priority"),
        interval: Duration::from_millis(interval_ms.parse().expect("an interval")),
        preempt: preempt == "preempt",
        password,
        peers: peers.map(|peer| peer.parse().expect("an address")).collect(),
        ..VipSettings::new("www", "eth0", protocol, 51, addresses)
    }]
}

pub(crate) fn live() {
    let Ok(settings) = std::env::var(SETTINGS) else { return };
    let events = EventLog::default();
    let program = std::env::current_exe().expect("this binary");
    let guard = Guard::spawn(&program, &["--exact", "guard_process", "--include-ignored", "--nocapture"]);
    let own_fixed: Vec<IpAddr> = Vec::new();
    let guard = Some(guard.expect("a guard"));
    let driver = DriverSettings { guard, events: events.clone(), own_fixed, say: None, succeeds: None };
    let handle = VipHandle::start(driver).expect("starts");
    handle.configure(parse(&settings));
    handle.set_ready(true, "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&handle, &events));
}

async fn run(handle: &VipHandle, events: &EventLog) {
    let (sender, mut orders) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut views = handle.views();
    let mut told = 0;
    // The test harness has begun a line.
    println!();
    loop {
        tokio::select! {
            changed = views.changed() => changed.expect("the thread lives"),
            order = orders.recv() => match order.as_deref().map(|line| line.split_once(' ').unwrap_or((line, ""))) {
                Some(("configure", text)) => handle.configure(parse(text)),
                Some(("ready", why)) => handle.set_ready(true, why),
                Some(("unready", why)) => handle.set_ready(false, why),
                Some(other) => unreachable!("no such order: {other:?}"),
                None => break,
            },
        }
        tell(&views, events, &mut told);
    }
    handle.stop().await;
    tell(&views, events, &mut told);
}

fn tell(
    views: &tokio::sync::watch::Receiver<std::sync::Arc<Vec<cygnet_ha::vip::VipView>>>,
    events: &EventLog,
    told: &mut u64,
) {
    let mut out = std::io::stdout().lock();
    for event in events.after(*told) {
        *told = event.sequence;
        writeln!(out, "event {} | {} | {}", event.subject, event.what, event.why).expect("a reader");
    }
    let views = serde_json::to_string(&**views.borrow()).expect("json");
    writeln!(out, "views {views}").expect("a reader");
    out.flush().expect("a reader");
}

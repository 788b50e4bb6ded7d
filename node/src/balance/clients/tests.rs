use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

fn client(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
}

fn all(table: &ClientTable) -> HashMap<(Arc<str>, IpAddr), (Arc<str>, u32)> {
    let mut entries = HashMap::new();
    table.for_each(|entry| {
        let double = entries.insert((entry.service, entry.client), (entry.server, entry.seen));
        assert!(double.is_none(), "a client has two entries");
    });
    entries
}

fn drain(table: &ClientTable) -> Vec<ClientEntry> {
    let mut told = Vec::new();
    // A sweep may take several calls, each of which may find nothing.
    let calls = 2 + 2 * table.buckets.len() / SWEEP_BUCKETS;
    let mut quiet = 0;
    while quiet < calls + 2 {
        let some = table.changes(7);
        quiet = if some.is_empty() { quiet + 1 } else { 0 };
        told.extend(some);
    }
    told
}

#[test]
fn a_client_is_found_again_by_service_and_address() {
    let table = ClientTable::new(1024);
    let (web, mail, s1, s2) = (table.name("web"), table.name("mail"), table.name("s1"), table.name("s2"));
    let v6: IpAddr = "2001:db8::7".parse().unwrap();
    table.remember(web, client(1), s1, 100, 10);
    table.remember(mail, client(1), s2, 101, 10);
    table.remember(web, v6, s2, 102, 10);
    assert_eq!(table.lookup(web, client(1)), Some(Remembered { server: s1, seen: 100 }));
    assert_eq!(table.lookup(mail, client(1)), Some(Remembered { server: s2, seen: 101 }));
    assert_eq!(table.lookup(web, v6), Some(Remembered { server: s2, seen: 102 }));
    assert_eq!(table.lookup(mail, v6), None);
    assert_eq!(table.len(), 3);
    let listed = all(&table);
    assert_eq!(listed[&(Arc::from("web"), v6)], (Arc::from("s2"), 102));
}

#[test]
fn a_refresh_is_written_down_only_when_the_entry_has_aged() {
    let table = ClientTable::new(64);
    let (web, s1) = (table.name("web"), table.name("s1"));
    table.remember(web, client(1), s1, 100, 10);
    assert_eq!(drain(&table).len(), 1);
    table.remember(web, client(1), s1, 109, 10);
    assert_eq!(table.lookup(web, client(1)).unwrap().seen, 100);
    assert_eq!(drain(&table).len(), 0);
    table.remember(web, client(1), s1, 110, 10);
    assert_eq!(table.lookup(web, client(1)).unwrap().seen, 110);
    assert_eq!(drain(&table).len(), 1);
}

#[test]
fn an_old_connection_does_not_bring_its_client_back() {
    let table = ClientTable::new(64);
    let (web, s1, s2) = (table.name("web"), table.name("s1"), table.name("s2"));
    table.remember(web, client(1), s1, 100, 10);
    table.refresh(web, client(1), s1, 150, 10);
    assert_eq!(table.lookup(web, client(1)), Some(Remembered { server: s1, seen: 150 }));
    table.remember(web, client(1), s2, 160, 10);
    table.refresh(web, client(1), s1, 200, 10);
    assert_eq!(table.lookup(web, client(1)), Some(Remembered { server: s2, seen: 160 }));
}

#[test]
fn the_first_claim_wins_until_it_is_too_old() {
    let table = ClientTable::new(64);
    let (web, s1, s2) = (table.name("web"), table.name("s1"), table.name("s2"));
    assert_eq!(table.claim(web, client(1), s1, 100, 30), s1);
    assert_eq!(table.claim(web, client(1), s2, 130, 30), s1);
    assert_eq!(table.claim(web, client(1), s2, 131, 30), s2);
}

#[test]
fn a_change_of_server_is_later_than_what_it_changes_even_when_the_clock_is_behind() {
    let table = ClientTable::new(64);
    let (web, s1, s2) = (table.name("web"), table.name("s1"), table.name("s2"));
    table.insert_remote([("web", client(1), "s1", 500)]);
    table.remember(web, client(1), s2, 400, 10);
    assert_eq!(table.lookup(web, client(1)), Some(Remembered { server: s2, seen: 501 }));
    table.insert_remote([("web", client(1), "s1", 500)]);
    assert_eq!(table.lookup(web, client(1)).unwrap().server, s2, "the echo of the old fact changes nothing");
    table.insert_remote([("web", client(1), "s1", 502)]);
    assert_eq!(table.lookup(web, client(1)), Some(Remembered { server: s1, seen: 502 }));
}

#[test]
fn facts_from_the_log_are_not_told_again() {
    let table = ClientTable::new(64);
    table.insert_remote((0..20).map(|n| ("web", client(n), "s1", 5)));
    assert_eq!(table.len(), 20);
    assert_eq!(drain(&table).len(), 0);
}

#[test]
fn a_full_bucket_gives_up_its_oldest_entry() {
    let table = ClientTable::new(SLOTS);
    let (web, s1) = (table.name("web"), table.name("s1"));
    for n in 0..SLOTS as u32 + 3 {
        table.remember(web, client(n), s1, 1_000 + n, 10);
    }
    assert_eq!(table.len(), SLOTS as u64);
    assert_eq!(table.evicted(), 3);
    for n in 0..SLOTS as u32 + 3 {
        assert_eq!(table.lookup(web, client(n)).is_some(), n >= 3);
    }
}

#[test]
fn changes_that_did_not_fit_the_queue_are_found_by_the_sweep() {
    let table = ClientTable::with_queue(200_000, 4);
    let (web, s1) = (table.name("web"), table.name("s1"));
    for n in 0..5_000 {
        table.remember(web, client(n), s1, 9, 10);
    }
    let told = drain(&table);
    let mut clients: Vec<_> = told.iter().map(|entry| entry.client).collect();
    clients.sort();
    assert_eq!(clients, (0..5_000).map(client).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_hundred_thousand_clients_fit_the_default_table() {
    let table = ClientTable::default();
    let (web, s1) = (table.name("web"), table.name("s1"));
    for n in 0..100_000 {
        table.remember(web, client(n), s1, 9, 10);
    }
    // More than one bucket that overflows by one: less than once in 50,000 runs of this test.
    assert!(table.evicted() <= 1, "{} forgotten", table.evicted());
    assert_eq!(table.len() + table.evicted(), 100_000);
}

#[test]
fn concurrent_writers_and_readers_never_mix_two_clients_up() {
    // One bucket, twice as many clients as slots: everything collides all the time.
    let table = ClientTable::with_queue(SLOTS, 64);
    let web = table.name("web");
    let servers: Vec<_> = (0..64).map(|n| table.name(&format!("s{n}"))).collect();
    let stop = AtomicBool::new(false);
    let found = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|writer| {
                let (table, servers) = (&table, &servers);
                scope.spawn(move || {
                    for round in 0..30_000u32 {
                        // Client n is only ever bound to server n.
                        let n = (round.wrapping_mul(2_654_435_761).wrapping_add(writer) >> 7) % 64;
                        table.remember(web, client(n), servers[n as usize], round, 1);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n = (n + 1) % 64;
                    if let Some(known) = table.lookup(web, client(n)) {
                        assert_eq!(known.server, servers[n as usize]);
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for entry in table.changes(16) {
                    let IpAddr::V4(address) = entry.client else { panic!("no IPv6 here") };
                    assert_eq!(*entry.server, format!("s{}", address.to_bits() & 0xff));
                }
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // On a busy machine the readers may not have had a turn yet.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while found.load(Ordering::Relaxed) == 0 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(found.load(Ordering::Relaxed) > 0);
    assert_eq!(table.len(), SLOTS as u64);
}

#[test]
fn all_claims_for_a_client_get_the_same_answer() {
    let table = ClientTable::new(50_000);
    let web = table.name("web");
    let servers: Vec<_> = (0..4).map(|n| table.name(&format!("s{n}"))).collect();
    let answers: Vec<Vec<NameId>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (table, servers) = (&table, &servers);
                scope.spawn(move || {
                    (0..5_000)
                        .map(|n| table.claim(web, client(n), servers[thread], 50, 100))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // A claim that could not get at its bucket is counted and may differ.
    let differing = (0..5_000).filter(|n| answers.iter().any(|answer| answer[*n] != answers[0][*n])).count();
    assert!(differing as u64 <= table.contended(), "{differing} differ");
}

#[derive(Clone, Debug)]
enum Step {
    Remember { client: u32, server: usize, now: u32 },
    Claim { client: u32, server: usize, now: u32 },
    Remote { client: u32, server: usize, seen: u32 },
    Tell,
}

const REFRESH: u32 = 5;
const KEEP: u32 = 40;

fn step() -> impl Strategy<Value = Step> {
    let fact = (0u32..12, 0usize..4, 0u32..200);
    prop_oneof![
        fact.clone().prop_map(|(client, server, now)| Step::Remember { client, server, now }),
        fact.clone().prop_map(|(client, server, now)| Step::Claim { client, server, now }),
        fact.prop_map(|(client, server, seen)| Step::Remote { client, server, seen }),
        Just(Step::Tell),
    ]
}

/// The table in plain words: what is known, and what is yet to be told.
#[derive(Default)]
struct Model {
    known: HashMap<u32, (usize, u32)>,
    untold: HashMap<u32, ()>,
}

impl Model {
    fn local(&mut self, client: u32, server: usize, seen: u32) {
        self.known.insert(client, (server, seen));
        self.untold.insert(client, ());
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Remember { client, server, now } => match self.known.get(&client).copied() {
                Some((known, seen)) if known != server => self.local(client, server, now.max(seen + 1)),
                Some((_, seen)) if now.saturating_sub(seen) < REFRESH => {}
                _ => self.local(client, server, now),
            },
            Step::Claim { client, server, now } => match self.known.get(&client).copied() {
                Some((_, seen)) if now.saturating_sub(seen) <= KEEP => {}
                Some((_, seen)) => self.local(client, server, now.max(seen + 1)),
                None => self.local(client, server, now),
            },
            Step::Remote { client, server, seen } => {
                if self.known.get(&client).is_none_or(|(_, known)| *known <= seen) {
                    self.known.insert(client, (server, seen));
                }
            }
            Step::Tell => {}
        }
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_model(steps in prop::collection::vec(step(), 0..120), queue in 1usize..6) {
        let table = ClientTable::with_queue(SLOTS, queue);
        let web = table.name("web");
        let names: Vec<String> = (0..4).map(|n| format!("s{n}")).collect();
        let servers: Vec<_> = names.iter().map(|name| table.name(name)).collect();
        let mut model = Model::default();
        for step in steps {
            model.apply(&step);
            match step {
                Step::Remember { client: n, server, now } => {
                    table.remember(web, client(n), servers[server], now, REFRESH);
                }
                Step::Claim { client: n, server, now } => {
                    let answer = table.claim(web, client(n), servers[server], now, KEEP);
                    prop_assert_eq!(answer, servers[model.known[&n].0]);
                }
                Step::Remote { client: n, server, seen } => {
                    table.insert_remote([("web", client(n), names[server].as_str(), seen)]);
                }
                Step::Tell => {
                    let told = drain(&table);
                    prop_assert_eq!(told.len(), model.untold.len());
                    for entry in told {
                        let n = (0..12).find(|n| client(*n) == entry.client).unwrap();
                        prop_assert!(model.untold.remove(&n).is_some());
                        prop_assert_eq!((&*entry.server, entry.seen), (names[model.known[&n].0].as_str(), model.known[&n].1));
                    }
                }
            }
        }
        for n in 0..12 {
            let known = table.lookup(web, client(n)).map(|known| (known.server, known.seen));
            prop_assert_eq!(known, model.known.get(&n).map(|(server, seen)| (servers[*server], *seen)));
        }
    }
}

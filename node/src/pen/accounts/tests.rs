use super::*;

fn client(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn addresses(accounts: &Accounts) -> Vec<IpAddr> {
    accounts.all().iter().map(|account| account.address).collect()
}

#[test]
fn a_client_has_one_account_however_often_it_comes() {
    let accounts = Accounts::new(1, 10);
    accounts.opened(0, client(1), 100);
    accounts.closed(0, client(1), Some(2), 30, 4);
    accounts.opened(0, client(2), 101);
    accounts.opened(0, client(1), 102);
    accounts.closed(0, client(1), None, 1, 1);
    let first =
        Account { address: client(1), last_used: 102, server: Some(2), connects: 2, sent: 31, received: 5 };
    assert_eq!(accounts.all()[0], first);
    assert_eq!(addresses(&accounts), [client(1), client(2)]);
}

#[test]
fn a_full_table_gives_the_least_recently_used_slot_to_a_new_client() {
    let accounts = Accounts::new(1, 3);
    for last in 1..=3 {
        accounts.opened(0, client(last), 100);
    }
    accounts.opened(0, client(1), 101);
    accounts.opened(0, client(4), 102);
    assert_eq!(addresses(&accounts), [client(1), client(4), client(3)]);
    // The end of a client that was forgotten meanwhile is nobody's.
    accounts.closed(0, client(2), Some(0), 1000, 1000);
    assert!(accounts.all().iter().all(|account| account.sent == 0));
    accounts.grow(4);
    accounts.grow(2);
    accounts.opened(0, client(5), 103);
    assert_eq!(addresses(&accounts), [client(1), client(4), client(3), client(5)]);
}

#[test]
fn after_the_tracking_time_a_slot_is_free_for_another_client() {
    let accounts = Accounts::new(1, 10);
    accounts.set_tracking(5);
    accounts.opened(0, client(1), 100);
    accounts.opened(0, client(2), 104);
    accounts.opened(0, client(3), 105);
    assert_eq!(
        addresses(&accounts),
        [client(1), client(2), client(3)],
        "five seconds are not more than five"
    );
    accounts.opened(0, client(4), 106);
    assert_eq!(addresses(&accounts), [client(4), client(2), client(3)]);
}

#[test]
fn what_several_workers_know_of_a_client_is_added_up() {
    let accounts = Accounts::new(2, 10);
    accounts.opened(0, client(1), 100);
    accounts.closed(0, client(1), Some(0), 10, 1);
    accounts.opened(1, client(2), 101);
    accounts.opened(1, client(1), 102);
    accounts.closed(1, client(1), Some(1), 20, 2);
    let all = accounts.all();
    assert_eq!(addresses(&accounts), [client(1), client(2)]);
    assert_eq!((all[0].connects, all[0].sent, all[0].received), (2, 30, 3));
    assert_eq!((all[0].last_used, all[0].server), (102, Some(1)));
}

#[test]
fn a_long_table_is_read_whole() {
    let accounts = Accounts::new(1, 1000);
    for last in 0..200 {
        accounts.opened(0, client(last), 0);
    }
    assert_eq!(accounts.all().len(), 200);
}

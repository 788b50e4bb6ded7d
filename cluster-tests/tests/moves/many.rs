//! Thousands of connections that are silent while the address moves, and are all used afterwards.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::{BARS_RUNS, figure, runs};
use cygnet_lab::inside;
use cygnet_lab::pair::{BALANCERS, CLIENT, SERVICE};
use cygnet_netlink::limits;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{drain, nothing_is_left, pair, switch};

/// In the long run, as far as the limit on open files allows: a balancer needs two for each.
const MANY: usize = 20_000;
/// In the short one.
const SOME: usize = 1_000;
/// Clients have so many addresses, from this one on: the ports of one would not do.
const ADDRESSES: (u32, u32) = (0x0a80_0001, 200);
/// Connections that are made, or used, at once.
const AT_ONCE: usize = 100;
/// Within this each is made, and answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the command to the moved address. The list of 20,000 and its rules take a part of it.
const MOVE_MAX: Duration = Duration::from_secs(2);

type Connection = BufReader<TcpStream>;

async fn use_it(connection: &mut Connection) -> Result<()> {
    connection.get_mut().write_all(b"GET\n").await?;
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    ensure!(line.starts_with("backend"), "{line:?}");
    Ok(())
}

async fn open(number: usize) -> Result<Connection> {
    let socket = TcpSocket::new_v4()?;
    let address = Ipv4Addr::from(ADDRESSES.0 + u32::try_from(number)? % ADDRESSES.1);
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((address, 0)))?;
    let mut connection = BufReader::with_capacity(128, socket.connect(SERVICE).await?);
    use_it(&mut connection).await?;
    Ok(connection)
}

/// Does it to each, some at once; those that went well, and the first failure.
async fn each<I, F>(inputs: Vec<I>, work: impl Fn(I) -> F) -> (Vec<Connection>, Option<String>)
where
    F: Future<Output = Result<Connection>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for input in inputs {
        let (places, work) = (Arc::clone(&places), work(input));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await?;
            tokio::time::timeout(PATIENCE, work).await?
        });
    }
    let (mut well, mut failure) = (Vec::new(), None);
    for done in tasks.join_all().await {
        match done {
            Ok(connection) => well.push(connection),
            Err(error) => failure = failure.or(Some(format!("{error:#}"))),
        }
    }
    (well, failure)
}

#[test]
fn connections_by_the_thousand_are_all_there_after_a_move() -> Result<()> {
    enter::lab(|| {
        limits::raise_open_files()?;
        let fit = usize::try_from(limits::open_files()?.soft)?.saturating_sub(2000) / 2;
        let count = if runs() >= BARS_RUNS { MANY.min(fit) } else { SOME };
        let all = pair()?;
        let clients = inside::runtime(CLIENT)?;
        let opening = clients.spawn(each((0..count).collect(), open));
        let (connections, failure) = clients.block_on(opening)?;
        ensure!(connections.len() == count, "{} of {count} were made: {failure:?}", connections.len());
        let begin = Instant::now();
        switch(&all, "lb1", "lb2")?;
        let took = begin.elapsed();
        all.holder_is("lb2")?;
        let left = drain(&all, "lb1")?.map(|drain| drain["left"].clone());
        ensure!(left == Some(count.into()), "{left:?} connections go on, not {count}");
        let begin = Instant::now();
        let again = |mut connection: Connection| async move {
            use_it(&mut connection).await?;
            Ok(connection)
        };
        let used = clients.spawn(each(connections, again));
        let (used, failure) = clients.block_on(used)?;
        let lost = count - used.len();
        let what = format!("{count} idle connections, one move, all used afterwards");
        figure(
            &what,
            &format!("{lost} lost, the command took {took:.0?}, their use {:.0?}", begin.elapsed()),
        );
        ensure!(lost == 0, "{lost} of {count} are lost: {failure:?}");
        ensure!(took < MOVE_MAX, "the move took {took:?}");
        let _guard = clients.enter();
        drop(used);
        BALANCERS.iter().try_for_each(|node| nothing_is_left(node))
    })
}
